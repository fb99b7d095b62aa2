"""``probekit cache``: looking after the feature store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from probekit.store.feature_store import FeatureStore

_store_option = click.option(
    "--store", type=click.Path(), help="The store's folder.  [default: PROBEKIT_STORE, else the user's cache]"
)


@click.group()
def cache() -> None:
    """Look after the feature store."""


@cache.command("path")
@_store_option
def cache_path(store: str | None) -> None:
    """Print the store's folder."""
    from probekit.reading import store_path

    click.echo(store_path(store))


@cache.command("ls")
@_store_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def cache_ls(store: str | None, as_json: bool) -> None:
    """List the feature matrices of the store."""
    from datetime import UTC, datetime

    from probekit.planning import size

    entries = _store(store).entries()
    if as_json:
        click.echo(json.dumps([vars(entry) for entry in entries], indent=1))
        return
    for entry in entries:
        used = datetime.fromtimestamp(entry.used, UTC).strftime("%Y-%m-%d")
        shape = f"{entry.rows:,} x {entry.width:,} {entry.dtype}"
        click.echo(f"{entry.key[:12]}  {shape:>24}  {size(entry.bytes):>10}  used {used}  {entry.label}")
    click.echo(f"{len(entries)} feature matrices, {size(sum(entry.bytes for entry in entries))}")


@cache.command("verify")
@_store_option
def cache_verify(store: str | None) -> None:
    """Compare every file of the store with its digest; what is damaged is set aside and extracted again when needed."""
    problems = _store(store).check()
    for problem in problems:
        click.echo(f"warning {problem.code} {problem}", err=True)
    files = f"{len(problems)} {'file is' if len(problems) == 1 else 'files are'}"
    click.echo(f"{files} not what was written" if problems else "the store is sound")


@cache.command("gc")
@_store_option
@click.option(
    "--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Also features not used for so many days."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def cache_gc(store: str | None, older_than: float | None, dry_run: bool) -> None:
    """Remove what no run can use: unfinished files, damaged ones, and on request old features."""
    from probekit.planning import size

    files, count = _store(store).collect_garbage(older_than_days=older_than, dry_run=dry_run)
    click.echo(f"{'would remove' if dry_run else 'removed'} {files:,} files, {size(count)}")


def _store(path: str | None) -> FeatureStore:
    from probekit.reading import store_path
    from probekit.store.feature_store import FeatureStore

    return FeatureStore(store_path(path))
