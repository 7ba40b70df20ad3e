"""The hosts of one run: how its processes find and hear each other."""
