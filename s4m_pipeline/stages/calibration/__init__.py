"""Refinement measured on labelled images: cross-fit, calibrate, held-out and their choice."""
