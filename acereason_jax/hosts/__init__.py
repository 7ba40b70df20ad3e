"""The processes of one run: who each is, and whether the others live."""
