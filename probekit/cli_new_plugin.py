"""``probekit new-plugin``: a skeleton distribution to start a plugin from."""

from __future__ import annotations

from pathlib import Path

import click

KINDS = ("backend", "dataset", "factor", "reduction", "probe", "control", "report", "executor", "finding", "listener")
"""What a plugin can bring, as entry points spell it."""


@click.command("new-plugin")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What it brings.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The folder to make.  [default: NAME]")
def new_plugin(name: str, kind: str, output: Path | None) -> None:
    """Write a plugin that works, with tests that pass, for its author to change: the distribution NAME.

    \b
    Examples:
      probekit new-plugin probekit-mine --kind backend
      pip install -e ./probekit-mine && pytest ./probekit-mine
    """
    from probekit.authoring.skeleton import write_skeleton

    folder = output if output is not None else Path(name)
    for path in write_skeleton(name, kind, folder):
        click.echo(click.format_filename(path))
    shown = click.format_filename(folder)
    click.echo(f"now type: pip install -e {shown} && pytest {shown}")
