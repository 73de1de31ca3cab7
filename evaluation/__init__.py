"""Scores, thresholds, predictions, tables and figures; reads a run's own record, never `training`."""
