"""Stage ``refine``, and ``s4m rethreshold``, which chooses labels anew from its masks."""
