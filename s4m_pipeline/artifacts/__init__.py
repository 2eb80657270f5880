"""Versioned artifacts on disk: fingerprints, manifests, shards and table schemas. No torch."""
