"""The stages: one file each, talking to each other only through artifacts."""
