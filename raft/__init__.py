"""A few nodes agree on one log. Knows nothing of topics."""
