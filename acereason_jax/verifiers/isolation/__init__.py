"""What confines a process: Landlock, seccomp, limits."""
