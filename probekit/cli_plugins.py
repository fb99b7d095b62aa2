"""``probekit plugins``, and the option that switches a plugin off."""

from __future__ import annotations

import json

import click

from probekit.errors import Problem, SpecError, UserError, nearest

no_plugin = click.option(
    "--no-plugin", "without", multiple=True, metavar="NAME",
    help="Switch an installed plugin off, by its distribution's name; several may be.",
)  # fmt: skip
"""For every command that loads plugins: gives ``without``, for :class:`probekit.plugins.Plugins`."""


@click.command()
@click.argument("names", nargs=-1)
@click.option("--load", is_flag=True, help="Import them, to see whether they work.")
@no_plugin
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def plugins(names: tuple[str, ...], load: bool, without: tuple[str, ...], as_json: bool) -> None:
    """List the kinds that a spec can name, and who provides them; of the distributions NAMES, else of all.

    Nothing is imported without --load. What is switched off is listed as such.

    \b
    Examples:
      probekit plugins
      probekit plugins probekit-toy --load
    """
    from packaging.utils import canonicalize_name

    from probekit.plugins import Plugins

    found = Plugins(without=without)
    wanted = {str(canonicalize_name(name)) for name in names}
    listed = [*found.providers, *found.off]
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
        status = f"switched off {found.off[provider]}" if provider in found.off else ""
        if load and not status:
            try:
                found.check(provider)
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
