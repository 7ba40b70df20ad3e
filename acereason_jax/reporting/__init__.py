"""The report of a run: what its folder holds, as values and as one page."""
