"""Refinement and labels measured on images whose masks are known: the stages and the choice."""
