"""Kafka's bytes: framing, messages, record batches, error codes. No I/O."""
