"""The commands that ``cli.py`` puts together: parse, call one stage, print. No logic."""
