"""The hosts of a run: who each is, whether it lives, and whether it moves."""
