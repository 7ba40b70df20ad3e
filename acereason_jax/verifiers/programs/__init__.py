"""Programs of the code judge: tasks, comparison, and the jail they run in."""
