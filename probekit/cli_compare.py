"""``probekit compare``: two models on the same test rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from probekit.errors import MachineError, Problem, SpecError, nearest

if TYPE_CHECKING:
    from probekit.comparing.records import ComparisonResult

FORMATS = {"terminal": ".txt", "html": ".html", "md": ".md", "json": ".json"}
"""Each format and how its files end."""


@click.command()
@click.argument("run_a", type=click.Path())
@click.argument("run_b", type=click.Path(), required=False)
@click.option("--model", metavar="A:B", help="The models, or the name that both runs have.")
@click.option("--models", nargs=2, metavar="A B", help="The same as two words: two models of one run.")
@click.option("--checkpoint", metavar="A:B", help="The checkpoints, or the name that both have.")
@click.option("--map", "taps", multiple=True, metavar="TAP_A=TAP_B", help="Two taps that belong together.")
@click.option("--factor", "factors", multiple=True, help="A label factor.  [default: all that both have]")
@click.option("--split", help="The test split.  [default: the first of each run]")
@click.option(
    "--fail-if", "conditions", multiple=True, metavar="CONDITION",
    help="Exit with 1 where it holds: worse>1.0, significantly_worse>0.5, model_worse>1, model_significantly_worse>0; "
    "in percentage points.",
)  # fmt: skip
@click.option("--format", "form", type=click.Choice(list(FORMATS)), help="[default: terminal, or as the file ends]")
@click.option("--redact", is_flag=True, help="Without absolute paths and names of users.")
@click.option(
    "-o", "--output", "outputs", multiple=True, type=click.Path(path_type=Path), help="A file to write; several may be."
)
def compare(
    run_a: str,
    run_b: str | None,
    model: str | None,
    models: tuple[str, str] | None,
    checkpoint: str | None,
    taps: tuple[str, ...],
    factors: tuple[str, ...],
    split: str | None,
    conditions: tuple[str, ...],
    form: str | None,
    redact: bool,
    outputs: tuple[Path, ...],
) -> None:
    """Compare the probes of two runs, or of two models or checkpoints of one run, on the test rows that both have.

    Only the run directories are read. Differences are B - A, with paired intervals. Taps are aligned by name.

    \b
    Examples:
      probekit compare runs/before runs/after
      probekit compare runs/fashion --models float int8 -o int8.html
      probekit compare runs/a runs/b --fail-if 'significantly_worse>0.5' --format md
    """
    from probekit.comparing.compare import compare as compare_runs
    from probekit.comparing.gate import read_condition
    from probekit.comparing.sides import load_run
    from probekit.comparing.wording import verdicts
    from probekit.errors import printable
    from probekit.terminal import show

    fail_if = [read_condition(text) for text in conditions]
    formats = [_format_of(path, form) for path in outputs]
    if models is not None and model is not None:
        raise SpecError(Problem("PK-X31", "--model and --models are both given", "leave one of them out"))
    first = load_run(run_a, redact=redact)
    same = run_b is None or Path(run_b).resolve() == Path(run_a).resolve()
    second = first if same else load_run(str(run_b), redact=redact)
    result = compare_runs(
        first, second, model=":".join(models) if models else model, checkpoint=checkpoint, taps=taps, factors=factors,
        split=split, fail_if=fail_if,
    )  # fmt: skip
    if outputs:
        for path, each in zip(outputs, formats, strict=True):
            _write(path, _rendered(result, each, for_file=True))
        for line in verdicts(result):
            show(f"{printable(line)}\n")
        for gate in result.gates:
            show(f"{printable(f'fail if {gate.condition}')}: {'holds' if gate.held else 'does not hold'}\n")
        for path in outputs:
            show(f"{click.format_filename(path)}\n")
    elif form in {None, "terminal"}:
        show(_rendered(result, "terminal"))
    else:
        click.echo(_rendered(result, form).encode(), nl=False)
    if result.failed():
        sys.exit(1)


def _format_of(path: Path, form: str | None) -> str:
    """Return the format of a file.

    Raises:
        SpecError: ``PK-X37``, neither the file's name nor ``--format`` tells it.
    """
    endings = {ending: name for name, ending in FORMATS.items()}
    if form is None and path.suffix not in endings:
        hint = f"{nearest(path.suffix, endings, 'known')}; or give --format"
        raise SpecError(Problem("PK-X37", f"no format is known by the ending of {str(path)!r}", hint, "-o"))
    return form or endings[path.suffix]


def _rendered(result: ComparisonResult, form: str, *, for_file: bool = False) -> str:
    if form == "json":
        return result.to_json()
    if form == "html":
        from probekit.comparing import html

        return html.render(result)
    if form == "md":
        from probekit.comparing import markdown

        return markdown.render(result)
    from probekit.comparing import terminal
    from probekit.terminal import terminal_size

    width, colour = (100, False) if for_file else terminal_size()
    return terminal.render(result, width, colour)


def _write(path: Path, text: str) -> None:
    from probekit.durable import make_folder, write_file

    try:
        make_folder(path.parent)
        write_file(path, text)
    except OSError as error:
        what = f"cannot write to {str(path)!r}: {error.strerror}"
        raise MachineError(Problem("PK-R13", what, "name another file with -o")) from error
