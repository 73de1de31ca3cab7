"""Scores of masks and probabilities: NumPy and SciPy only."""
