"""The tables, one file a kind; `python -m evaluation.tables` writes them all."""
