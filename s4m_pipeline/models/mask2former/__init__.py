"""The Mask2Former of this package: head, pixel decoder, matching, losses."""
