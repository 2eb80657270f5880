"""Datasets and transforms of a training."""
