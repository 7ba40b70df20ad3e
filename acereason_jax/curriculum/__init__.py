"""Which prompts come next, and when a stage ends; the ledger of them all."""
