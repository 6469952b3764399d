import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** Kafka's own Java client, answering JSON lines (tests/clients/programs/__init__.py draws them). */
public final class Client {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long TIMEOUT_S = 60;

    private final String bootstrap;
    private final Admin admin;
    private final Map<String, Member> members = new ConcurrentHashMap<>();
    private final Map<String, KafkaProducer<byte[], byte[]>> producers = new ConcurrentHashMap<>();
    private final Map<String, Transactor> transactors = new ConcurrentHashMap<>();

    private Client(String bootstrap) {
        this.bootstrap = bootstrap;
        this.admin = Admin.create(settings(Map.of()));
    }

    public static void main(String[] arguments) throws Exception {
        Client client = new Client(arguments[0]);
        say(Map.of("ready", AppInfoParser.getVersion()));
        ExecutorService pool = Executors.newCachedThreadPool();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            JsonNode request = JSON.readTree(line);
            pool.submit(() -> client.answer(request));
        }
        Runtime.getRuntime().halt(0); // nobody listens any more: what is under way need not end
    }

    private static synchronized void say(Map<String, ?> message) {
        try {
            System.out.println(JSON.writeValueAsString(message));
            System.out.flush();
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    private void answer(JsonNode request) {
        Map<String, Object> reply = new LinkedHashMap<>();
        reply.put("id", request.get("id").asInt());
        try {
            reply.put("result", perform(request.get("op").asText(), request));
        } catch (Throwable error) {
            reply.put("error", told(error));
        }
        say(reply);
    }

    private static Map<String, Object> told(Throwable error) {
        Throwable cause = error;
        while ((cause instanceof ExecutionException || cause.getClass() == org.apache.kafka.common.KafkaException.class)
                && cause.getCause() != null) {
            cause = cause.getCause();
        }
        Map<String, Object> found = new HashMap<>();
        short code = Errors.forException(cause).code();
        found.put("code", cause instanceof ApiException && code != -1 ? (Object) code : null);
        found.put("text", cause.toString());
        return found;
    }

    private Object perform(String op, JsonNode ask) throws Exception {
        switch (op) {
            case "produce": return produce(ask);
            case "flow": return flow(ask);
            case "read": return read(ask);
            case "offset": return offset(ask);
            case "join": members.put(text(ask, "member"), new Member(ask)); return null;
            case "commit": members.get(text(ask, "member")).order(consumer -> commit(consumer, text(ask, "metadata"))); return null;
            case "seek":
                members.get(text(ask, "member")).order(consumer -> consumer.seek(place(ask), ask.get("offset").asLong()));
                return null;
            case "leave": members.remove(text(ask, "member")).leave(); return null;
            case "transactor": transactors.put(text(ask, "transactor"), new Transactor(text(ask, "transactional_id"))); return null;
            case "transact": return transactors.get(text(ask, "transactor")).transact(ask);
            case "read_committed": return readCommitted(ask);
            case "topics": return topics();
            case "create_topic": return createTopic(ask);
            case "delete_topic": return done(admin.deleteTopics(List.of(text(ask, "name"))).all());
            case "grow_topic":
                return done(admin.createPartitions(Map.of(text(ask, "name"), NewPartitions.increaseTo(ask.get("partitions").asInt()))).all());
            case "configs": return configs(ask);
            case "set_config": return setConfig(ask);
            case "cluster": return cluster();
            case "delete_records":
                return got(admin.deleteRecords(Map.of(place(ask), RecordsToDelete.beforeOffset(ask.get("before").asLong())))
                        .lowWatermarks().get(place(ask))).lowWatermark();
            case "groups": return got(admin.listGroups().all()).stream().map(GroupListing::groupId).toList();
            case "group": return group(text(ask, "group"));
            case "group_offsets": return groupOffsets(text(ask, "group"));
            case "set_group_offset":
                return done(admin.alterConsumerGroupOffsets(text(ask, "group"),
                        Map.of(place(ask), new OffsetAndMetadata(ask.get("offset").asLong()))).all());
            case "forget_group_offset": return done(admin.deleteConsumerGroupOffsets(text(ask, "group"), Set.of(place(ask))).all());
            case "delete_group": return done(admin.deleteConsumerGroups(List.of(text(ask, "group"))).all());
            case "reassign": return reassign(ask);
            case "replicas": return replicas(ask);
            case "elect_leader": return elect(ask);
            default: throw new IllegalArgumentException("no operation " + op);
        }
    }

    // --- producing

    private Object produce(JsonNode ask) throws Exception {
        JsonNode compression = ask.get("compression");
        String acks = ask.has("acks") ? ask.get("acks").asText() : "all";
        String codec = compression == null || compression.isNull() ? "none" : compression.asText();
        int most = ask.has("record_bytes_max") ? ask.get("record_bytes_max").asInt() : 1_000_000;
        KafkaProducer<byte[], byte[]> producer = producers.computeIfAbsent(acks + codec + most, key -> producer(acks, codec, most));
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode record : ask.get("records")) {
            List<Header> headers = new ArrayList<>();
            for (JsonNode header : record.get("headers")) {
                headers.add(new RecordHeader(header.get(0).asText(), bytes(header.get(1))));
            }
            Long time = record.get("timestamp").isNull() ? null : record.get("timestamp").asLong();
            sent.add(producer.send(new ProducerRecord<>(
                    text(ask, "topic"), record.get("partition").asInt(), time, bytes(record.get("key")), bytes(record.get("value")), headers)));
        }
        producer.flush();
        return places(sent);
    }

    private KafkaProducer<byte[], byte[]> producer(String acks, String codec, int most) {
        return new KafkaProducer<>(settings(Map.of(
                "acks", acks, "compression.type", codec, "max.request.size", most, "linger.ms", 20,
                "enable.idempotence", acks.equals("all"), "key.serializer", ByteArraySerializer.class,
                "value.serializer", ByteArraySerializer.class)));
    }

    private static List<List<Long>> places(List<Future<RecordMetadata>> sent) throws Exception {
        List<List<Long>> found = new ArrayList<>();
        for (Future<RecordMetadata> future : sent) {
            RecordMetadata metadata = got(future);
            found.add(List.of((long) metadata.partition(), metadata.hasOffset() ? metadata.offset() : -1L));
        }
        return found;
    }

    private Object flow(JsonNode ask) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer("all", "none", 1_000_000)) {
            for (int number = 0; number < ask.get("count").asInt(); number++) {
                byte[] value = Integer.toString(number).getBytes(StandardCharsets.UTF_8);
                sent.add(producer.send(new ProducerRecord<>(text(ask, "topic"), number % ask.get("partitions").asInt(), null, value)));
                Thread.sleep(ask.get("pause_ms").asInt());
            }
            return places(sent);
        }
    }

    // --- reading

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> extra) {
        Map<String, Object> all = new HashMap<>(extra);
        all.putAll(Map.of("enable.auto.commit", false, "auto.offset.reset", "earliest", "max.partition.fetch.bytes", 10_000_000,
                "key.deserializer", ByteArrayDeserializer.class, "value.deserializer", ByteArrayDeserializer.class));
        return new KafkaConsumer<>(settings(all));
    }

    private Object read(JsonNode ask) {
        List<List<Map<String, Object>>> found = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of())) {
            consumer.assign(List.of(place(ask)));
            for (JsonNode step : ask.get("steps")) {
                seek(consumer, place(ask), step.get(0));
                found.add(records(consumer, step.get(1).asInt()));
            }
        }
        return found;
    }

    private static void seek(KafkaConsumer<byte[], byte[]> consumer, TopicPartition place, JsonNode start) {
        if (start.isNumber()) {
            consumer.seek(place, start.asLong());
        } else if (start.asText().equals("beginning")) {
            consumer.seekToBeginning(List.of(place));
        } else {
            consumer.seekToEnd(List.of(place));
            consumer.position(place); // seeking to the end is lazy
        }
    }

    private static List<Map<String, Object>> records(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<Map<String, Object>> found = new ArrayList<>();
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(TIMEOUT_S);
        while (found.size() < count && System.nanoTime() < deadline) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                found.add(told(record));
            }
        }
        return found.subList(0, Math.min(count, found.size()));
    }

    private static Map<String, Object> told(ConsumerRecord<byte[], byte[]> record) {
        List<List<String>> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            headers.add(List.of(header.key(), base64(header.value())));
        }
        Map<String, Object> found = new HashMap<>();
        found.put("partition", record.partition());
        found.put("offset", record.offset());
        found.put("timestamp", record.timestamp());
        found.put("key", base64(record.key()));
        found.put("value", base64(record.value()));
        found.put("headers", headers);
        return found;
    }

    private Object offset(JsonNode ask) throws Exception {
        JsonNode at = ask.get("at");
        OffsetSpec spec = at.isNumber() ? OffsetSpec.forTimestamp(at.asLong())
                : at.asText().equals("earliest") ? OffsetSpec.earliest() : OffsetSpec.latest();
        long found = got(admin.listOffsets(Map.of(place(ask), spec)).partitionResult(place(ask))).offset();
        return found < 0 ? null : found;
    }

    // --- groups

    private interface Order {
        void perform(KafkaConsumer<byte[], byte[]> consumer) throws Exception;
    }

    private static void commit(KafkaConsumer<byte[], byte[]> consumer, String metadata) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (TopicPartition place : consumer.assignment()) {
            offsets.put(place, new OffsetAndMetadata(consumer.position(place), metadata));
        }
        consumer.commitSync(offsets);
    }

    /** Polls until it leaves; commits and seeks between two polls, because a consumer belongs to one thread. */
    private final class Member {
        private final BlockingQueue<Runnable> orders = new LinkedBlockingQueue<>();
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final String name;
        private final Thread thread;
        private volatile boolean left;

        Member(JsonNode ask) {
            name = text(ask, "member");
            Map<String, Object> how = new HashMap<>(Map.of("group.id", text(ask, "group"), "metadata.max.age.ms", 1000));
            String assignor = ask.hasNonNull("assignor") ? text(ask, "assignor") : null;
            if (text(ask, "protocol").equals("consumer")) {
                how.put("group.protocol", "consumer");
                if (assignor != null) {
                    how.put("group.remote.assignor", assignor);
                }
            } else {
                how.put("group.protocol", "classic");
                how.put("session.timeout.ms", ask.has("session_ms") ? ask.get("session_ms").asInt() : 6000);
                how.put("heartbeat.interval.ms", 300);
                String kind = "cooperative-sticky".equals(assignor) ? "CooperativeSticky" : "Range";
                how.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + kind + "Assignor");
            }
            if (ask.hasNonNull("instance")) {
                how.put("group.instance.id", text(ask, "instance"));
            }
            consumer = consumer(how);
            List<String> topics = new ArrayList<>();
            ask.get("topics").forEach(topic -> topics.add(topic.asText()));
            consumer.subscribe(topics);
            thread = new Thread(this::run);
            thread.setDaemon(true);
            thread.start();
        }

        void order(Order action) throws Exception {
            CompletableFuture<Void> done = new CompletableFuture<>();
            orders.add(() -> {
                try {
                    action.perform(consumer);
                    done.complete(null);
                } catch (Throwable error) {
                    done.completeExceptionally(error);
                }
            });
            done.get(TIMEOUT_S, TimeUnit.SECONDS);
        }

        void leave() throws InterruptedException {
            left = true;
            thread.join(TimeUnit.SECONDS.toMillis(TIMEOUT_S));
        }

        private void run() {
            try (consumer) {
                List<List<Object>> had = null;
                while (!left) {
                    List<Map<String, Object>> records = new ArrayList<>();
                    consumer.poll(Duration.ofMillis(100)).forEach(record -> records.add(told(record)));
                    List<List<Object>> has = assigned(consumer.assignment());
                    if (!has.equals(had)) {
                        say(Map.of("member", name, "event", "assigned", "partitions", has));
                        had = has;
                    }
                    if (!records.isEmpty()) {
                        say(Map.of("member", name, "event", "records", "records", records));
                    }
                    for (Runnable order = orders.poll(); order != null; order = orders.poll()) {
                        order.run();
                    }
                }
            } catch (Throwable error) {
                say(Map.of("member", name, "event", "error", "text", error.toString()));
            }
        }

        private static List<List<Object>> assigned(Set<TopicPartition> places) {
            Set<TopicPartition> sorted = new TreeSet<>(Comparator.comparing(TopicPartition::toString));
            sorted.addAll(places);
            return sorted.stream().map(place -> List.<Object>of(place.topic(), place.partition())).toList();
        }
    }

    // --- transactions

    private final class Transactor {
        private final KafkaProducer<byte[], byte[]> producer;
        private boolean begun;

        Transactor(String id) {
            producer = new KafkaProducer<>(settings(Map.of("transactional.id", id,
                    "key.serializer", ByteArraySerializer.class, "value.serializer", ByteArraySerializer.class)));
            producer.initTransactions();
        }

        Object transact(JsonNode ask) throws Exception {
            if (!begun) {
                producer.beginTransaction();
                begun = true;
            }
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (JsonNode record : ask.get("records")) {
                int partition = record.get("partition").asInt();
                sent.add(producer.send(new ProducerRecord<>(text(ask, "topic"), partition, null, bytes(record.get("value")))));
            }
            producer.flush();
            places(sent);
            JsonNode offset = ask.get("offset");
            if (!offset.isNull()) {
                TopicPartition place = new TopicPartition(offset.get(1).asText(), offset.get(2).asInt());
                Map<TopicPartition, OffsetAndMetadata> offsets = Map.of(place, new OffsetAndMetadata(offset.get(3).asLong()));
                producer.sendOffsetsToTransaction(offsets, new ConsumerGroupMetadata(offset.get(0).asText()));
            }
            if (ask.hasNonNull("end")) {
                begun = false;
                if (text(ask, "end").equals("commit")) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
            return null;
        }
    }

    private Object readCommitted(JsonNode ask) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(Map.of("isolation.level", "read_committed"))) {
            consumer.assign(List.of(place(ask)));
            return records(consumer, ask.get("count").asInt()).stream().map(record -> record.get("value")).toList();
        }
    }

    // --- administration

    private Object topics() throws Exception {
        Map<String, Integer> found = new HashMap<>();
        Set<String> names = got(admin.listTopics().names());
        for (Map.Entry<String, org.apache.kafka.common.KafkaFuture<TopicDescription>> topic
                : admin.describeTopics(names).topicNameValues().entrySet()) {
            try {
                found.put(topic.getKey(), got(topic.getValue()).partitions().size());
            } catch (ExecutionException deletedMeanwhile) {
                continue;
            }
        }
        return found;
    }

    private Object createTopic(JsonNode ask) throws Exception {
        Map<String, String> configs = new HashMap<>();
        ask.get("configs").properties().forEach(entry -> configs.put(entry.getKey(), entry.getValue().asText()));
        NewTopic topic = new NewTopic(
                text(ask, "name"), Optional.of(ask.get("partitions").asInt()), Optional.of((short) ask.get("replicas").asInt()));
        return done(admin.createTopics(List.of(topic.configs(configs))).all());
    }

    private static ConfigResource resource(JsonNode ask) {
        return new ConfigResource(ConfigResource.Type.valueOf(text(ask, "type").toUpperCase()), text(ask, "name"));
    }

    private Object configs(JsonNode ask) throws Exception {
        Map<String, String> found = new HashMap<>();
        got(admin.describeConfigs(List.of(resource(ask))).all()).get(resource(ask)).entries()
                .forEach(entry -> found.put(entry.name(), entry.value()));
        return found;
    }

    private Object setConfig(JsonNode ask) throws Exception {
        AlterConfigOp change = new AlterConfigOp(new ConfigEntry(text(ask, "key"), text(ask, "value")), AlterConfigOp.OpType.SET);
        return done(admin.incrementalAlterConfigs(Map.of(resource(ask), List.of(change))).all());
    }

    private Object cluster() throws Exception {
        var found = admin.describeCluster();
        Map<String, String> brokers = new HashMap<>();
        for (Node node : got(found.nodes())) {
            brokers.put(node.idString(), node.host() + ":" + node.port());
        }
        return List.of(got(found.clusterId()), brokers, got(found.controller()).id());
    }

    private Object group(String group) throws Exception {
        var found = got(admin.describeConsumerGroups(List.of(group)).all()).get(group);
        return List.of(found.groupState().toString().toLowerCase(), found.members().size());
    }

    private Object groupOffsets(String group) throws Exception {
        List<List<Object>> found = new ArrayList<>();
        got(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).forEach(
                (place, held) -> found.add(List.of(place.topic(), place.partition(), held.offset(), held.metadata())));
        return found;
    }

    private Object reassign(JsonNode ask) throws Exception {
        List<Integer> replicas = new ArrayList<>();
        ask.get("replicas").forEach(replica -> replicas.add(replica.asInt()));
        return done(admin.alterPartitionReassignments(Map.of(place(ask), Optional.of(new NewPartitionReassignment(replicas)))).all());
    }

    private Object replicas(JsonNode ask) throws Exception {
        String topic = text(ask, "topic");
        TopicPartitionInfo found = got(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic)
                .partitions().get(ask.get("partition").asInt());
        return List.of(ids(found.replicas()), ids(found.isr()), found.leader() == null ? -1 : found.leader().id());
    }

    private static List<Integer> ids(Collection<Node> nodes) {
        return nodes.stream().map(Node::id).toList();
    }

    private Object elect(JsonNode ask) throws Exception {
        Optional<Throwable> error = got(admin.electLeaders(ElectionType.PREFERRED, Set.of(place(ask))).partitions()).get(place(ask));
        if (error.isPresent()) {
            throw new ExecutionException(error.get());
        }
        return null;
    }

    // --- small things

    private Map<String, Object> settings(Map<String, Object> extra) {
        Map<String, Object> all = new HashMap<>(extra);
        all.put("bootstrap.servers", bootstrap);
        return all;
    }

    private static <T> T got(Future<T> future) throws Exception {
        return future.get(TIMEOUT_S, TimeUnit.SECONDS);
    }

    private static Object done(Future<?> future) throws Exception {
        got(future);
        return null;
    }

    private static TopicPartition place(JsonNode ask) {
        return new TopicPartition(text(ask, "topic"), ask.get("partition").asInt());
    }

    private static String text(JsonNode ask, String name) {
        return ask.get(name).asText();
    }

    private static byte[] bytes(JsonNode text) {
        return text == null || text.isNull() ? null : Base64.getDecoder().decode(text.asText());
    }

    private static String base64(byte[] value) {
        return value == null ? null : Base64.getEncoder().encodeToString(value);
    }
}
