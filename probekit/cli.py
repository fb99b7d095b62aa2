"""The command line: parse, call one function, print."""

from __future__ import annotations

import errno
import json
import shlex
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from probekit import __version__
from probekit.cli_cache import cache
from probekit.cli_compare import compare
from probekit.cli_export import export
from probekit.cli_new_plugin import new_plugin
from probekit.cli_parity import parity
from probekit.cli_plugins import plugins, with_plugins
from probekit.cli_report import report
from probekit.errors import EXIT_CODES, InputError, MachineError, Problem, SpecError, UserError, nearest
from probekit.terminal import progress, say, stopping_after_range, terminal_size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from probekit.components import Tap
    from probekit.plugins import Plugins

_EXITS = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())


class Commands(click.Group):
    """Answers an unknown command with the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}; {nearest(args[0], self.list_commands(ctx), 'commands')}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"\b\nExit codes:\n{_EXITS}",
)
@click.version_option(__version__, prog_name="probekit")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks; may stand anywhere.")
def cli() -> None:
    """Linear classifier probes for the intermediate tensors of a neural network.

    \b
    Examples:
      probekit run specs/digits.yaml
      probekit taps model.onnx
      probekit validate specs/*.yaml
    """


cli.add_command(cache)
cli.add_command(compare)
cli.add_command(export)
cli.add_command(new_plugin)
cli.add_command(parity)
cli.add_command(plugins)
cli.add_command(report)

_spec_argument = click.argument("spec", type=click.Path())
_settings = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one value of the spec: --set splits.seed=1"
)
_trust = click.option(
    "--trust-code", is_flag=True, help="Run code that the spec names (torch factories, .pt2 programs)."
)


@cli.command()
@_spec_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Run directory.  [default: runs/NAME]")
@_settings
@_trust
@with_plugins
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--no-wait", is_flag=True, help="Do not wait for another run that extracts from the same model.")
@click.option("--in-process", is_flag=True, help="Extract and fit in this process, not in others.")
@click.option(
    "--processes", type=click.IntRange(min=1), metavar="N", help="Fit probes in so many processes; default: one a core."
)
@click.option("--lock-timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait for it so long at most.")
def run(
    spec: str,
    output: Path | None,
    settings: tuple[str, ...],
    trust_code: bool,
    plugins: Plugins,
    quiet: bool,
    no_wait: bool,
    in_process: bool,
    processes: int | None,
    lock_timeout: float | None,
) -> None:
    """Run a spec: read the model's tensors once, fit every probe, write the reports.

    Features are kept in the store: what was extracted before is not extracted again. A run that was stopped goes on
    where it was, at its row range or its fit, when the same command is typed again. Ctrl-C ends a run after the row
    range that it is at; a second one, or one while it fits, ends it at once.

    \b
    Examples:
      probekit run specs/digits.yaml
      probekit run spec.yaml -o runs/seed1 --set splits.seed=1
    """
    from probekit.results import FAILED
    from probekit.run import Console, run_spec
    from probekit.spec import load_spec

    loaded = load_spec(spec, plugins, settings, trust_code=trust_code)
    directory = output if output is not None else Path("runs") / loaded.spec.name
    width, colour = terminal_size()
    with progress(quiet=quiet) as tell:
        console = Console(tell, width, colour, say=say, isolate=not in_process, processes=processes)
        with stopping_after_range(console.stop):
            outcome = run_spec(loaded, plugins, directory, console, 0.0 if no_wait else lock_timeout)
    for text in outcome.printed.values():
        click.echo(text, nl=False)
    click.echo(f"{outcome.directory}: {', '.join(sorted(p.name for p in directory.iterdir() if p.is_file()))}")
    if not outcome.result.probes:
        raise InputError(*(Problem("PK-X01", f"{FAILED}{text}") for text in outcome.failures))
    if outcome.unwritten:
        raise MachineError(*outcome.unwritten)
    if outcome.failures:
        sys.exit(1)


@cli.command()
@_spec_argument
@_settings
@_trust
@with_plugins
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def plan(spec: str, settings: tuple[str, ...], trust_code: bool, plugins: Plugins, as_json: bool) -> None:
    """Say what a run would do: what the store holds, what is stale and why, what the rest costs.

    A few rows are run through the model to see shapes and speed; nothing is kept.
    """
    from probekit.planning import make_plan, plan_lines
    from probekit.spec import load_spec

    loaded = load_spec(spec, plugins, settings, trust_code=trust_code)
    try:
        made = make_plan(loaded.spec)
    except UserError as error:
        raise type(error)(*map(loaded.placed, error.problems)) from error
    if as_json:
        click.echo(json.dumps(made.to_json(), indent=1))
        return
    for line in plan_lines(made):
        click.echo(line)


@cli.command()
@click.argument("model", type=click.Path())
@click.option("--match", "pattern", default="*", show_default=True, help="Only names that this pattern matches.")
@_settings
@_trust
@with_plugins
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def taps(
    model: str,
    pattern: str,
    settings: tuple[str, ...],
    trust_code: bool,
    plugins: Plugins,
    as_json: bool,
) -> None:
    """List what can be tapped in MODEL, an .onnx file or a spec, and what cannot, with the reason.

    \b
    Examples:
      probekit taps model.onnx --match '*Relu*'
      probekit taps specs/fashion_convnet_torch.yaml --trust-code
    """
    from probekit.listing import list_taps, tap_lines

    found = list_taps(model, plugins, settings, trust_code=trust_code)
    chosen: dict[str, Sequence[Tap]] = {
        name: [t for t in some if _matches(pattern, t.name)] for name, some in found.items()
    }
    if not any(chosen.values()):
        names = [tap.name for some in found.values() for tap in some]
        hint = nearest(pattern.replace("*", "").replace("?", ""), names, "tensors")
        raise SpecError(Problem("PK-Y36", f"no tensor's name matches {pattern!r}", hint))
    if as_json:
        click.echo(json.dumps({name: [vars(tap) for tap in some] for name, some in chosen.items()}, indent=1))
        return
    width, _ = terminal_size()
    for name, some in chosen.items():
        for line in tap_lines(name if len(chosen) > 1 else "", some, width):
            click.echo(line)


@cli.command()
@click.argument("specs", nargs=-1, required=True, type=click.Path())
@_settings
@_trust
@with_plugins
@click.option("--output-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def validate(
    specs: tuple[str, ...],
    settings: tuple[str, ...],
    trust_code: bool,
    plugins: Plugins,
    output_format: str,
) -> None:
    """Say everything that is wrong with SPECS. No model is loaded and no data is read.

    An unset ${VARIABLE} and code that is not trusted are warnings here; run refuses them.
    """
    from probekit.spec.load import SOFT, check_spec, refusal

    problems: list[Problem] = []
    codes = {0}
    for spec in specs:
        try:
            found = check_spec(spec, plugins, settings, trust_code=trust_code).problems
        except UserError as error:
            problems += error.problems
            codes.add(error.exit_code)
        else:
            problems += found
            stops = [problem for problem in found if problem.code not in SOFT]
            codes |= {refusal(stops).exit_code} if stops else set()
    hard = [problem for problem in problems if problem.code not in SOFT]
    if output_format == "json":
        click.echo(json.dumps([_as_json(problem) for problem in problems], indent=1))
    else:
        for problem in problems:
            click.echo(f"{'error' if problem in hard else 'warning'} {problem.code} {problem}", err=True)
        if not hard:
            click.echo(f"{len(specs)} {'spec is' if len(specs) == 1 else 'specs are'} valid")
    # What the spec's author can mend comes before what the machine lacks.
    sys.exit(min(codes - {0}, default=0))


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), help="File to write instead of printing.")
@click.option("--table", is_flag=True, help="A Markdown table of all keys and defaults instead of the JSON Schema.")
@with_plugins
def schema(out: Path | None, table: bool, plugins: Plugins) -> None:
    """Print the JSON Schema of a spec, with the kinds of all installed plugins."""
    from probekit.spec.reference import json_schema, reference

    text = reference(plugins) if table else json.dumps(json_schema(plugins), indent=1) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"cannot write to {str(out)!r}: {error.strerror}"
        raise MachineError(Problem("PK-R13", what, "name another file with --out")) from error


def _matches(pattern: str, name: str) -> bool:
    from probekit.taps import matches

    return pattern in ("*", name) or matches(pattern, name)


def _as_json(problem: Problem) -> dict[str, Any]:
    from probekit.spec.load import SOFT

    keys = {"code": problem.code, "severity": "warning" if problem.code in SOFT else "error", "path": problem.file}
    return keys | {
        "line": problem.line, "col": problem.column, "field": problem.field, "message": problem.what,
        "hint": problem.hint,
    }  # fmt: skip


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - as signal handlers are called
    raise SystemExit(143)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    click.echo(f"warning: {message}", err=True)


def main() -> None:
    """Run the command line; every way out has a documented exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    warnings.showwarning = _show_warning
    debug, stdout = "--debug" in sys.argv, sys.stdout
    try:
        cli.main(args=[arg for arg in sys.argv[1:] if arg != "--debug"], prog_name="probekit", standalone_mode=False)
    except SystemExit:
        if sys.stdout is not stdout:
            sys.exit(0)  # click puts another one there when the reader has gone, as with `| head`
        raise
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"interrupted; what was extracted is kept. To go on, type: {shlex.join(_typed())}", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except Exception as error:
        if debug:
            traceback.print_exc()
        problems, code = _mendable(error)
        for problem in problems:
            click.echo(f"error {problem.code} {problem}", err=True)
        if not problems:
            click.echo(f"this is a fault of probekit; the details are in {_crash_file()}", err=True)
        sys.exit(code)


def _typed() -> list[str]:
    return ["probekit", *sys.argv[1:]]


def _mendable(error: Exception) -> tuple[tuple[Problem, ...], int]:
    """Return what the user can mend and the exit code."""
    if isinstance(error, UserError):
        return error.problems, error.exit_code
    if isinstance(error, MemoryError):
        problem = Problem(
            "PK-R03", f"memory is too small: {str(error) or 'no more is free'}", "use fewer taps, or {kind: pool}"
        )
        return (problem,), MachineError.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        problem = Problem("PK-R01", f"cannot write {error.filename or 'a file'}: {error.strerror}", "free some space")
        return (problem,), MachineError.exit_code
    from probekit.plugins.sources import blamed

    plugin = blamed(error)
    if plugin is not None:
        what = f"plugin {plugin} raised {_last_line(error)}; the details are in {_crash_file()}"
        return (Problem("PK-G02", what, "tell its author, or leave out what needs it"),), MachineError.exit_code
    return (), 70


def _last_line(error: Exception) -> str:
    """Return an error's type and text; of another process's error the end of its traceback."""
    from probekit.isolation import CrashedError

    if isinstance(error, CrashedError):
        return str(error).strip().splitlines()[-1]
    return f"{type(error).__name__}: {error}"


def _crash_file() -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix="probekit-crash-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
    ) as file:
        file.write(f"probekit {__version__}\n{' '.join(sys.argv)}\n\n{traceback.format_exc()}")
    return file.name
