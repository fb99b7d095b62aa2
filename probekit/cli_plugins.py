"""``probekit plugins``, and the options that name plugins."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import click

from probekit.errors import Problem, SpecError, UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

    from probekit.plugins import Plugins

_no_plugin = click.option(
    "--no-plugin", "without", multiple=True, metavar="NAME",
    help="Switch an installed plugin off, by its distribution's name; several may be.",
)  # fmt: skip
_plugin = click.option(
    "-p", "--plugin", "named", multiple=True, metavar="NAME",
    help="Use an installed plugin as if the spec required it, even where PROBEKIT_DISABLE_PLUGIN_AUTOLOAD is set.",
)  # fmt: skip


def with_plugins(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``-p`` and ``--no-plugin`` to a command; it is called with ``plugins``, what they leave."""

    @_plugin
    @_no_plugin
    @functools.wraps(command)
    def called(*values: Any, without: tuple[str, ...], named: tuple[str, ...], **others: Any) -> None:
        from probekit.plugins import Plugins

        command(*values, plugins=Plugins(without=without, named=named), **others)

    return called


@click.command()
@click.argument("names", nargs=-1)
@click.option("--load", is_flag=True, help="Import them, to see whether they work.")
@with_plugins
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def plugins(names: tuple[str, ...], load: bool, plugins: Plugins, as_json: bool) -> None:
    """List the kinds that a spec can name, and who provides them; of the distributions NAMES, else of all.

    Nothing is imported without --load. What is switched off is listed as such.

    \b
    Examples:
      probekit plugins
      probekit plugins probekit-toy --load
    """
    from packaging.utils import canonicalize_name

    wanted = {str(canonicalize_name(name)) for name in names}
    listed = [*plugins.providers, *plugins.off]
    known = {one.name: one.distribution for one in listed}
    unknown = [name for name in sorted(wanted) if name not in known]
    if unknown:
        raise SpecError(
            *(
                Problem("PK-Y41", f"no plugin {name!r} is installed", nearest(name, known.values(), "installed"))
                for name in unknown
            )
        )
    rows = []
    for provider in listed:
        if wanted and provider.name not in wanted:
            continue
        status = f"switched off {plugins.off[provider]}" if provider in plugins.off else ""
        if load and not status:
            try:
                plugins.check(provider)
                status = "works"
            except UserError as error:
                status = str(error)
        rows.append({**vars(provider), "status": status})
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        end = f"  {row['status']}" if row["status"] else ""
        click.echo(
            f"{row['category']:<10} {row['kind']:<12} {row['distribution']} {row['release']}  {row['module']}{end}"
        )
