"""``probekit export``: a run's ONNX model with one of its probes."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--tap", required=True, help="The tap, as results call it, or the tensor's own name.")
@click.option("--factor", required=True, help="The label factor.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .onnx file to write.")
@click.option("--reduction", help="Where the tap has several.")
@click.option("--probe", help="Where the run has several.")
@click.option("--model", help="Where the run has several.")
@click.option("--checkpoint", help="Where the model has several.")
@click.option("--control", help="A control's probe.  [default: that of the true labels]")
@click.option("--seed", type=int, help="Of the control, where it was drawn several times.")
@click.option(
    "--model-path", type=click.Path(path_type=Path), help="The model's file.  [default: where the run found it]"
)
@click.option("--early-exit", is_flag=True, help="Leave out the model's own outputs and all that the probe needs not.")
@click.option("--float64", is_flag=True, help="Compute the probe's product in float64.")
def export(
    run: Path,
    tap: str,
    factor: str,
    output: Path,
    reduction: str | None,
    probe: str | None,
    model: str | None,
    checkpoint: str | None,
    control: str | None,
    seed: int | None,
    model_path: Path | None,
    early_exit: bool,
    float64: bool,
) -> None:
    """Write the ONNX model of the run directory RUN with a probe's probabilities as one more output.

    The new model is compared with the run's own and the saved probe on made examples; where they differ, nothing is
    written.

    \b
    Examples:
      probekit export runs/digits --tap linear --factor parity -o with_probe.onnx
      probekit export runs/digits --tap relu_1 --factor digit --reduction pool -o exit.onnx --early-exit
    """
    from probekit.saved.loaded import load_probe
    from probekit.saved.onnx_export import export_onnx

    loaded = load_probe(
        run, tap, factor, reduction=reduction, probe=probe, model=model, checkpoint=checkpoint, control=control,
        seed=seed,
    )  # fmt: skip
    made = export_onnx(loaded, output, model_path=model_path, early_exit=early_exit, float64=float64)
    size = "the value" if loaded.task == "number" else f"{len(loaded.classes_)} probabilities"
    beside = f" and {made.data.name}" if made.data is not None else ""
    click.echo(f"{output}{beside}: output {made.output!r} ({size} of {factor!r})")
    for mask, name in made.inputs.items():
        click.echo(f"input {name!r}: the mask {mask!r}, true where a position counts")
    click.echo(f"largest difference from the saved probe on {made.rows} made rows: {made.difference:.1e}")
