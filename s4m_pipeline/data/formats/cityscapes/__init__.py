"""Cityscapes' folders, read as images with instances."""
