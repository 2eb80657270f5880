"""Where work runs: in threads, processes, engines. Knows shards, not what is in them."""
