"""The clients: librdkafka through confluent-kafka, as cheap as it goes, so that it is the brokers that are measured."""
