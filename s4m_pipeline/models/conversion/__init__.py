"""Checkpoints of detectron2's Mask2Former as MMDetection's and back; other layouts of backbones."""
