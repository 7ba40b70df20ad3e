"""The parser of answers, a level of the grammar a file."""
