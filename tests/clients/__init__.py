"""The client matrix: what programs that speak Kafka do on a three-node cluster, each by its own usual API.

    make clients                                 every client on one local cluster, a table at the end
    make clients ONLY=java,kafkajs               these clients only
    python -m tests.clients --peer kafka         the same against Apache Kafka itself: what fails there is a wrong scenario
    python -m tests.clients --write              and write docs/compatibility.md
    python -m tests.clients.kafka_peer           just start Apache Kafka (three nodes) and print its bootstrap servers;
                                                 `--nodes 1` for one, Ctrl-C ends it, `--set key=value` for server.properties

Apache Kafka needs Java 17 and 44 MB of jars from Maven Central, downloaded once to ~/.cache/quorumlog-clients
($QUORUMLOG_CLIENTS_CACHE names another place) and checked against java/jars.sha256. One of its tools by hand:

    java -cp "$(python -m tests.clients.cache classpath)" org.apache.kafka.tools.TopicCommand --bootstrap-server ...

A client is a small program that answers JSON lines (see programs/__init__.py); what it is asked stands once, in scenarios/.
"""
