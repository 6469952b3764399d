"""Stream engines as judges of exactly-once: they count and join order lines while nodes and they themselves are killed.

    make streams                                     Kafka Streams and Quix Streams, side by side on one cluster of three nodes
    python -m tests.streams --minutes 10 --rows 200000 --seed 7
    python -m tests.streams --engine quix --kills 0  one engine, nobody is killed
    python -m tests.streams --peer kafka             the same on Apache Kafka itself
    python -m tests.streams --quick                  a few thousand lines, one kill

What they wrote, read with read_committed, must be what a batch computation over the same lines says: docs/streams.md.
"""
