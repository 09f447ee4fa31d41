"""`python -m examples.benchmarks.pictures [--run RUN] [--check]`: pictures of the demo, for README and the pages.

With a demo's run folder, its summary becomes `results/demo.json` and its report is photographed in Chromium; without,
README's picture is drawn anew from that file. Each picture names the summary it is of, which `--check` compares.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from examples.benchmarks.common import RESULTS
from hw_targets.app.report import write_figure

ROOT = Path(__file__).parents[2]
SUMMARY = RESULTS / "demo.json"
#: Four plots, for README; and the report as one sees it first.
FIGURE, REPORT = ROOT / "examples" / "demo.png", ROOT / "docs" / "report.png"
SIZE = (1280, 1500)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class NoBrowser(RuntimeError):
    """There is nothing here that shows a page; the message says what to install."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the pictures, or with --check only say whether they are of the summary that README has its figures from."""
    parser = argparse.ArgumentParser(prog="python -m examples.benchmarks.pictures", description=__doc__)
    parser.add_argument("--run", type=Path, help="folder of a demo's run")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if one is out of date")
    options = parser.parse_args(arguments)
    if options.check:
        old = [path for path in (FIGURE, REPORT) if source_of(path) != digest(SUMMARY)]
        for path in old:
            print(f"{path} is out of date; run: make demo figures", file=sys.stderr)
        return 1 if old else 0
    try:
        if options.run is not None:
            photograph(options.run / "report.html", REPORT, digest(options.run / "summary.json"))
            shutil.copyfile(options.run / "summary.json", SUMMARY)
        draw(SUMMARY, FIGURE)
    except (NoBrowser, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def draw(summary: Path, path: Path) -> None:
    """Four plots of a summary."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(summary, Path(folder, "summary.json"))
        figure = write_figure(folder, Path(folder, "figure.png"))
        _save(figure, path, digest(summary))


def photograph(page: Path, path: Path, source: str) -> None:
    """The top of a page in headless Chromium.

    Raises:
        NoBrowser: there is none.
    """
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise NoBrowser("no Chromium here, which photographs the report; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "shot.png")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/user"]
        size = f"--window-size={SIZE[0]},{SIZE[1]}"
        command = [browser, *options, size, f"--screenshot={shot}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        _save(shot, path, source)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def source_of(picture: Path) -> str | None:
    """The digest of the summary that a picture is of; None of a picture that does not say."""
    with Image.open(picture) as image:
        found = image.info.get("Source")
    return found if isinstance(found, str) else None


def _save(picture: Path, path: Path, source: str) -> None:
    """The picture in 256 colours, which is a third of the bytes, with its source."""
    told = PngInfo()
    told.add_text("Source", source)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True, pnginfo=told)


if __name__ == "__main__":
    sys.exit(main())
