"""Stage ``refine``, and labels chosen anew from one that is made."""
