"""The judges of answers and programs; nothing here imports jax."""
