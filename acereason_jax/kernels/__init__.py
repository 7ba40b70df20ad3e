"""Attention and log-probabilities: plain JAX, Pallas for TPU and GPU."""
