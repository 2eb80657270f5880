"""Images and labels, in and out: formats, checks, splits and generated scenes. No torch."""
