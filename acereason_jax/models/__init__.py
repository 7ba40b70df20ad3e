"""Model families, their files and tokenizers, LoRA, sharding of parameters."""
