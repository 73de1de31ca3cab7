"""Keras functional graphs, one architecture per file, and how their outputs become labels."""
