"""Judges what clients of a Kafka-compatible cluster saw: a history of their operations, and the anomalies in it."""
