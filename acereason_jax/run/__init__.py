"""A run: built from a config, started, stepped through its stages, saved."""
