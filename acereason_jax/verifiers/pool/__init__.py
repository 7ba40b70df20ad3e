"""The processes that judge, and the pool that asks them."""
