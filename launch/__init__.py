"""Starts runs: on this machine, on Kubernetes, on Slurm, with SkyPilot."""
