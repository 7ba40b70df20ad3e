"""The engine that samples: slots, a paged cache, requests, judged rollouts."""
