"""Results made by hand as large as those of a run, for the page's size."""

import itertools

from probekit.results import (
    ClassErrorRecord,
    ConfusionRecord,
    FindingRecord,
    GraphRecord,
    InformationRecord,
    IntervalRecord,
    MistakesRecord,
    PairedRecord,
    TapRecord,
    TwinRecord,
)


def ranged(value, split="test", kind="wilson"):
    return {split: IntervalRecord(low=max(0, value - 0.02), high=value + 0.02, kind=kind, over="examples", n=629)}


def mistaken(error):
    """Return five worst classes and pairs."""
    classes = ["T-shirt", "Trouser", "Pullover", "Sandal", "Ankle boot"]
    pairs = itertools.pairwise([*classes, classes[0]])
    return MistakesRecord(
        split="test",
        worst=[ClassErrorRecord(name=name, error=error, interval=ranged(error)["test"], n=63) for name in classes],
        confused=[ConfusionRecord(true=a, predicted=b, count=12, share=0.1905) for a, b in pairs],
    )


def of_run(make, probe, fit, names, *, factors=("digit",), checkpoints=(None,), warnings=(), counts=(63,) * 10):
    """Return a result as a run gives it: fits, intervals, steps, information, the graph with skips, findings.

    Args:
        make, probe, fit: the fixtures.
        names: of the taps.
        factors, checkpoints: each is asked, at each.
        warnings: of the run.
        counts: test rows of each class.
    """
    errors = [0.9 * (1 - i / (len(names) + 1)) for i in range(len(names))]
    probes, steps, told = [], [], []
    whose = [(factor, checkpoint) for checkpoint in checkpoints for factor in factors]
    for factor, checkpoint in whose:
        same = {"model": "default", "checkpoint": checkpoint, "reduction": "pool", "factor": factor, "probe": "default"}
        for i, (name, error) in enumerate(zip(names, errors, strict=True)):
            path = fit(2.302585, 1.934523, 1.511234, 1.234567, 1.1023, 1.0534, 1.2034)
            probes.append(probe(
                name, error, factor=factor, checkpoint=checkpoint, fit=path, intervals={"error": ranged(error)},
                rows={"train": 899, "valid": 269, "test": 629}, mistakes=mistaken(error),
                scores={metric: {"train": 0.1, "valid": error, "test": error} for metric in
                        ("error", "balanced_error", "top5_error", "cross_entropy")},
            ))  # fmt: skip
            told.append(InformationRecord(
                **same, tap=name, answer="yes" if i else "cannot_tell", gain=2.3 * (1 - error), of_chance=1 - error,
                interval=ranged(error)["test"], p=0.001, p_adjusted=0.01,
            ))  # fmt: skip
            if i:
                steps.append(PairedRecord(
                    **same, control=None, seed=0, before=names[i - 1], before_reduction="pool", after=name,
                    metric="error", difference=-0.0123,
                    interval=IntervalRecord(low=-0.03, high=0.002, kind="newcombe", over="examples", n=629),
                    test="mcnemar_exact", p=0.012, p_adjusted=0.034 if i % 2 else 0.34, only_before_wrong=21,
                    only_after_wrong=13, n=629,
                ))  # fmt: skip
    taps = [
        TapRecord(
            model="default", tap=name, name=f"/net/{name}_output_0", op="Relu" if i else "Input", shape=[64, 8, 8],
            dtype="float32", layout="NCHW", depth=i,
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    edges = [["default", a, b] for a, b in itertools.pairwise(names)]
    edges += [["default", names[i], names[i + 3]] for i in range(0, len(names) - 3, 4)]
    findings = [
        FindingRecord(kind="overfitting", severity="warning", sentence="Train is far below valid.", model="default",
                      checkpoint=checkpoints[-1], factor=factors[0], probe="default", taps=list(names[-2:])),
        FindingRecord(kind="best_tap", severity="info", sentence="The best tap is said by the verdict.",
                      model="default", checkpoint=checkpoints[-1], factor=factors[0], probe="default"),
        FindingRecord(kind="earliest_tap", severity="info", sentence="It stops improving at the last tap.",
                      model="default", checkpoint=checkpoints[-1], factor=factors[0], probe="default"),
        FindingRecord(kind="gain", severity="notice", sentence="The gain over the input is 80 points."),
    ]  # fmt: skip
    result = make(probes, own=0.12, warnings=warnings)
    counts = {"train": [100] * 10, "valid": [10] * 10, "test": list(counts)}
    labels = {name: {**one, "counts": counts} for name, one in result.provenance["labels"].items()}
    checks = {"second_pass": dict.fromkeys(names, 1.2e-7), "against_unoptimised": dict.fromkeys(names, 3.4e-7)}
    models = {"default": {"backend": {"kind": "onnx", "path": "model.onnx"}, "fingerprint": "0" * 32, "checks": checks}}
    plugins = [
        {"kind": f"reduction.kind{i}", "distribution": "probekit-platform", "version": "0.1.0", "module": "probekit.x"}
        for i in range(30)
    ]
    spec = {**result.provenance["spec"], "text": "\n".join(f"key{i}: {'value ' * 8}" for i in range(60))}
    provenance = {**result.provenance, "labels": labels, "models": models, "plugins": plugins, "spec": spec}
    return result.model_copy(
        update={
            "comparisons": steps,
            "information": told,
            "findings": findings,
            "graph": GraphRecord(taps=taps, edges=edges),
            "provenance": provenance,
        }
    )


def with_everything(result, probe):
    """Return such a result with all that makes its page long: controls of all kinds, and many findings.

    Args:
        result: of :func:`of_run`, one factor and checkpoint.
        probe: the fixture.
    """
    same = {"rows": result.probes[0].rows, "certificate": result.probes[0].certificate}
    controls, twins = [], []
    for one in result.probes:
        error = one.error["test"]
        for control, seed in (("shuffled_labels", 0), ("control_task by word", 0), ("random_weights", 0)):
            controls.append(
                probe(one.tap, 0.87, control=control, seed=seed, intervals={"error": ranged(0.87)}, **same)
            )  # fmt: skip
        twins.append(TwinRecord(
            **one.place(), control="random_weights", seeds=[0], metric="error", trained=error, twin=0.87, low=0.87,
            high=0.87, difference=error - 0.87, test="mcnemar_exact", p=0.0012, p_adjusted=0.034, n=629, missed=False,
            interval=IntervalRecord(low=-0.1, high=0.1, kind="newcombe", over="examples", n=629),
        ))  # fmt: skip
    sentence = (
        "The probe for digit at block3.add5 is worse than that at block3.norm4 before it by 1.2 points (95 % interval "
        "0.2 to 2.3 points, paired; p = 0.012 by McNemar's exact test): a linear probe can use less of it there."
    )
    findings = [
        FindingRecord(kind=f"made{number}", severity=severity, sentence=f"{number}: {sentence}", model="default",
                      factor="digit", probe="default", taps=[one.tap for one in result.probes[number : number + 4]])
        for number, severity in enumerate(["warning", "notice", "info"] * 4)
    ]  # fmt: skip
    update = {"probes": [*result.probes, *controls], "twins": twins, "findings": [*result.findings, *findings]}
    return result.model_copy(update=update)
