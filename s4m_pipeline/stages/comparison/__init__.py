"""The labels of a refresh beside those before: what changed, and whether they are taken."""
