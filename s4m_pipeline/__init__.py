"""s4m: offline pseudo-labelling for instance segmentation."""

__version__ = "0.1.0"
