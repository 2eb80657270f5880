"""The stages. They talk to each other only through artifacts."""
