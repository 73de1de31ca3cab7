"""Take the README's picture of the first screen of a report, 1280 x 800 pixels.

    python -m tests.evaluation.page.first_screen --out OUT [--to FILE]

Reads OUT/report.html, of synthetic data alone: a picture of a patient's slice belongs into no
repository. Needs Debian's chromium and chromium-driver.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from data.command import InputError, Parser, run_command
from data.files import replace_file
from evaluation.names import SYNTHETIC
from evaluation.page.viewer import ASSETS
from evaluation.results import read_results
from tests.evaluation.page.browser import INDEX, Browser, why_missing

WIDTH, HEIGHT = 1280, 800


def take_picture(out: Path, to: Path) -> None:
    """Write the first screen of OUT/report.html as PNG.

    Raises:
        InputError: no report with slices there, data that is not synthetic, or no browser here.
    """
    results = read_results(out)
    page = out / "report.html"
    real = [
        cohort for cohort in results.cohorts if SYNTHETIC not in results.describe_origin(cohort)
    ]
    if real:
        raise InputError(
            f"{out}: {' and '.join(real)} not synthetic; no picture of patients' data is taken"
        )
    if not page.is_file() or not (out / "viewer.npz").is_file():
        raise InputError(
            f"{page}: no report with slices; make it with python -m evaluation.report --out {out}"
        )
    if why := why_missing():
        raise InputError(why)
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as browser:
        browser.size(WIDTH, HEIGHT, scale=1)
        browser.open(page)
        browser.wait(INDEX)
        with replace_file(to) as temporary:
            browser.screenshot(temporary)
            with Image.open(temporary) as picture:
                picture.convert("RGB").save(temporary, optimize=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command `python -m tests.evaluation.page.first_screen`."""
    parser = Parser(
        prog="python -m tests.evaluation.page.first_screen",
        description=(__doc__ or "").split("\n", 1)[0],
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder with report.html"
    )
    parser.add_argument(
        "--to", type=Path, default=ASSETS / "first_screen.png", metavar="FILE", help="the picture"
    )
    flags = parser.parse_args(arguments)
    take_picture(flags.out, flags.to)
    print(f"{flags.to}: {flags.to.stat().st_size // 1000} kB")


if __name__ == "__main__":
    run_command(main, "python -m tests.evaluation.page.first_screen")
