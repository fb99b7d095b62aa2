"""What probekit itself provides, as entry points would say it."""

from __future__ import annotations

GROUP = "probekit"
"""The group of entry points."""
LISTENER = "listener"
FINDING = "finding"
CORE = "probekit-platform"
"""The distribution that provides the built-in kinds."""

FINDINGS = (
    "best_tap", "gain", "earliest_tap", "model_error", "monotonicity", "information", "losing", "dead_segment",
    "fading_segment", "auxiliary_head", "overfitting", "capacity", "selectivity", "random_weights", "path_end",
    "missed", "unfit_features", "projection_cost",
)  # fmt: skip
"""The built-in findings, in the order in which those of one severity are told."""

SEVERITIES = ("problem", "warning", "notice", "info")
"""Of findings, the most severe first."""

BUILT_IN = {
    "backend.onnx": "probekit.backends.onnx",
    "backend.torch": "probekit.backends.torch",
    "dataset.arrays": "probekit.data.arrays",
    "dataset.digits": "probekit.data.arrays",
    "dataset.idx": "probekit.data.idx",
    "dataset.images": "probekit.data.images",
    "factor.bins": "probekit.data.factors",
    "factor.column": "probekit.data.factors",
    "factor.group": "probekit.data.factors",
    "factor.multilabel": "probekit.data.yes_no",
    "factor.number": "probekit.data.numbers",
    "factor.table": "probekit.data.factors",
    "reduction.flatten": "probekit.reductions.data_free",
    "reduction.pca": "probekit.reductions.pca",
    "reduction.pool": "probekit.reductions.data_free",
    "reduction.project": "probekit.reductions.data_free",
    "reduction.select": "probekit.reductions.data_free",
    "reduction.subset": "probekit.reductions.data_free",
    "probe.linear": "probekit.probes.linear",
    "control.control_task": "probekit.data.controls",
    "control.random_weights": "probekit.data.controls",
    "control.shuffled_labels": "probekit.data.controls",
    "report.csv": "probekit.report.files",
    "report.html": "probekit.report.html",
    "report.json": "probekit.report.files",
    "report.markdown": "probekit.report.markdown",
    "report.terminal": "probekit.report.terminal",
    "executor.local": "probekit.executors",
    **{f"finding.{name}": f"probekit.findings.{name}" for name in FINDINGS},
}

FIRST_PARTY = {
    "backend.openvino": "./plugins/probekit-openvino",
    "backend.toy": "./plugins/probekit-toy",
    "dataset.toy_blobs": "./plugins/probekit-toy",
    "factor.toy_parity": "./plugins/probekit-toy",
}
"""Kinds that distributions in probekit's own source tree provide, and how pip finds them there."""
