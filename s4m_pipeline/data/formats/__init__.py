"""Formats of labelled images, a package each.

A format's ``load`` reads files as an ``ImageSet``; where it can be written, ``save`` takes one.
"""
