"""Small Kafka clients for the simulator, which behave as librdkafka does and write down all that they were told.

    Workload -> Producer, Reader, Admin -> Client (connections, metadata) -> Connection -> SimWire

They run on virtual time in one thread, draw every chance from the seed, and speak quorumlog's own codec.
"""
