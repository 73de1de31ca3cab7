"""Presets, losses, the one fit loop, and a thin script per stage."""
