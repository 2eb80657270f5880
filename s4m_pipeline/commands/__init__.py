"""The commands that ``cli.py`` offers: parse, call one function, print. No logic."""
