"""Answers of mathematics: read, evaluated and compared."""
