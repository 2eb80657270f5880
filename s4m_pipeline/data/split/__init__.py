"""``s4m data split``: labelled, unlabelled and validation parts of one image set."""
