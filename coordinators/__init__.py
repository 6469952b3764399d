"""Consumer groups (and later transactions) as shards, each replayed from one partition of an internal topic."""
