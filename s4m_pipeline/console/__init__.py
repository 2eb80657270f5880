"""What the terminal shows while a command works: messages, warnings, progress."""
