"""Plans a run for machines that are not here: memory, time and compiles."""
