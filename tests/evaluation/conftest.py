"""Made-up results, a report of them and the browser that opens it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.evaluation.fake_out import FAILURE, write_out
from tests.evaluation.fake_viewer import write_viewer
from tests.evaluation.page.browser import INDEX, Browser, why_missing

Predict = Callable[..., None]


@pytest.fixture(scope="session")
def known_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of hand-made networks whose answer is known."""
    from tests.evaluation.known_networks import make_run  # loads Keras

    return make_run(tmp_path_factory.mktemp("known") / "run")


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Predict:
    """evaluation.predict in this process, which is faster: predict(run, input, output, *flags)."""

    from evaluation import predict as predict_command

    def call(run: Path, source: Path, output: Path, *flags: object) -> None:
        paths = ("--run", run, "--input", source, "--output", output)
        monkeypatch.setattr("sys.argv", ["evaluation.predict", *map(str, (*paths, *flags))])
        predict_command.main()

    return call


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder OUT of three models that all have scores."""
    return write_out(tmp_path_factory.mktemp("whole") / "out")


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder OUT in which a system collapsed."""
    return write_out(tmp_path_factory.mktemp("failed") / "out", failures=FAILURE)


@pytest.fixture(scope="session")
def report_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder OUT with report.html, of three models and two figures."""
    out = write_out(tmp_path_factory.mktemp("report") / "out")
    write_viewer(out, joint=True)
    (out / "figures").mkdir()
    for name in ("fig_roc", "fig_table1_bars"):
        Image.new("RGB", (1440, 900), "white").save(out / "figures" / f"{name}.png")
    from evaluation import report  # while its tables move to the score table

    report.main(["--out", str(out)])
    return out


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The window of headless Chromium; without one, its tests are skipped and say why."""
    if why := why_missing():
        pytest.skip(why)
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def viewer(window: Browser, report_out: Path) -> Browser:
    """The report, opened at the first case's slice with most tumor."""
    window.size(1200, 900)
    window.open(report_out / "report.html")
    window.wait(INDEX)
    return window
