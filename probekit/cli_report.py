"""``probekit report``: views of a run directory, without its model, its data or what ran it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from probekit.errors import MachineError, Problem, SpecError, nearest
from probekit.terminal import say, show, terminal_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from probekit.report.vega import Format
    from probekit.results import RunResult

TERMINAL = "terminal"
TEXTS = {TERMINAL: TERMINAL, "html": "html", "md": "markdown", "csv": "csv", "json": "json"}
"""Formats that are reports of a kind."""
FIGURES: tuple[Format, ...] = ("svg", "pdf", "png")
FORMATS = (*TEXTS, *FIGURES)
_OWN = ("results.json", "predictions.safetensors", "probes.safetensors", "confusions.csv")
"""What a run wrote and no view replaces."""
_STDOUT = "-"


def _formats(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> list[str]:
    """Return the names of formats, each once; commas may stand between them."""
    names = [part.strip() for text in value for part in text.split(",") if part.strip()]
    for name in names:
        if name not in FORMATS:
            raise click.BadParameter(f"no format {name!r}; {nearest(name, FORMATS, 'formats')}", ctx, param)
    return list(dict.fromkeys(names))


def _millimetres(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Return a width in mm that is given as a number or by the word for one."""
    from probekit.report.paper import WIDTHS

    try:
        width = WIDTHS[value] if value in WIDTHS else float(value)
    except ValueError:
        words = ", ".join(f"{word!r} ({mm:g})" for word, mm in WIDTHS.items())
        raise click.BadParameter(f"{value!r} is no width; give mm, or {words}", ctx, param) from None
    if not 30 <= width <= 1000:
        raise click.BadParameter(f"{width:g} mm is no width of a figure; give 30 to 1000", ctx, param)
    return width


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--format", "formats", multiple=True, callback=_formats, metavar="FORMAT",
    help=f"One or several of {', '.join(FORMATS)}.  [default: the ending of -o, else terminal]",
)  # fmt: skip
@click.option(
    "-o", "--output", metavar="FILE|DIR", help="Where to write; - prints.  [default: beside the results]"
)  # fmt: skip
@click.option("--tap", "taps", multiple=True, metavar="PATTERN", help="Only these taps.")
@click.option("--factor", "factors", multiple=True, metavar="PATTERN", help="Only these label factors.")
@click.option("--model", "models", multiple=True, metavar="PATTERN", help="Only these models.")
@click.option("--checkpoint", "checkpoints", multiple=True, metavar="PATTERN", help="Only these checkpoints.")
@click.option("--reduction", "reductions", multiple=True, metavar="PATTERN", help="Only these reductions.")
@click.option("--probe", "probes", multiple=True, metavar="PATTERN", help="Only these kinds of probe.")
@click.option("--redact", is_flag=True, help="Without absolute paths and names of users.")
@click.option(
    "--width", default="single", show_default=True, callback=_millimetres, metavar="MM",
    help="Of figures, in mm; single is 85, double 175.",
)  # fmt: skip
def report(
    run: Path,
    formats: list[str],
    output: str | None,
    taps: tuple[str, ...],
    factors: tuple[str, ...],
    models: tuple[str, ...],
    checkpoints: tuple[str, ...],
    reductions: tuple[str, ...],
    probes: tuple[str, ...],
    redact: bool,
    width: float,
) -> None:
    """Show the run directory RUN once more: on the terminal, as a page, a text, a table, or figures for a paper.

    Nothing is computed again; neither the model nor the data are needed.

    \b
    Examples:
      probekit report runs/digits
      probekit report runs/digits --format md -o - | gh pr comment 7 --body-file -
      probekit report runs/digits --format pdf,png --factor digit --width double -o figures/
      probekit report runs/digits --format json --redact -o public/
    """
    from probekit.report.saved_run import open_run, results_file
    from probekit.report.selection import select

    wanted = {
        "tap": taps, "factor": factors, "model": models, "checkpoint": checkpoints, "reduction": reductions,
        "probe": probes,
    }  # fmt: skip
    chosen = formats or [_format_of(output)]
    results = results_file(run)
    target = _Target(results, chosen, output)
    result = select(open_run(run), wanted)
    if redact:
        from probekit.report.redaction import redact as redacted

        result = redacted(result)
    whole = not redact and not any(wanted.values())
    for name in chosen:
        if name in TEXTS:
            _show(result, name, target, whole=whole)
    kinds = [kind for kind in FIGURES if kind in chosen]
    if kinds:
        _draw(result, kinds, width, target)


def _format_of(output: str | None) -> str:
    """Return the format that a file's ending tells, else the terminal's."""
    ending = "" if output in {None, _STDOUT} else Path(str(output)).suffix.removeprefix(".").lower()
    return ending if ending in FORMATS else TERMINAL


class _Target:
    """Where views are written.

    Args:
        results: the run's ``results.json``.
        formats: that are written.
        output: what ``-o`` names: a folder if it is one, ends like one or has no ending, else a file; None: the run
            directory.

    Raises:
        SpecError: ``PK-X44``, it cannot take these formats.
    """

    def __init__(self, results: Path, formats: Sequence[str], output: str | None) -> None:
        self.results, self.folder = results, results.parent
        self.file: Path | None = None
        self.printed = output == _STDOUT
        named = Path(output) if output is not None and not self.printed else None
        if self.printed:
            binary = [name for name in formats if name in FIGURES and name != "svg"]
            if len(formats) > 1 or binary:
                what = f"-o - cannot print {' and '.join(binary or formats)}"
                raise SpecError(Problem("PK-X44", what, "print one format of text, or name a folder with -o"))
        elif named is None:
            return
        elif _is_folder(named, str(output)):
            if list(formats) == [TERMINAL]:
                what = f"the terminal report is printed, not written to {str(named)!r}"
                raise SpecError(Problem("PK-X44", what, f"add one of --format {', '.join(FORMATS[1:])}"))
            self.folder = named
        elif len(formats) > 1:
            what = f"{len(formats)} formats cannot be in one file, {str(named)!r}"
            raise SpecError(Problem("PK-X44", what, f"name a folder: -o {named.with_suffix('')}/"))
        else:
            ending = named.suffix.removeprefix(".").lower()
            if ending in FORMATS and ending != formats[0]:
                what = f"{str(named)!r} has the ending of another format than {formats[0]}"
                raise SpecError(Problem("PK-X44", what, f"name it {named.stem}.{formats[0]}, or ask for {ending}"))
            self.file = named

    def path(self, name: str) -> Path:
        """Return where a view goes whose usual name this is.

        Raises:
            SpecError: ``PK-X44``, there is something that no view replaces.
        """
        path = self.file or self.folder / name
        own = [self.results, *(self.results.parent / own for own in _OWN)]
        try:
            there = path.exists()
            replaced = there and any(one.exists() and path.samefile(one) for one in own)
            other = there and not path.is_file()
        except OSError as error:
            _unwritable(path, error)
        if replaced:
            what = f"{str(path)!r} is the run's own and is not replaced"
            raise SpecError(Problem("PK-X44", what, "name another file or folder with -o, or print with -o -"))
        if other:
            raise SpecError(Problem("PK-X44", f"{str(path)!r} is no file", "print with -o -, or name a file with -o"))
        return path


def _is_folder(path: Path, typed: str) -> bool:
    """Return whether what was typed is a folder, ends like one, or is nothing yet and has no ending."""
    try:
        return path.is_dir() or typed.endswith(("/", "\\")) or (not path.suffix and not path.exists())
    except OSError:  # such as a name that is too long
        return False


def _show(result: RunResult, name: str, target: _Target, *, whole: bool) -> None:
    """Print a view of text, or write it and print where."""
    from probekit.components import Report
    from probekit.plugins import Plugins, installed_providers

    columns, colour = terminal_size()
    view = (
        Plugins(installed_providers(autoload=False)).find("report", TEXTS[name]).model_validate({"kind": TEXTS[name]})
    )
    assert isinstance(view, Report)  # noqa: S101 - what kinds of this category are
    if name == TERMINAL and target.file is None:
        show(view.render(result, columns, colour))
    elif target.printed:
        click.echo(view.render(result).encode(), nl=False)
    elif name == "json" and whole and target.file is None and target.folder == target.results.parent:
        show(f"{click.format_filename(target.results)}\n")  # it is there
    else:
        path = target.path(view.filename or f"report.{name}")
        _write(path, view.render(result).encode())


def _draw(result: RunResult, kinds: Sequence[Format], width: float, target: _Target) -> None:
    """Write the figures of a result and print where, and their captions for people."""
    from probekit.report.charts import ChartError
    from probekit.report.figures import figures
    from probekit.report.paper import draw

    made = figures(result)
    if not made:
        raise SpecError(Problem("PK-X43", "the run has no probe of true labels to draw", "print it: --format terminal"))
    if len(made) > 1 and (target.file is not None or target.printed):
        names = ", ".join(one.name for one in made[:5])
        what = f"there are {len(made)} figures ({names}{', …' if len(made) > 5 else ''}), and one file is named"
        raise SpecError(Problem("PK-X44", what, "choose with --factor, --model or --probe, or name a folder with -o"))
    paths = [] if target.printed else [[target.path(f"figure_{one.name}.{kind}") for kind in kinds] for one in made]
    try:
        drawn = draw(made, kinds, width)
    except ChartError as error:
        hint = "type: pip install --upgrade altair vl-convert-python, or use --format html"
        raise MachineError(Problem("PK-X45", f"figures cannot be drawn: {error}", hint)) from error
    if target.printed:
        click.echo(drawn[0][kinds[0]], nl=False)
        return
    for one, own, files in zip(made, paths, drawn, strict=True):
        for kind, path in zip(kinds, own, strict=True):
            _write(path, files[kind])
        say(f"  {one.caption}")


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, in a folder that is made when absent, and print where.

    Raises:
        MachineError: ``PK-R13`` or ``PK-R01``.
    """
    from probekit.durable import make_folder, write_file

    try:
        make_folder(path.parent)
        write_file(path, content)
    except OSError as error:
        _unwritable(path, error)
    show(f"{click.format_filename(path)}\n")


def _unwritable(path: Path, error: OSError) -> NoReturn:
    what = f"cannot write {str(path)!r}: {error.strerror or error}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        raise MachineError(Problem("PK-R01", what, "free some space, then type the same command")) from error
    raise MachineError(Problem("PK-R13", what, "name another place with -o, or print with -o -")) from error
