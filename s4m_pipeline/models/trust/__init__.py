"""What a file that somebody else made may ask for: parts of a model, and values in a pickle."""
