"""The built-in datasets, label factors, reductions, probes, controls, reports, executors and findings pass the kit."""

import csv
import importlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from probekit.backends.torch import TorchBackend
from probekit.components import Control, Dataset, Executor, LabelFactor, Probe, Reduction, Report
from probekit.data.arrays import ArraysDataset, ArraysPreprocess, DigitsDataset
from probekit.data.controls import ControlTask, RandomWeights, ShuffledLabels
from probekit.data.factors import BinsFactor, ColumnFactor, GroupFactor, TableFactor
from probekit.data.idx import IdxDataset
from probekit.data.images import ImagesDataset
from probekit.data.numbers import NumberFactor
from probekit.data.yes_no import MultilabelFactor
from probekit.executors import LocalExecutor
from probekit.plugins import FINDINGS, Plugins
from probekit.probes.early import EarlyStopping
from probekit.probes.linear import LinearProbe
from probekit.reductions.data_free import (
    FlattenReduction,
    PoolReduction,
    ProjectReduction,
    SelectReduction,
    SubsetReduction,
)
from probekit.reductions.pca import PcaReduction
from probekit.report.files import CsvReport, JsonReport
from probekit.report.html import HtmlReport
from probekit.report.markdown import MarkdownReport
from probekit.report.terminal import TerminalReport
from probekit.testing import (
    ControlConformance,
    DatasetConformance,
    ExecutorConformance,
    FindingConformance,
    LabelFactorConformance,
    ProbeConformance,
    ReductionConformance,
    ReportConformance,
)

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 6, 5), dtype=np.uint8)


# --- datasets


def digits(_: Path) -> Dataset:
    return DigitsDataset()


def arrays(folder: Path) -> Dataset:
    np.savez(folder / "data.npz", image=PIXELS[:, None].astype(np.float32), label=np.arange(9) % 3)
    return ArraysDataset(arrays=str(folder / "data.npz"), preprocess=ArraysPreprocess(scale=255.0, mean=[0.5]))


def mapped_arrays(folder: Path) -> Dataset:
    np.save(folder / "image.npy", PIXELS)
    rows = [["id", "label"], *([f"n{n}", n % 2] for n in range(9))]
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return ArraysDataset(arrays={"image": str(folder / "image.npy")}, columns=str(folder / "labels.csv"))


def idx(folder: Path) -> Dataset:
    for begin in ("train", "t10k"):
        head = bytes([0, 0, 8, 3]) + struct.pack(">3I", *PIXELS.shape)
        (folder / f"{begin}-images-idx3-ubyte").write_bytes(head + PIXELS.tobytes())
        labels = (np.arange(9) % 3).astype(np.uint8)
        (folder / f"{begin}-labels-idx1-ubyte").write_bytes(
            bytes([0, 0, 8, 1]) + struct.pack(">I", 9) + labels.tobytes()
        )
    return IdxDataset(folder=str(folder))


def images(folder: Path) -> Dataset:
    for number, pixels in enumerate(PIXELS):
        path = folder / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return ImagesDataset(path=str(folder / "images"))


class TestDatasets(DatasetConformance):
    @pytest.fixture(params=[digits, arrays, mapped_arrays, idx, images])
    def dataset(self, request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
        made: Dataset = request.param(tmp_path)
        return made


# --- label factors


COLUMNS: dict[str, Any] = {
    "id": np.array(["a", "b", "c", "d", "e", "f"]),
    "word": np.array(["9", "10", "", "9", "11", "10"], dtype=object),
    "whole": np.array([1.0, 2.0, np.nan, 1.0, 2.0, 3.0]),
    "size": np.array([0.5, 1.5, np.nan, 2.5, 3.5, 0.1]),
    "loud": np.array([True, False, True, True, False, False]),
    "sung": np.array(["yes", "no", "", "yes", "yes", "no"], dtype=object),
}


class TestLabelFactors(LabelFactorConformance):
    @pytest.fixture(
        params=[
            ColumnFactor(column="word"), ColumnFactor(column="whole"),
            GroupFactor(column="word", groups={"few": "0-9", "many": ["10", "11"]}),
            BinsFactor(column="size", edges=[1.0, 2.0]), BinsFactor(column="size", quantiles=2),
            MultilabelFactor(columns=["loud", "sung"]), NumberFactor(column="size"),
        ],
        ids=lambda factor: factor.kind,
    )  # fmt: skip
    def factor(self, request: pytest.FixtureRequest) -> LabelFactor:
        made: LabelFactor = request.param
        return made

    @pytest.fixture
    def columns(self) -> dict[str, Any]:
        return {name: column.copy() for name, column in COLUMNS.items()}


class TestTableFactor(LabelFactorConformance):
    @pytest.fixture
    def factor(self, tmp_path: Path) -> LabelFactor:
        (tmp_path / "table.csv").write_text("id,label\na,x\nb,y\nc,x\nd,\n")
        return TableFactor(path=str(tmp_path / "table.csv"))

    @pytest.fixture
    def columns(self) -> dict[str, Any]:
        return dict(COLUMNS)


# --- reductions


class TestReductions(ReductionConformance):
    @pytest.fixture(
        params=[
            FlattenReduction(), PoolReduction(), PoolReduction(how="max"), PoolReduction(how="std", mask="kept"),
            SelectReduction(), SelectReduction(position=[-1, 0]), SelectReduction(position="last", mask="kept"),
            SubsetReduction(features=5), SubsetReduction(features=5, seeds=3), ProjectReduction(features=4, seeds=2),
            PcaReduction(features=3), PcaReduction(features=2, of=SubsetReduction(features=6, seeds=2)),
        ],
        ids=lambda reduction: reduction.kind,
    )  # fmt: skip
    def reduction(self, request: pytest.FixtureRequest) -> Reduction:
        made: Reduction = request.param
        return made


# --- probes


class TestProbes(ProbeConformance):
    @pytest.fixture(
        params=[
            LinearProbe(penalty=0.01, device="cpu"), LinearProbe(penalty=[0.1, 0.001], device="cpu"),
            LinearProbe(stopping="early", early=EarlyStopping(max_epochs=20, seed=1), device="cpu"),
        ],
        ids=["one penalty", "two penalties", "early"],
    )  # fmt: skip
    def probe(self, request: pytest.FixtureRequest) -> Probe:
        made: Probe = request.param
        return made


# --- controls


class TestControls(ControlConformance):
    @pytest.fixture(
        params=[ShuffledLabels(seeds=3), ControlTask(by="word"), RandomWeights(seed=4)],
        ids=lambda control: control.kind,
    )
    def control(self, request: pytest.FixtureRequest) -> Control:
        made: Control = request.param
        return made

    @pytest.fixture
    def backend(self, specs: Path) -> TorchBackend:
        return TorchBackend(factory=f"{specs}/models/fashion_convnet.py:build", device="cpu")


# --- reports


class TestReports(ReportConformance):
    @pytest.fixture(
        params=[CsvReport(), HtmlReport(), JsonReport(), MarkdownReport(), TerminalReport()],
        ids=lambda report: report.kind,
    )
    def report(self, request: pytest.FixtureRequest) -> Report:
        made: Report = request.param
        return made


# --- executors


class TestExecutors(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> Executor:
        return LocalExecutor(processes=2)


# --- findings


class TestFindings(FindingConformance):
    @pytest.fixture(params=FINDINGS)
    def name(self, request: pytest.FixtureRequest) -> str:
        found: str = request.param
        return found

    @pytest.fixture
    def module(self, name: str) -> Any:
        return importlib.import_module(f"probekit.findings.{name}")

    @pytest.fixture
    def kinds(self, name: str) -> Sequence[str]:
        return [name]


# --- all of them


def test_every_built_in_kind_is_under_the_kit() -> None:
    """A kind that is built in later must be put under the kit, too."""
    under = {
        "backend": {"onnx", "torch"}, "dataset": {"arrays", "digits", "idx", "images"},
        "factor": {"bins", "column", "group", "multilabel", "number", "table"},
        "reduction": {"flatten", "pca", "pool", "project", "select", "subset"}, "probe": {"linear"},
        "control": {"control_task", "random_weights", "shuffled_labels"},
        "report": {"csv", "html", "json", "markdown", "terminal"}, "executor": {"local"},
    }  # fmt: skip
    plugins = Plugins()
    built_in = {
        category: {
            one.kind for one in plugins.providers if one.category == category and one.module.startswith("probekit.")
        }
        for category in under
    }
    assert built_in == under
