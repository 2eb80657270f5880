"""Promptable segmenters: images to embeddings, prompts to masks, always in batches.

`build` makes one by name, `base` says what it can do, `refinement` turns a teacher's instances
into sharp masks with it, `structure` reads structural targets from it. Importing this package
imports no torch.
"""
