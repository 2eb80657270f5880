"""Promptable segmenters: images to embeddings, prompts to masks, always in batches.

`build` makes one by name, `base` says what it can do, `structure` reads structural targets from it.
They know nothing of a teacher. Importing this package imports no torch.
"""
