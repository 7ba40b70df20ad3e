"""Commands and their terminal: flags, lines, signals, errors, exit codes."""
