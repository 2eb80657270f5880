"""Where work runs. Knows shards, not what is in them."""
