"""Rows: sources that read or make them, code tasks, references, verdicts."""
