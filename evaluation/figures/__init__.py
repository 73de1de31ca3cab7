"""The figures, one file a kind; `python -m evaluation.figures` draws them all."""
