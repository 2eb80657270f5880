"""Tensors and memory on a device."""
