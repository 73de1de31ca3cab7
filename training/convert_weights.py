"""Convert published ImageNet weights of AlexNet or ResNet18 for training.

    python -m training.convert_weights FILE OUT.npz

`training.system` takes OUT.npz; `training.pretrained` says which files can be read.
"""

from __future__ import annotations

from pathlib import Path

from data.command import Parser, run_command
from training.pretrained import convert


def main(arguments: list[str] | None = None) -> None:
    """Read the flags and convert one file."""
    parser = Parser(
        prog="training.convert_weights",
        description="Convert published weights of AlexNet or ResNet18.",
        example="python -m training.convert_weights alexnet-owt-7be5be79.pth alexnet.npz",
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="torchvision's .pth or .pt, or Keras's .h5"
    )
    parser.add_argument("out", type=Path, metavar="OUT.npz", help="file to write")
    flags = parser.parse_args(arguments)
    print(f"{flags.out}: {convert(flags.file, flags.out)}")


if __name__ == "__main__":
    run_command(main, "training.convert_weights")
