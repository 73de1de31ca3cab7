"""List the systems with the source of every value; nothing is trained.

python -m training.systems [NAME] [--preset PRESET]
"""

from __future__ import annotations

from data.command import Parser, run_command
from training.presets import PRESETS, find_preset
from training.systems import SYSTEMS, VARIANTS, find_system


def main(arguments: list[str] | None = None) -> None:
    """Print every system, or one."""
    parser = Parser(
        prog="training.systems",
        description="List the systems with the source of every value.",
        example="python -m training.systems segnet --preset demo",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help=f"one of {', '.join([*SYSTEMS, *VARIANTS])}"
    )
    parser.add_argument(
        "--preset",
        default="paper",
        metavar="PRESET",
        help=f"as trained under one of {', '.join(PRESETS)}; default paper",
    )
    flags = parser.parse_args(arguments)
    preset = find_preset(flags.preset)
    if flags.name:
        system, changes = find_system(flags.name)
        print(system.describe(preset))
        if changes:
            print(f"changed: {', '.join(changes)}")
        return
    print("\n\n".join(system.describe(preset) for system in SYSTEMS.values()))
    variants = (f"{label}: {name} with {', '.join(c)}" for label, (name, c) in VARIANTS.items())
    print(f"\nVariants: {'; '.join(variants)}")


if __name__ == "__main__":
    run_command(main, "training.systems")
