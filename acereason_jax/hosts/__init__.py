"""Many hosts: who each is, what they tell each other, and who does not move."""
