"""The objective, losses, controls, the optimizer and the update."""
