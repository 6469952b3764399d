"""One small program a client. It is started with the bootstrap servers, and speaks JSON lines on its standard input and output.

    it says first      {"ready": "2.16.1"}                                    the client's version
    it is asked        {"id": 7, "op": "produce", "topic": "t", ...}          many at a time; it ends with its input
    it answers         {"id": 7, "result": [[0, 12]]}
                       {"id": 7, "error": {"code": 10, "text": "..."}}        Kafka's number, or null
                       {"id": 7, "unsupported": "no static members"}          by the client, whatever the cluster can
    members tell       {"member": "a", "event": "assigned", "partitions": [["t", 0]]}         all that it has now
                       {"member": "a", "event": "records", "records": [{...}]}

Bytes are base64. A record is {"partition", "offset", "timestamp", "key", "value",
"headers": [[name, bytes]]}; key and value may be null.

    op                   arguments                                                      result
    produce              topic records acks compression record_bytes_max                [[partition, offset]], -1 unknown
    flow                 topic partitions count pause_ms                                [[partition, offset]]
    read                 topic partition steps=[[offset | "beginning" | "end", count]]  records of each step, by seeking
    offset               topic partition at="earliest" | "latest" | timestamp           offset, null if there is none
    join                 member group topics protocol assignor instance session_ms      null, and events from then on
    commit               member metadata                                                null
    seek                 member topic partition offset                                  null
    leave                member                                                         null
    transactor           transactor transactional_id                                    null; whoever had the id is shut out
    transact             transactor topic records offset end="commit" | "abort" | null  null
    read_committed       topic partition count                                          [value], of the first so many
    topics                                                                              {name: partitions}
    create_topic         name partitions replicas configs                               null
    delete_topic         name                                                           null
    grow_topic           name partitions                                                null
    configs              type=topic | broker | group name                               {name: value}
    set_config           type name key value                                            null
    cluster                                                                             [id, {broker: address}, controller]
    delete_records       topic partition before                                         low watermark
    groups                                                                              [group]
    group                group                                                          [state, members]
    group_offsets        group                                                          [[topic, partition, offset, metadata]]
    set_group_offset     group topic partition offset                                   null
    forget_group_offset  group topic partition                                          null
    delete_group         group                                                          null
    reassign             topic partition replicas                                       null
    replicas             topic partition                                                [[replicas], [in sync], leader]
    elect_leader         topic partition                                                null

`flow` is one producer with acks=all whose values are "0", "1" and so on; `commit` commits what the member was given so far.
`transact` begins a transaction, unless an `end` of null has left one open; `offset` is null, or [group, topic, partition, offset]
to be committed with it.
"""
