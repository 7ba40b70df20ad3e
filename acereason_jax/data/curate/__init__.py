"""From public data sets to prompts that training can trust: steps over rows."""
