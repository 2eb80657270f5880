"""Versioned artifacts on disk: fingerprints, manifests, shards and tables. No torch."""
