"""One partition: its segments on disk, its index and epochs, its replicas, its high watermark."""
