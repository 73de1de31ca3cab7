"""The figures, one file a kind; `evaluation.figures` draws them all."""
