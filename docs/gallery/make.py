"""Run the specs of the gallery and make its pictures, figures, texts and quotes.

    python docs/gallery/make.py [NAME...] [--runs FOLDER] [--keep]

NAME is digits, fashion, magika or emoji; all of them without one. Each spec says at its top what it needs, and
docs/gallery.md what a run takes. --runs names the folder for the run directories (default: runs/gallery); --keep makes
the rest again from those that are there.

Writes into docs: of each run pictures of its page, figures, its Markdown view without paths (--redact), and into
gallery.md what the run says wherever a comment asks for it: ``<!-- NAME verdict FACTOR -->`` or
``<!-- NAME FINDING FACTOR [REDUCTION] -->``, with the quote in the line below. Needs what the tests need, with Debian's
packages chromium and chromium-driver.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probekit.results import RunResult

GALLERY = Path(__file__).resolve().parent
ROOT = GALLERY.parents[1]
PAGE = GALLERY.parent / "gallery.md"
README = GALLERY.parent / "report.png"
"""What the README shows: the top of the page of ``fashion``."""
WIDTH = 1000
"""Of a picture, in px."""
_WINDOW = 1136
"""Of the browser, in CSS px: the widest that the page gets."""
_COMMONEST, _COVERING = 24, 80
"""Colours of a picture."""
_TOP = "model"
"""The part of a page before which its top ends."""
_QUOTE = re.compile(r"^(<!-- (\w+) (\w+) (\w+)(?: (\w+))? -->)\n.*$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """One run of the gallery.

    Args:
        spec: its file, from the top of the repository.
        arguments: what follows the spec in the command.
        parts: of the page that are shown beside its top, by the ids of their headings.
        figures: label factors whose figure is shown.
    """

    spec: str
    arguments: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


ENTRIES = {
    "digits": Entry("specs/digits.yaml", parts=("model",)),
    "fashion": Entry("specs/fashion_convnet_onnx.yaml", ("--set", "splits.limit={train: 10000, valid: 2000}")),
    "magika": Entry("specs/magika.yaml", figures=("size",)),
    "emoji": Entry(
        "specs/efficientnet_lite0_emoji.yaml", ("--trust-code",), parts=("factors",), figures=("group", "luminance")
    ),
}


@dataclass(frozen=True)
class Files:
    """What is written of a run: its text, the top of its page, other parts, and figures by their factor."""

    text: Path
    top: Path
    parts: dict[str, Path]
    figures: dict[str, Path]

    def pictures(self) -> list[Path]:
        """Return all but the text."""
        return [self.top, *self.parts.values(), *self.figures.values()]


def files(name: str) -> Files:
    """Return where a run's files are written."""
    entry = ENTRIES[name]
    return Files(
        GALLERY / f"{name}.md",
        README if name == "fashion" else GALLERY / f"{name}.png",
        {part: GALLERY / f"{name}_{part}.png" for part in entry.parts},
        {factor: GALLERY / f"{name}_{factor}.png" for factor in entry.figures},
    )


def probekit(*arguments: str | Path) -> None:
    """Run the command from the top of the repository."""
    print("probekit", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "probekit", *map(str, arguments)], cwd=ROOT, check=True)


def write_picture(png: bytes, path: Path) -> None:
    """Write a PNG with few colours, a third as large: the commonest as they are, and some near all the others."""
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        whole = image.convert("RGB")
    coverage = whole.quantize(_COVERING, Image.Quantize.MAXCOVERAGE).getpalette() or []
    pixels = np.asarray(whole, dtype=np.int32)
    colours, place, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    commonest = colours[np.argsort(-counts, kind="stable")[:_COMMONEST]]
    palette = np.concatenate([commonest, np.array(coverage, dtype=np.int32).reshape(-1, 3)[:_COVERING]])
    nearest = np.array([((palette - colour) ** 2).sum(axis=1).argmin() for colour in colours], dtype=np.uint8)
    few = Image.fromarray(nearest[place.reshape(pixels.shape[:2])])
    few.putpalette(palette.astype(np.uint8).tobytes())
    few.save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def photograph(page: Path, wanted: Files) -> None:
    """Write pictures of a page's top and parts, as headless Chromium without a network shows them."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        sys.exit("no chromium; run: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory() as folder, _browser().started(*programs, Path(folder)) as browser:
        browser.command("Emulation.setScrollbarsHidden", hidden=True)
        browser.open(page.read_text(encoding="utf-8"), width=_WINDOW)
        heads = "[...document.querySelectorAll('h2')].map(h => [h.id, h.getBoundingClientRect().top + scrollY])"
        begins: dict[str, float] = dict(browser.ask(heads))
        places = [*begins.values(), browser.ask("document.documentElement.scrollHeight")]
        ends = dict(zip(begins, places[1:], strict=True))

        def shot(begin: float, end: float) -> bytes:
            clip = {"x": 0, "y": begin, "width": _WINDOW, "height": end - begin, "scale": WIDTH / _WINDOW}
            answer = browser.command("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
            return base64.b64decode(answer["data"])

        write_picture(shot(0, begins[_TOP] - 10), wanted.top)
        for part, path in wanted.parts.items():
            write_picture(shot(begins[part] - 10, ends[part] - 10), path)


def _browser() -> Any:
    """Return the tests' module that drives it; they are no package."""
    spec = importlib.util.spec_from_file_location("browser", ROOT / "tests" / "browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sentence(result: RunResult, kind: str, factor: str, reduction: str | None) -> str | None:
    """Return what a run says: the verdict on a factor, or its first finding of a kind."""
    if kind == "verdict":
        from probekit.report.page import tables

        return next((one.verdict for one in tables(result) if one.factor == factor), None)
    return next(
        (
            one.sentence
            for one in result.findings
            if (one.kind, one.factor) == (kind, factor) and reduction in {None, one.reduction}
        ),
        None,
    )


def with_quotes(page: str, name: str, result: RunResult) -> str:
    """Return the gallery's page with the quotes of one run made anew."""
    from probekit.report.markdown import escape

    def quote(match: re.Match[str]) -> str:
        comment, whose, kind, factor, reduction = match.groups()
        if whose != name:
            return match[0]
        said = sentence(result, kind, factor, reduction)
        if said is None:
            sys.exit(f"the run {name} does not say what gallery.md quotes: {comment}")
        return f"{comment}\n> {escape(said)}"

    return _QUOTE.sub(quote, page)


def make(name: str, run: Path) -> None:
    """Write the files of a run that is there, and its quotes."""
    sys.path.insert(0, str(ROOT))
    from probekit import load_result

    wanted = files(name)
    probekit("report", run, "--redact", "--format", "md", "-o", wanted.text)
    photograph(run / "report.html", wanted)
    with tempfile.TemporaryDirectory() as folder:
        for factor, path in wanted.figures.items():
            probekit("report", run, "--format", "png", "--factor", factor, "-o", f"{folder}/")
            write_picture(Path(folder, f"figure_{factor}.png").read_bytes(), path)
    page = with_quotes(PAGE.read_text(encoding="utf-8"), name, load_result(run))
    PAGE.write_text(page, encoding="utf-8")


def main() -> None:
    """Run, or keep; then write."""
    parser = argparse.ArgumentParser(description="Run the specs of the gallery and make what it shows.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"out of {', '.join(ENTRIES)}")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "gallery", help="for the run directories")
    parser.add_argument("--keep", action="store_true", help="do not run again what is there")
    args = parser.parse_args()
    if unknown := set(args.names) - set(ENTRIES):
        parser.error(f"no {min(unknown)!r}; there is {', '.join(ENTRIES)}")
    for name in args.names or ENTRIES:
        run = args.runs.resolve() / name
        if not (args.keep and (run / "report.html").is_file()):
            probekit("run", ENTRIES[name].spec, *ENTRIES[name].arguments, "-o", run, "-q")
        make(name, run)


if __name__ == "__main__":
    main()
