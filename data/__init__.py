"""Volumes in, slices out: reading, checks, scaling, splits, the phantom, the slice store, batches."""
