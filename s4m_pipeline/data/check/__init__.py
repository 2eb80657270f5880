"""``s4m data check``: faults of an image set, found before it is trained on."""
