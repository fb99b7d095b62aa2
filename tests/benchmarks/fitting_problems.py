"""The problems that fits are timed on: taps of real networks, read through specs into a feature store, and made ones.

Nothing here is run by itself.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import ROOT

from probekit.components import FeatureMatrix, Target

SPECS = ROOT / "specs"
DATA = SPECS / "data"


@dataclass(frozen=True)
class Problem:
    """One head.

    Args:
        name: of the tap.
        features: of the training rows, float32, C-contiguous.
        codes: of the classes, each of which has a row, int64.
    """

    name: str
    features: np.ndarray
    codes: np.ndarray

    @property
    def classes(self) -> int:
        return int(self.codes.max()) + 1

    def __str__(self) -> str:
        rows, width = self.features.shape
        return f"{self.name}: N = {rows}, F = {width}, D = {self.classes}"

    def target(self) -> Target:
        """Return what a probe is asked; its choice of λ, where there is none to choose, costs next to nothing."""
        return make_target(self.codes)


def make_target(codes: np.ndarray, control: str | None = None, factor: str = "class") -> Target:
    """Return a target whose training rows are all rows, and whose valid rows are a hundred of them."""
    names = tuple(map(str, range(int(codes.max()) + 1)))
    rows = np.arange(len(codes))
    return Target(factor, names, codes, rows, rows[: min(100, len(rows))], control)


def synthetic(rows: int, width: int, classes: int, seed: int = 0) -> Problem:
    """Return ReLU features with a decaying spectrum, and labels drawn from a linear model of them."""
    rng = np.random.default_rng(seed)
    latent = min(width, 512)
    spread = (1.0 + np.arange(latent)) ** -0.5
    mixing = (rng.standard_normal((latent, width)) * spread[:, None]).astype(np.float32)
    shift = rng.standard_normal(width).astype(np.float32)
    features = np.empty((rows, width), np.float32)
    codes = np.empty(rows, np.int64)
    planted = (rng.standard_normal((width, classes)) * 3 / np.sqrt(width)).astype(np.float32)
    for start in range(0, rows, 4096):
        part = features[start : start + 4096]
        noise = rng.standard_normal((len(part), width), dtype=np.float32)
        part[:] = np.maximum(rng.standard_normal((len(part), latent), dtype=np.float32) @ mixing + shift + noise / 4, 0)
        logits = (part - part.mean(axis=0)) / part.std(axis=0) @ planted
        codes[start : start + 4096] = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    codes[:classes] = np.arange(classes)
    return Problem(f"synthetic, {classes} classes", features, codes)


# --- taps of real networks -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Read:
    """What a spec asks, extracted.

    Args:
        matrices: from the label of a tap to its features.
        targets: from a factor to what is asked of every tap.
    """

    matrices: Mapping[str, FeatureMatrix]
    targets: Mapping[str, Target]

    def problem(self, tap: str, factor: str, rows: int | None = None) -> Problem:
        """Return a tap's training rows, the first so many of them."""
        target = self.targets[factor]
        train = target.train[:rows]
        features = np.ascontiguousarray(self.matrices[tap].read(train))
        return Problem(tap, features, np.unique(target.codes[train], return_inverse=True)[1])


def read(spec: Path, settings: Sequence[str], store: Path) -> Read:
    """Extract what a spec asks into a store, and return it; what its reader should know of labels is left unsaid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _read(spec, settings, store)


def _read(spec: Path, settings: Sequence[str], store: Path) -> Read:
    from probekit.data.question import ask
    from probekit.features.digests import RowDigests
    from probekit.plugins import Plugins
    from probekit.reading import feature_rows, open_store, read_models
    from probekit.spec import load_spec

    settings = [*settings, f"store.path={store.resolve()}", "store.durability=fast"]
    loaded = load_spec(spec, Plugins(), settings, trust_code=True).spec
    asked = ask(loaded)
    readings = read_models(loaded, asked, RowDigests(asked.examples), open_store(loaded))
    question = asked.question(*feature_rows(loaded, asked, readings))
    (reading,) = readings
    reading.extraction.run()
    matrices = {one.label: reading.extraction.matrix(number) for number, one in enumerate(reading.sets)}
    return Read(matrices, {one.factor: one for one in question.targets if one.control is None})


FASHION = SPECS / "fashion_convnet_onnx.yaml"
FASHION_TAPS = {
    "conv1 pooled": "{match: conv2d, as: conv1 pooled, reductions: [pool]}",
    "conv2, 1000 random": "{match: conv2d_1, as: 'conv2, 1000 random', reductions: [random]}",
    "fc1": "{match: linear, as: fc1, reductions: [flatten]}",
    "relu1, raw": "{match: relu, as: 'relu1, raw', reductions: [flatten]}",
    "pool2, raw": "{match: max_pool2d_1, as: 'pool2, raw', reductions: [flatten]}",
}


def fashion(taps: Sequence[str], train: int, store: Path, dtype: str = "float32") -> Read:
    """Return taps of the paper's convnet over the first so many training images of Fashion-MNIST."""
    settings = [
        f"taps=[{', '.join(FASHION_TAPS[tap] for tap in taps)}]",
        "reductions={pool: {kind: pool}, flatten: {kind: flatten}, random: {kind: subset, features: 1000}}",
        f"splits.limit={{train: {train}, valid: 10, test: 10}}",
        "max_features=1000000",
        f"store.dtype={dtype}",
    ]
    return read(FASHION, settings, store)


def magika(store: Path) -> Read:
    """Return the pooled taps of Google's file-type classifier, over files."""
    return read(SPECS / "magika.yaml", ["splits={train: 0.8, valid: 0.1, test: 0.1, stratify: extension}"], store)


def _written(folder: Path, name: str, spec: Mapping[str, Any]) -> Path:
    """Write a spec as JSON, which is YAML."""
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({"probekit": 1, **spec}), encoding="utf-8")
    return path


def efficientnet(store: Path, rows: int | None = None) -> Read:
    """Return the pooled input and the 16 blocks of EfficientNet-Lite0, over emoji."""
    folder = DATA / "efficientnet_lite0"
    spec: dict[str, Any] = {
        "model": {
            "kind": "torch",
            "factory": f"{SPECS / 'models' / 'efficientnet_lite0_emoji_arrays.py'}:build",
            "batch_size": 32,
        },
        "data": {
            "kind": "arrays",
            "arrays": {"image": str(folder / "images.npy")},
            "columns": str(folder / "columns.csv"),
            "preprocess": {"scale": 1.0, "mean": [127.0] * 3, "std": [128.0] * 3},
        },
        "taps": [
            {"match": name, "layout": "NCHW"} for name in ("input", *(f"_blocks.{number}" for number in range(16)))
        ],
        "reduction": {"kind": "pool"},
        "labels": {
            "group": {"kind": "column", "column": "group"},
            "luminance": {"kind": "bins", "column": "luminance", "quantiles": 3},
        },
        "splits": {"train": 0.8, "valid": 0.1, "test": 0.1, "stratify": "group", "seed": 0},
    }
    if rows is not None:
        spec["splits"]["limit"] = {"train": rows, "valid": 20, "test": 20}
    return read(_written(store, "efficientnet", spec), [], store)


ENLARGED = {
    "efficientnet": [f"net._blocks.{number}" for number in range(16)],
    "resnet50": [
        f"net.layer{stage}.{number}" for stage, count in enumerate((3, 4, 6, 3), 1) for number in range(count)
    ],
}
"""By factory of ``fitting_networks.py``: its 16 blocks."""


def enlarged_fashion(store: Path, network: str, rows: int, reduction: Mapping[str, Any]) -> Read:
    """Return the input and the 16 blocks of a network, reduced, over so many enlarged images of Fashion-MNIST."""
    spec: dict[str, Any] = {
        "model": {
            "kind": "torch",
            "factory": f"{Path(__file__).parent / 'fitting_networks.py'}:{network}",
            "batch_size": 64,
        },
        "data": {
            "kind": "idx",
            "folder": "${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}",
            "parts": {"train": "train[:50000]", "valid": "train[50000:]", "test": "t10k"},
            "preprocess": {"scale": 1.0, "mean": [127.0], "std": [128.0]},
        },
        "taps": [{"match": name, "layout": "NCHW"} for name in ("input", *ENLARGED[network])],
        "reduction": dict(reduction),
        "labels": {
            "garment": {"kind": "column", "column": "label"},
            "worn": {
                "kind": "group", "column": "label",
                "groups": {"above": "0, 2, 3, 4, 6", "below": [1], "feet": "5, 7, 9", "carried": [8]},
            },
        },
        "splits": {"column": "split", "limit": {"train": rows, "valid": 20, "test": 20}},
    }  # fmt: skip
    return read(_written(store, f"enlarged_{network}", spec), [], store)


def mnist(store: Path) -> Read:
    """Return the layers of a small trained CNN over 5,000 MNIST digits, wide ones by 1000 random features."""
    folder = DATA / "mnist_cnn"
    names = ["input", "features.2", "features.5", "classifier.1"]
    spec = {
        "model": {"kind": "torch", "factory": f"{SPECS / 'models' / 'mnist_cnn_arrays.py'}:build"},
        "data": {
            "kind": "arrays",
            "arrays": {"image": str(folder / "images.npy")},
            "columns": str(folder / "columns.csv"),
            "preprocess": {"scale": 255.0, "mean": [0.1307], "std": [0.3081]},
        },
        "taps": [{"match": name} for name in names],
        "reduction": {"kind": "subset", "features": 1000},
        "labels": {"digit": {"kind": "column", "column": "digit"}},
        "splits": {"train": 0.9, "valid": 0.05, "test": 0.05, "stratify": "digit", "seed": 0},
    }
    return read(_written(store, "mnist", spec), [], store)


HOW_TO_MAKE = {
    "fashion": "apt-get install dataset-fashion-mnist",
    "magika": "pip install --no-deps magika==1.0.3 && python specs/models/magika_arrays.py",
    "efficientnet": "python specs/models/efficientnet_lite0_emoji_arrays.py (its first lines say what it needs)",
    "mnist": "python specs/models/mnist_cnn_arrays.py (its first lines say what it needs)",
}


def is_there(name: str) -> bool:
    """Return whether the data of a network has been made."""
    files = {
        "magika": DATA / "magika" / "model.onnx",
        "efficientnet": DATA / "efficientnet_lite0" / "images.npy",
        "mnist": DATA / "mnist_cnn" / "images.npy",
    }
    if name == "fashion":
        return any(Path("/usr/share/datasets/fashion-mnist").glob("train-images*"))
    return files[name].is_file()
