"""One file per Kafka API; each ends in an `API` entry that `node/dispatch.py` collects."""
