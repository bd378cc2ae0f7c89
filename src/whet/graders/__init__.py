"""Graders: an answer, and the row it answers -> a score."""
