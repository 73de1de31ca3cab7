"""Refuse arguments out of their range: name, rule, value received."""

from __future__ import annotations


def require(holds: bool, rule: str, value: object) -> None:
    """Raise a ValueError unless a rule holds.

    Args:
        holds: whether it does.
        rule: begins with the argument's name.
        value: what was received.

    Raises:
        ValueError: the rule does not hold.
    """
    if not holds:
        raise ValueError(f"{rule}, got {value}")


def require_positive(**counts: int) -> None:
    """Raise a ValueError for the first number below 1."""
    for name, count in counts.items():
        require(count >= 1, f"{name} must be at least 1", count)


def require_multiple(input_size: int | None, factor: int) -> None:
    """Raise a ValueError unless `factor` divides a size; None is any such size."""
    fits = input_size is None or (input_size >= factor and input_size % factor == 0)
    require(fits, f"input_size must be a multiple of {factor}", input_size)


def require_rate(dropout: float) -> None:
    """Raise a ValueError unless a dropout's rate lies in [0, 1)."""
    require(0 <= dropout < 1, "dropout must lie in [0, 1)", dropout)
