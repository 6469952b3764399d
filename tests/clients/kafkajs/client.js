// kafkajs, answering JSON lines (tests/clients/programs/__init__.py draws them): node client.js NODE_MODULES BOOTSTRAP
'use strict'
const path = require('path')
const readline = require('readline')
const { randomUUID } = require('crypto')

const [modules, bootstrap] = process.argv.slice(2)
const load = (name) => require(path.join(modules, name))
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = load('kafkajs')
CompressionCodecs[CompressionTypes.Snappy] = load('kafkajs-snappy')
const lz4 = load('lz4js')
const xxh32 = load('lz4js/xxh32.js').hash
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => independent(Buffer.from(lz4.compress(encoder.buffer))),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
})
const zstd = new Promise((resolve) => load('zstd-codec').ZstdCodec.run((codec) => resolve(new codec.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from((await zstd).decompress(buffer)),
})

// Kafka reads only frames that say that their blocks do not depend on each other; lz4js never says so, true as it is of a single one.
function independent(frame) {
  frame[4] |= 0x20
  frame[6] = (xxh32(0, frame, 4, 2) >> 8) & 0xff
  return frame
}

const kafka = new Kafka({
  brokers: bootstrap.split(','),
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 100, retries: 12, maxRetryTime: 1000 },
})
const CODECS = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' }
const STEP_TIMEOUT_MS = 100_000

class Unsupported extends Error {}
class Refused extends Error {
  constructor(code, text) {
    super(text)
    this.code = code
  }
}

const say = (message) => process.stdout.write(JSON.stringify(message) + '\n')
const bytes = (text) => (text === null || text === undefined ? null : Buffer.from(text, 'base64'))
const base64 = (value) => (value === null || value === undefined ? null : Buffer.from(value).toString('base64'))
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

function recordOf(partition, message) {
  const headers = Object.entries(message.headers || {}).flatMap(([name, values]) =>
    [].concat(values).map((value) => [name, base64(value)]))
  const { key, value } = message
  const [offset, timestamp] = [Number(message.offset), Number(message.timestamp)]
  return { partition, offset, timestamp, key: base64(key), value: base64(value), headers }
}

function messageOf(record) {
  const headers = Object.fromEntries(record.headers.map(([name, value]) => [name, bytes(value)]))
  const timestamp = record.timestamp === null ? undefined : String(record.timestamp)
  return { key: bytes(record.key), value: bytes(record.value), headers, timestamp, partition: record.partition }
}

// Kafka's number, wherever the library has put it.
function codeOf(error) {
  if (!error) return null
  if (error.name === 'KafkaJSAggregateError') return codeOf(error.errors[0])
  if (error.name === 'KafkaJSDeleteGroupsError') return error.groups[0].errorCode
  if (/must have no running instances/.test(error.message)) return 25 // the library looks by itself before it asks
  if (typeof error.code === 'number') return error.code
  return codeOf(error.originalError || error.cause)
}

const once = (make) => {
  let made
  return () => (made = made || make())
}
const connected = async (client) => {
  await client.connect()
  return client
}
const admin = once(() => connected(kafka.admin()))
const idempotent = once(() => connected(kafka.producer({ idempotent: true, maxInFlightRequests: 1 })))
const plain = once(() => connected(kafka.producer()))

async function send(producer, topic, messages, how) {
  const told = await producer.send({ topic, messages, ...how })
  const next = Object.fromEntries((told || []).map((place) => [place.partition, Number(place.baseOffset)]))
  return messages.map(({ partition }) => [partition, how.acks === 0 || !(partition in next) ? -1 : next[partition]++])
}

// A consumer in a group.
class Member {
  constructor({ member, group, topics, session_ms: session }) {
    this.name = member
    this.positions = new Map()
    this.consumer = kafka.consumer({
      groupId: group,
      sessionTimeout: session || 6000,
      heartbeatInterval: 300,
      rebalanceTimeout: 10_000,
      maxWaitTimeInMs: 100,
      metadataMaxAge: 1000,
    })
    const { GROUP_JOIN, CRASH } = this.consumer.events
    this.consumer.on(GROUP_JOIN, ({ payload }) => this.assigned(payload.memberAssignment))
    this.consumer.on(CRASH, ({ payload }) => payload.restart || this.tell({ event: 'error', text: String(payload.error) }))
    this.started = this.start(topics)
    this.started.catch((error) => this.tell({ event: 'error', text: String(error) }))
  }

  tell(event) {
    say({ member: this.name, ...event })
  }

  assigned(topics) {
    const partitions = Object.entries(topics).flatMap(([topic, numbers]) => numbers.map((number) => [topic, number]))
    this.positions.clear() // what others own now is theirs to commit
    this.tell({ event: 'assigned', partitions })
  }

  async start(topics) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics, fromBeginning: true })
    await this.consumer.run({ autoCommit: false, eachBatch: (batch) => this.batch(batch) })
  }

  async batch({ batch: { topic, partition, messages }, isStale }) {
    if (isStale() || !messages.length) return
    this.positions.set(`${topic} ${partition}`, Number(messages[messages.length - 1].offset) + 1)
    this.tell({ event: 'records', records: messages.map((message) => recordOf(partition, message)) })
  }

  async commit(metadata) {
    const offsets = [...this.positions].map(([place, offset]) => {
      const [topic, partition] = place.split(' ')
      return { topic, partition: Number(partition), offset: String(offset), metadata }
    })
    const deadline = Date.now() + STEP_TIMEOUT_MS
    while (offsets.length) {
      try {
        return await this.consumer.commitOffsets(offsets)
      } catch (error) {
        // It goes on asking a coordinator that is dead until it finds out by a heartbeat; then it calls that a crash and starts the
        // consumer again by itself, and until that is done it has no group to commit to.
        if (!/must be called first|not found in the cached/.test(error.message) || Date.now() > deadline) throw error
        await sleep(100)
      }
    }
  }

  async leave() {
    await this.started.catch(() => {})
    await this.consumer.disconnect()
  }
}

// One partition, as the only member of a group of its own, which seeks: the library has no other way to read.
class Reader {
  constructor(topic, partition, passesHoles = false) {
    this.passesHoles = passesHoles // where transactions end or were aborted
    this.place = { topic, partition }
    this.found = null
    this.consumer = kafka.consumer({
      groupId: `reader-${randomUUID()}`,
      sessionTimeout: 6000, // after a crash it joins anew, and waits for its former self
      rebalanceTimeout: 6000,
      heartbeatInterval: 300,
      maxWaitTimeInMs: 100,
      maxBytesPerPartition: 10_000_000,
    })
  }

  async read(steps) {
    const joined = new Promise((resolve) => this.consumer.on(this.consumer.events.GROUP_JOIN, resolve))
    await this.consumer.connect()
    try {
      await this.consumer.subscribe({ topics: [this.place.topic], fromBeginning: true })
      await this.consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch: (batch) => this.batch(batch) })
      await joined
      const results = []
      for (const [start, count] of steps) results.push(await this.step(start, count))
      return results
    } finally {
      await this.consumer.disconnect()
    }
  }

  async step(start, count) {
    const ends = start === 'end' || start === 'beginning' ? await offsetsOf(this.place) : null
    this.from = Number(ends ? (start === 'end' ? ends.high : ends.low) : start)
    this.found = []
    this.consumer.seek({ ...this.place, offset: String(this.from) })
    const deadline = Date.now() + STEP_TIMEOUT_MS
    while (this.found.length < count && Date.now() < deadline) await sleep(20)
    const found = this.found.slice(0, count)
    this.found = null
    return found
  }

  async batch({ batch: { partition, messages }, resolveOffset, isStale }) {
    for (const message of messages) {
      if (isStale()) return
      const wanted = this.found && partition === this.place.partition
      const isNext = wanted && (this.passesHoles || Number(message.offset) === this.from + this.found.length)
      if (isNext) this.found.push(recordOf(partition, message))
      resolveOffset(message.offset)
    }
  }
}

async function offsetsOf({ topic, partition }) {
  return (await (await admin()).fetchTopicOffsets(topic)).find((place) => place.partition === partition)
}

// A transactional producer; the library hands out an object for each transaction.
class Transactor {
  constructor(id) {
    this.producer = kafka.producer({ transactionalId: id, idempotent: true, maxInFlightRequests: 1 })
    this.transaction = null
  }

  async transact({ topic, records, offset, end }) {
    this.transaction = this.transaction || (await this.producer.transaction())
    if (records.length) await this.transaction.send({ topic, messages: records.map(messageOf), acks: -1 })
    if (offset) {
      const [consumerGroupId, name, partition, position] = offset
      const topics = [{ topic: name, partitions: [{ partition, offset: String(position) }] }]
      await this.transaction.sendOffsets({ consumerGroupId, topics })
    }
    if (!end) return
    const transaction = this.transaction
    this.transaction = null
    await (end === 'commit' ? transaction.commit() : transaction.abort())
  }
}

const transactors = new Map()
const members = new Map()
const resource = ({ type, name }) => {
  if (type === 'group') throw new Unsupported('kafkajs has no configs of a group')
  return { type: type === 'topic' ? ConfigResourceTypes.TOPIC : ConfigResourceTypes.BROKER, name }
}

const OPERATIONS = {
  async produce({ topic, records, acks, compression }) {
    const codec = CompressionTypes[CODECS[compression || 'none']]
    const how = { acks: acks === undefined || acks === 'all' ? -1 : acks, compression: codec }
    return send(how.acks === -1 ? await idempotent() : await plain(), topic, records.map(messageOf), how)
  },
  async flow({ topic, partitions, count, pause_ms: pause }) {
    const producer = await connected(kafka.producer({ idempotent: true, maxInFlightRequests: 1 }))
    const places = []
    // One at a time: of two sends under way, the library gives the second the sequence number of the first when that one fails.
    for (let number = 0; number < count; number++) {
      places.push(...(await send(producer, topic, [{ value: String(number), partition: number % partitions }], { acks: -1 })))
      await sleep(pause)
    }
    await producer.disconnect()
    return places
  },
  read: ({ topic, partition, steps }) => new Reader(topic, partition).read(steps),
  async offset({ topic, partition, at }) {
    if (typeof at === 'string') return Number((await offsetsOf({ topic, partition }))[at === 'earliest' ? 'low' : 'high'])
    const found = await (await admin()).fetchTopicOffsetsByTimestamp(topic, at)
    return Number(found.find((place) => place.partition === partition).offset)
  },
  async join(ask) {
    if (ask.protocol !== 'classic') throw new Unsupported('kafkajs knows only the classic protocol')
    if (ask.assignor === 'cooperative-sticky') throw new Unsupported('kafkajs has no cooperative assignor')
    if (ask.instance) throw new Unsupported('kafkajs has no static members')
    members.set(ask.member, new Member(ask))
    return null
  },
  commit: ({ member, metadata }) => members.get(member).commit(metadata),
  seek: ({ member, topic, partition, offset }) =>
    members.get(member).consumer.seek({ topic, partition, offset: String(offset) }),
  async leave({ member }) {
    await members.get(member).leave()
    members.delete(member)
  },
  async transactor({ transactor, transactional_id: id }) {
    const made = new Transactor(id)
    await made.producer.connect()
    transactors.set(transactor, made)
  },
  transact: (ask) => transactors.get(ask.transactor).transact(ask),
  async read_committed({ topic, partition, count }) {
    const [found] = await new Reader(topic, partition, true).read([[0, count]]) // committed records only, by default
    return found.map(({ value }) => value)
  },
  async topics() {
    const { topics } = await (await admin()).fetchTopicMetadata()
    return Object.fromEntries(topics.map(({ name, partitions }) => [name, partitions.length]))
  },
  async create_topic({ name, partitions, replicas, configs }) {
    const configEntries = Object.entries(configs).map(([key, value]) => ({ name: key, value }))
    const topic = { topic: name, numPartitions: partitions, replicationFactor: replicas, configEntries }
    if (!(await (await admin()).createTopics({ topics: [topic] }))) throw new Refused(36, 'createTopics said false')
  },
  delete_topic: async ({ name }) => (await admin()).deleteTopics({ topics: [name] }),
  grow_topic: async ({ name, partitions }) =>
    (await admin()).createPartitions({ topicPartitions: [{ topic: name, count: partitions }] }),
  async configs(ask) {
    const { resources } = await (await admin()).describeConfigs({ resources: [resource(ask)], includeSynonyms: false })
    const [{ configEntries }] = resources
    return Object.fromEntries(configEntries.map(({ configName, configValue }) => [configName, configValue]))
  },
  async set_config(ask) {
    const configEntries = [{ name: ask.key, value: ask.value }]
    await (await admin()).alterConfigs({ validateOnly: false, resources: [{ ...resource(ask), configEntries }] })
  },
  async cluster() {
    const { brokers, controller, clusterId } = await (await admin()).describeCluster()
    return [clusterId, Object.fromEntries(brokers.map(({ nodeId, host, port }) => [nodeId, `${host}:${port}`])), controller]
  },
  async delete_records({ topic, partition, before }) {
    await offsetsOf({ topic, partition }) // it deletes only from topics that it has met
    await (await admin()).deleteTopicRecords({ topic, partitions: [{ partition, offset: String(before) }] })
    return before // the library does not tell what the cluster says
  },
  groups: async () => (await (await admin()).listGroups()).groups.map(({ groupId }) => groupId),
  async group({ group }) {
    const [{ state, members: all }] = (await (await admin()).describeGroups([group])).groups
    return [state.toLowerCase(), all.length]
  },
  async group_offsets({ group }) {
    const topics = await (await admin()).fetchOffsets({ groupId: group })
    return topics.flatMap(({ topic, partitions }) =>
      partitions.map(({ partition, offset, metadata }) => [topic, partition, Number(offset), metadata]))
  },
  set_group_offset: async ({ group, topic, partition, offset }) =>
    (await admin()).setOffsets({ groupId: group, topic, partitions: [{ partition, offset: String(offset) }] }),
  delete_group: async ({ group }) => void (await (await admin()).deleteGroups([group])),
  reassign: async ({ topic, partition, replicas }) =>
    (await admin()).alterPartitionReassignments({ topics: [{ topic, partitionAssignment: [{ partition, replicas }] }] }),
  async replicas({ topic, partition }) {
    const { topics } = await (await admin()).fetchTopicMetadata({ topics: [topic] })
    const place = topics[0].partitions.find(({ partitionId }) => partitionId === partition)
    return [place.replicas, place.isr, place.leader]
  },
}

async function answer({ id, op, ...ask }) {
  try {
    if (!(op in OPERATIONS)) throw new Unsupported(`kafkajs has nothing for ${op}`)
    const result = await OPERATIONS[op](ask)
    say({ id, result: result === undefined ? null : result })
  } catch (error) {
    if (error instanceof Unsupported) say({ id, unsupported: error.message })
    else say({ id, error: { code: codeOf(error), text: `${error.name}: ${error.message}` } })
  }
}

say({ ready: load('kafkajs/package.json').version })
readline.createInterface({ input: process.stdin }).on('line', (line) => answer(JSON.parse(line))).on('close', () => process.exit(0))
