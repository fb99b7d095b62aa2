"""``probekit parity``: whether two backends give the same features."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from probekit.cli_plugins import with_plugins

if TYPE_CHECKING:
    from probekit.plugins import Plugins

FORMATS = ("terminal", "md", "json")


@click.command()
@click.argument("spec_a", metavar="SPEC", type=click.Path())
@click.argument("spec_b", metavar="[SPEC_B]", type=click.Path(), required=False)
@click.option("--models", nargs=2, metavar="A B", help="The reference and the other, each MODEL or MODEL@CHECKPOINT.")
@click.option("--map", "taps", multiple=True, metavar="TAP_A=TAP_B", help="Two taps that belong together.")
@click.option("--rows", type=click.IntRange(min=1), default=256, show_default=True, help="Examples to run.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draw of the examples.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=1e-4, show_default=True,
    help="The largest difference that counts as the same, as a share of a tap's scale.",
)  # fmt: skip
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one value of the spec, of both where two are."
)
@click.option("--trust-code", is_flag=True, help="Run code that a spec names (torch factories, .pt2 programs).")
@with_plugins
@click.option("--format", "form", type=click.Choice(FORMATS), default="terminal", show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def parity(
    spec_a: str,
    spec_b: str | None,
    models: tuple[str, str] | None,
    taps: tuple[str, ...],
    rows: int,
    seed: int,
    tolerance: float,
    settings: tuple[str, ...],
    trust_code: bool,
    plugins: Plugins,
    form: str,
    quiet: bool,
) -> None:
    """Say, tap by tap, how far the features of two models are apart on the same inputs.

    Of one spec, each other model is compared with the first one; of two specs, the model of the second with that of the
    first, both on the first one's data. Taps are aligned by name. Nothing is written to the store.

    A difference is a share of the tap's scale, the root mean square of the reference's features. Exit code 0 says that
    all compared taps are the same, 1 that one is apart.

    \b
    Examples:
      probekit parity specs/fashion_three_runtimes.yaml --trust-code
      probekit parity specs/fashion_convnet_torch.yaml specs/fashion_convnet_onnx.yaml --trust-code
      probekit parity spec.yaml --models float int8 --tolerance 0.05 --format md
    """
    from probekit.parity.check import check_parity
    from probekit.parity.sides import choose_sides
    from probekit.spec import load_spec
    from probekit.terminal import progress, show, terminal_size

    files = [spec_a, *([spec_b] if spec_b is not None else [])]
    loaded = [load_spec(file, plugins, settings, trust_code=trust_code) for file in files]
    with progress(quiet=quiet) as tell:
        result = check_parity(choose_sides(loaded, models), taps, rows, seed, tolerance, tell)
    if form == "json":
        click.echo(result.to_json().encode(), nl=False)
    elif form == "md":
        from probekit.parity.markdown import render as markdown

        click.echo(markdown(result).encode(), nl=False)
    else:
        from probekit.parity.terminal import render

        show(render(result, *terminal_size()))
    if not result.same:
        sys.exit(1)
