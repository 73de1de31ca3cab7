"""Scores, thresholds, predictions, tables and figures; reads a run's own record, never `training`."""

from data.environment import quiet_backend

quiet_backend()  # before any module imports Keras
