"""The config: its fields in one table, its checks, stages and domains."""
