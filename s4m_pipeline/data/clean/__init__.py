"""``s4m data clean``: a COCO file without what cannot be used."""
