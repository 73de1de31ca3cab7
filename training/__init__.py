"""Presets, losses, the one fit loop, and a thin script per stage."""

from data.environment import quiet_backend

quiet_backend()  # before any module imports Keras
