"""What tapping costs beside the forward pass that it rides on: ResNet-50, its input and its 16 residual sums.

    python tests/benchmarks/extraction.py [--quick] [--pairs 9] [--batch 16] [--only NAME,...]

Needs specs/data/resnet50.onnx (python specs/models/resnet50_onnx.py makes it; random weights will do). Every contender
is timed in turns with the bare forward pass of its own runtime, default options, on one batch of made images that lies
in memory. Peak memory is that of a fresh process that opens one contender and passes three batches. onnx-extraction is
a whole extraction into a store on disk, one row range with all that is written (durability full), with the bare pass
between its batches. Takes 12 minutes on 2 cores; --quick takes one and says little.
"""

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import (
    NO_MODEL,
    RESNET50,
    OwnTime,
    Pairs,
    how_to_make_resnet50,
    interleave,
    megabytes,
    print_machine,
    print_table,
    run_child,
    tell_parent,
    timed,
    verdict,
)

# Heavy modules are imported where they are used: what a child process imports counts as its memory.

SIDE = 224
SUMS = 16
FEATURES = 1000
CHILD_BATCHES = 3

Arrays = list[np.ndarray]
Pass = Callable[[], Any]
"""One batch; returns the features, or an OwnTime with them."""


def made_batch(size: int) -> np.ndarray:
    """Return made images, the same every time."""
    return np.random.default_rng(0).standard_normal((size, 3, SIDE, SIDE), dtype=np.float32)


# --- ours ------------------------------------------------------------------------------------------------------------


def our_backend(runtime: str, batch: int) -> Any:
    if runtime == "onnx":
        from probekit.backends.onnx import OnnxBackend

        return OnnxBackend(path=str(RESNET50), batch_size=batch)
    if runtime == "openvino":
        from probekit_openvino.backend import OpenvinoBackend

        return OpenvinoBackend(path=str(RESNET50), batch_size=batch)
    from probekit.backends.torch import TorchBackend

    return TorchBackend(factory="torchvision:resnet50", batch_size=batch)


def our_wanted(runtime: str, runner: Any, how: str) -> list[Any]:
    """Return what a spec of these taps would ask for; `early` is the last residual sum of the first stage, pooled."""
    from probekit.features.trial import try_taps
    from probekit.reductions.assign import assign_reductions
    from probekit.reductions.data_free import PoolReduction, SubsetReduction
    from probekit.spec import TapEntry
    from probekit.taps import choose_taps

    # In torch a residual sum is what the block's third ReLU takes. In OpenVINO a convolution's bias is added, too.
    sums = {
        "onnx": lambda: TapEntry(op="Add"),
        "openvino": lambda: TapEntry(match=sum_names()),
        "torch": lambda: TapEntry(match="layer?.*.relu#2:in"),
    }[runtime]()
    rows = np.arange(len(runner.examples))
    graph = runner.backend.graph(runner.example(rows))
    chosen = choose_taps([TapEntry(match="input"), sums], graph, 100)
    if len(chosen) != SUMS + 1:
        raise RuntimeError(f"{len(chosen)} taps: {[one.label for one in chosen]}")
    if how == "early":
        chosen = chosen[3:4]
    reduction = SubsetReduction(features=FEATURES) if how == "random" else PoolReduction()
    trial = try_taps(runner, chosen, rows)
    return [one.wanted for one in assign_reductions(trial.taps, {"some": reduction}, 20_000)]


@contextmanager
def ours(runtime: str, how: str, images: np.ndarray) -> Iterator[Pass]:
    from probekit.components import Examples
    from probekit.features.runner import Runner

    runner = Runner(our_backend(runtime, len(images)), Examples({}, {"image": images}))
    feed = runner.read(np.arange(len(images))).feed
    with runner.backend.open_reduced(our_wanted(runtime, runner, how)) as run:
        yield lambda: run(feed, {})


@contextmanager
def an_extraction(images: np.ndarray, rows: int | None) -> Iterator[tuple[Any, float]]:
    """Give an extraction of made examples into a new store, and the seconds that the examples' digests took.

    Args:
        images: one batch; the examples repeat it, each with its own number as its first pixel.
        rows: of the dataset; None for one row range.
    """
    from probekit.components import Examples
    from probekit.features.extraction import Extraction
    from probekit.features.plan import range_rows
    from probekit.features.runner import Runner
    from probekit.store.feature_store import FeatureStore

    class Repeated(Examples):
        def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
            found = images[rows % len(images)]
            found[:, 0, 0, 0] = rows
            return {"image": found}

    def examples(count: int) -> Examples:
        return Repeated({"id": np.arange(count).astype(str)}, input_names=["image"])

    runner = Runner(our_backend("onnx", len(images)), examples(len(images)))
    wanted = our_wanted("onnx", runner, "pool")
    count = rows or range_rows(wanted, len(images))
    runner = Runner(runner.backend, examples(count))
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(Path(folder), durability="full")
        store.prepare()
        begun = time.perf_counter()
        runner.digests(np.arange(count))
        digests = time.perf_counter() - begun
        labels = [one.tap.name for one in wanted]
        yield Extraction("resnet50", runner, wanted, labels, np.arange(count), store, workers=2), digests


@dataclass(frozen=True)
class WholeExtraction:
    """What a whole extraction took.

    Args:
        pairs: batch by batch; the last one's time holds the writing of the range.
        before: seconds from its start to the end of its first batch: sessions, and the checks on 16 rows.
        digests: seconds for the digests of all examples.
        rows: examples.
    """

    pairs: Pairs
    before: float
    digests: float
    rows: int


def measure_extraction(bare: Pass, images: np.ndarray, rows: int | None) -> WholeExtraction:
    """Run an extraction, with a bare pass after each of its batches but the first."""
    took: list[float] = []
    between: list[float] = []
    with an_extraction(images, rows) as (extraction, digests):
        mark = time.perf_counter()

        def tell(*_: Any) -> None:
            nonlocal mark
            took.append(time.perf_counter() - mark)
            if len(took) > 1:
                between.append(timed(bare))
            mark = time.perf_counter()

        extraction.run(tell)
        return WholeExtraction(Pairs(between, took[1:]), took[0], digests, len(extraction.rows))


# --- the bare passes, and what a user would pick instead -------------------------------------------------------------


def ort_session(model: Any) -> Any:
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@contextmanager
def onnx_bare(images: np.ndarray) -> Iterator[Pass]:
    session = ort_session(str(RESNET50))
    feed = {session.get_inputs()[0].name: images}
    names = [session.get_outputs()[0].name]
    yield lambda: session.run(names, feed)


def sum_names() -> list[str]:
    import onnx

    return [node.output[0] for node in onnx.load(RESNET50).graph.node if node.op_type == "Add"]


def with_sums_as_outputs() -> tuple[bytes, list[str]]:
    import onnx

    model, names = onnx.load(RESNET50), sum_names()
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return model.SerializeToString(), names


@contextmanager
def onnx_raw(images: np.ndarray) -> Iterator[Pass]:
    content, names = with_sums_as_outputs()
    session = ort_session(content)
    del content
    feed = {session.get_inputs()[0].name: images}
    yield lambda: [array.mean(axis=(2, 3)) for array in (images, *session.run(names, feed))]


@contextmanager
def onnx_qdq(images: np.ndarray) -> Iterator[Pass]:
    """collect_activations keeps all batches and opens a session per call, so the second of two batches is timed.

    It saves what goes into an operator with what comes out: restricted to Add, the other 16 tensors come too. Its
    session is given the usual optimisations; by default it has none, and is slower.
    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization.qdq_loss_debug import collect_activations, modify_model_output_intermediate_tensors

    names = [node.output[0] for node in onnx.load(RESNET50).graph.node if node.op_type == "Add"]
    channels = [256] * 3 + [512] * 4 + [1024] * 6 + [2048] * 3

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "augmented.onnx")
        modify_model_output_intermediate_tensors(str(RESNET50), path, op_types_for_saving=["Add"])
        field = ort_session(path).get_inputs()[0].name

        def batches(times: list[float]) -> Iterator[dict[str, np.ndarray]]:
            for _ in range(2):
                times.append(time.perf_counter())
                yield {field: images}
            times.append(time.perf_counter())

        def call() -> OwnTime:
            times: list[float] = []
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            found = collect_activations(path, batches(times), session_options=options)
            begun = time.perf_counter()
            shaped = [found[name][1].reshape(len(images), c, -1) for name, c in zip(names, channels, strict=True)]
            means = [images.mean(axis=(2, 3)), *(array.mean(axis=2) for array in shaped)]
            return OwnTime(means, times[2] - times[1] + time.perf_counter() - begun)

        yield call


def openvino_request(model: Any) -> Any:
    """Its defaults but for float32: where the machine is faster at bfloat16, OpenVINO computes in that."""
    from probekit_openvino.quiet import ov  # without the usage statistics that its import would send

    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    return ov.Core().compile_model(model, "CPU", options).create_infer_request()


@contextmanager
def openvino_bare(images: np.ndarray) -> Iterator[Pass]:
    from probekit_openvino.quiet import ov

    request = openvino_request(ov.Core().read_model(RESNET50))
    yield lambda: list(request.infer([images], share_inputs=True).to_tuple())


@contextmanager
def openvino_raw(images: np.ndarray) -> Iterator[Pass]:
    from probekit_openvino.quiet import ov

    model, names = ov.Core().read_model(RESNET50), sum_names()
    model.add_outputs(names)
    request = openvino_request(model)

    def call() -> Arrays:
        found = request.infer([images], share_inputs=True)
        return [array.mean(axis=(2, 3)) for array in (images, *(found[name] for name in names))]

    yield call


def torch_model() -> Any:
    import torch
    import torchvision

    torch.manual_seed(0)  # as our own backend draws them
    return torchvision.models.resnet50(weights=None).eval()


@contextmanager
def torch_bare(images: np.ndarray) -> Iterator[Pass]:
    import torch

    model, x = torch_model(), torch.from_numpy(images)

    @torch.inference_mode()
    def call() -> torch.Tensor:
        return model(x)

    yield call


@contextmanager
def torch_stage(images: np.ndarray) -> Iterator[Pass]:
    """Run the modules up to the end of the first stage by hand: no early stop can take less."""
    import torch

    model, x = torch_model(), torch.from_numpy(images)
    stage = torch.nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool, model.layer1)

    @torch.inference_mode()
    def call() -> torch.Tensor:
        return stage(x)

    yield call


@contextmanager
def torch_extractor(images: np.ndarray) -> Iterator[Pass]:
    """The sums that it returns were overwritten by the ReLU in place that follows them: the work is the same."""
    import torch
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    model, x = torch_model(), torch.from_numpy(images)
    names = [name for name in get_graph_node_names(model)[1] if name.rpartition(".")[2] == "add"]
    if len(names) != SUMS:
        raise RuntimeError(f"the names of torchvision's nodes have changed: {names}")
    extractor = create_feature_extractor(model, names)

    @torch.inference_mode()
    def call() -> Arrays:
        return [tensor.mean((2, 3)).numpy() for tensor in (x, *extractor(x).values())]

    yield call


@contextmanager
def torch_hooks(images: np.ndarray) -> Iterator[Pass]:
    import torch

    model, x = torch_model(), torch.from_numpy(images)
    found: list[Any] = []
    calls: dict[Any, int] = {}

    def before_relu(module: Any, args: tuple[Any, ...]) -> None:
        calls[module] = calls.get(module, 0) + 1
        if calls[module] % 3 == 0:  # each block calls its ReLU three times, last on the sum
            found.append(args[0].mean((2, 3)))

    for name, module in model.named_modules():
        if name.startswith("layer") and name.endswith(".relu"):
            module.register_forward_pre_hook(before_relu)

    @torch.inference_mode()
    def call() -> Arrays:
        found[:] = [x.mean((2, 3))]
        model(x)
        return [tensor.numpy() for tensor in found]

    yield call


@contextmanager
def torch_torchlens(images: np.ndarray) -> Iterator[Pass]:
    """Its sparse recording, which is its fastest way, with the mean taken as it records."""
    import torch
    import torchlens

    model, x = torch_model(), torch.from_numpy(images)
    sums = torchlens.func("__iadd__")

    @torch.no_grad()
    def call() -> Arrays:
        record = torchlens.record(
            model, x, save=sums, activation_transform=lambda sum_: sum_.mean((2, 3)), save_raw_activations=False
        )
        return [x.mean((2, 3)).numpy(), *(one.transformed_ram_payload.numpy() for one in record)]

    yield call


# --- contenders ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """Something that is timed beside the bare pass.

    Args:
        runtime: whose bare pass.
        what: in the table.
        open: gives the function that passes one batch; None for the whole extraction.
        rival: what a user would pick instead of 17 pooled taps.
    """

    runtime: str
    what: str
    open: Callable[[np.ndarray], AbstractContextManager[Pass]] | None
    rival: bool = False


BARE = {"onnx": onnx_bare, "openvino": openvino_bare, "torch": torch_bare}
CONTENDERS = {
    "onnx-pooled": Contender("onnx", "probekit, 17 taps pooled", lambda x: ours("onnx", "pool", x)),
    "onnx-random": Contender("onnx", f"probekit, {FEATURES} random a tap", lambda x: ours("onnx", "random", x)),
    "onnx-early": Contender("onnx", "probekit, first stage alone", lambda x: ours("onnx", "early", x)),
    "onnx-extraction": Contender("onnx", "probekit, whole extraction", None),
    "onnx-raw": Contender("onnx", "raw outputs + NumPy mean", onnx_raw, rival=True),
    "onnx-qdq": Contender("onnx", "qdq_loss_debug + NumPy mean", onnx_qdq, rival=True),
    "openvino-pooled": Contender("openvino", "probekit, 17 taps pooled", lambda x: ours("openvino", "pool", x)),
    "openvino-random": Contender(
        "openvino", f"probekit, {FEATURES} random a tap", lambda x: ours("openvino", "random", x)
    ),
    "openvino-early": Contender("openvino", "probekit, first stage alone", lambda x: ours("openvino", "early", x)),
    "openvino-raw": Contender("openvino", "raw outputs + NumPy mean", openvino_raw, rival=True),
    "torch-pooled": Contender("torch", "probekit, 17 taps pooled", lambda x: ours("torch", "pool", x)),
    "torch-random": Contender("torch", f"probekit, {FEATURES} random a tap", lambda x: ours("torch", "random", x)),
    "torch-early": Contender("torch", "probekit, first stage alone", lambda x: ours("torch", "early", x)),
    "torch-stage": Contender("torch", "the first stage by hand, no tap", torch_stage),
    "torch-extractor": Contender("torch", "create_feature_extractor + mean", torch_extractor, rival=True),
    "torch-hooks": Contender("torch", "plain hooks + mean", torch_hooks, rival=True),
    "torch-torchlens": Contender("torch", "torchlens.record + mean", torch_torchlens, rival=True),
}


def run_as_child(name: str, batch: int) -> None:
    """Open one contender, pass a few batches, tell the parent."""
    images = made_batch(batch)
    if name == "onnx-extraction":
        with an_extraction(images, CHILD_BATCHES * batch) as (extraction, _):
            extraction.run()
    else:
        runtime = name.partition("-")[0]
        opened = BARE[runtime] if name.endswith("-bare") else CONTENDERS[name].open
        assert opened is not None
        with opened(images) as call:
            for _ in range(CHILD_BATCHES):
                call()
    tell_parent()


def largest_difference(found: Any, truth: Arrays) -> float:
    """Return the largest difference of all taps, each as a share of its own largest value."""
    arrays = found.result if isinstance(found, OwnTime) else found
    both = zip(arrays, truth, strict=True)
    return max(float(np.abs(one - other).max() / np.abs(other).max()) for one, other in both)


@dataclass
class Measured:
    """What was found of all contenders, by name.

    Args:
        batch: images a pass.
        pairs: of each.
        apart: of the rivals, how far their features lie from ours.
        peak: bytes; also of the bare passes, ``onnx-bare`` and ``torch-bare``.
        whole: of the whole extraction.
        truth: our 17 pooled taps, by runtime.
        failures: one line each.
    """

    batch: int
    pairs: dict[str, Pairs] = field(default_factory=dict)
    apart: dict[str, float] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    whole: WholeExtraction | None = None
    truth: dict[str, Arrays] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def ratio(self, name: str) -> float | None:
        return self.pairs[name].ratio if name in self.pairs else None

    def memory(self, name: str) -> float | None:
        bare = f"{name.partition('-')[0]}-bare"
        return self.peak[name] / self.peak[bare] if {name, bare} <= self.peak.keys() else None

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        print(f"... {what}", file=sys.stderr, end="", flush=True)
        begun = time.perf_counter()
        try:
            yield
        except Exception as error:
            self.failures.append(f"{what}: {type(error).__name__}: {error}")
        print(f" ({time.perf_counter() - begun:.1f} s)", file=sys.stderr, flush=True)


def measure(names: Sequence[str], batch: int, pairs: int, *, quick: bool) -> Measured:
    """Measure all; a contender that fails is named at the end and loses only itself."""
    measured = Measured(batch)
    runtimes = list(dict.fromkeys(CONTENDERS[name].runtime for name in names))
    for name in [*(f"{runtime}-bare" for runtime in runtimes), *names]:  # first, while nothing else is open
        if not quick or name in {"onnx-bare", "onnx-pooled"}:
            with measured.attempt(f"peak memory of {name}"):
                # Those that a target compares are asked three times: allocators do not always do the same.
                times = 3 if name.rpartition("-")[2] in {"bare", "pooled"} and not quick else 1
                peaks = [run_child([__file__, "--child", name, "--batch", str(batch)]).peak for _ in range(times)]
                measured.peak[name] = int(statistics.median(peaks))
    images = made_batch(batch)
    for runtime in runtimes:
        with BARE[runtime](images) as bare:
            for name in (name for name in names if CONTENDERS[name].runtime == runtime):
                with measured.attempt(f"time of {name}"):
                    if CONTENDERS[name].open is None:
                        measured.whole = measure_extraction(bare, images, (pairs + 1) * batch if quick else None)
                        measured.pairs[name] = measured.whole.pairs
                    else:
                        measure_one(name, bare, images, (pairs, 1 if quick else 2), measured)
    return measured


def measure_one(name: str, bare: Pass, images: np.ndarray, pairs: tuple[int, int], into: Measured) -> None:
    """Time a contender; ``pairs`` are (timed, beforehand)."""
    one = CONTENDERS[name]
    assert one.open is not None
    with one.open(images) as call:
        if name.endswith("-pooled"):
            into.truth[one.runtime] = [array.copy() for array in call()]
        elif one.rival and one.runtime in into.truth:
            into.apart[name] = largest_difference(call(), into.truth[one.runtime])
        into.pairs[name] = interleave(bare, call, *pairs)


# --- what is printed -------------------------------------------------------------------------------------------------


def report(measured: Measured) -> None:
    rows = [("", "images/s", "of bare's", "quartiles", "peak MB", "of bare's", "features apart")]
    for runtime in BARE:
        mine = {name: pairs for name, pairs in measured.pairs.items() if CONTENDERS[name].runtime == runtime}
        if not mine:
            continue
        every = [seconds for pairs in mine.values() for seconds in pairs.bare]
        bare = f"{runtime}-bare"
        speed = f"{measured.batch / statistics.median(every):.1f}"
        rows.append((f"{bare}: forward pass", speed, "1", "", _peak(measured, bare), "", ""))
        for name, pairs in mine.items():
            low, high = pairs.quartiles
            memory = measured.memory(name)
            rows.append(
                (
                    f"{name}: {CONTENDERS[name].what}",
                    f"{measured.batch / statistics.median(pairs.other):.1f}",
                    f"{pairs.ratio:.3f}",
                    f"{low:.3f} - {high:.3f}",
                    _peak(measured, name),
                    "" if memory is None else f"{memory:.2f}",
                    f"{measured.apart[name]:.0e}" if name in measured.apart else "",
                )
            )
    print_table(rows)
    if measured.whole is not None:
        _report_whole(measured.whole)
    print("\nagainst what a user would pick instead, pooled:")
    for name, pairs in measured.pairs.items():
        ours_ratio = measured.ratio(f"{CONTENDERS[name].runtime}-pooled")
        if CONTENDERS[name].rival and ours_ratio is not None:
            what = CONTENDERS[name].what
            print(f"  {name} ({what}): probekit is {ours_ratio / pairs.ratio:.2f} times as fast")
    if measured.apart.get("torch-extractor", 0) > 1e-3:
        print("  torch-extractor's sums are no sums: the ReLU in place after each one overwrote it")
    print("\ntargets" + (":" if measured.batch == 16 else f", which are for batch 16, not {measured.batch}:"))
    for line in (
        verdict("17 taps pooled, ONNX Runtime", measured.ratio("onnx-pooled"), 0.95, 0.97),
        verdict("1000 random features a tap, ONNX Runtime", measured.ratio("onnx-random"), 0.90, 0.95),
        verdict("17 taps pooled, torch", measured.ratio("torch-pooled"), 0.93, 0.97),
        verdict("one tap after the first stage, ONNX Runtime", measured.ratio("onnx-early"), 3),
        verdict("one tap after the first stage, torch", measured.ratio("torch-early"), 3),
        verdict("peak memory of 17 taps, ONNX Runtime", measured.memory("onnx-pooled"), 1.25, at_most=True),
        verdict("peak memory of 17 taps, torch", measured.memory("torch-pooled"), 1.25, at_most=True),
    ):
        print(f"  {line}")


def _peak(measured: Measured, name: str) -> str:
    return megabytes(measured.peak[name]) if name in measured.peak else ""


def _report_whole(whole: WholeExtraction) -> None:
    once = whole.before - statistics.median(whole.pairs.other)
    print(
        f"\nonnx-extraction: {whole.rows} images; all batches and the write: {whole.pairs.ratio_of_sums:.3f} of bare\n"
        f"  besides, once: {once:.1f} s for sessions and checks; before all, digests of the images: "
        f"{whole.digests:.2f} s, {1e3 * whole.digests / whole.rows:.2f} ms an image"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time what tapping costs beside the bare forward pass of ResNet-50.")
    parser.add_argument("--quick", action="store_true", help="batch 4, 3 pairs, two memory figures")
    parser.add_argument("--pairs", type=int, help="timed pairs of each contender; default: 9")
    parser.add_argument("--batch", type=int, help="images a pass; default: 16")
    parser.add_argument("--only", metavar="NAME,...", help=f"out of {', '.join(CONTENDERS)}")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not RESNET50.is_file():
        print(how_to_make_resnet50(), file=sys.stderr)
        sys.exit(NO_MODEL)
    batch, pairs = args.batch or (4 if args.quick else 16), args.pairs or (3 if args.quick else 9)
    if args.child:
        run_as_child(args.child, batch)
        return
    names = args.only.split(",") if args.only else list(CONTENDERS)
    unknown = [name for name in names if name not in CONTENDERS]
    if unknown:
        parser.error(f"--only: no contender {unknown[0]!r}; there are {', '.join(CONTENDERS)}")
    names = [name for name in CONTENDERS if name in names]
    there = importlib.util.find_spec("probekit_openvino") is not None
    print_machine(["onnxruntime", *(["openvino"] if there else []), "torch", "torchvision", "numpy"])
    print(f"batch {batch}, {pairs} pairs; images/s hang on the load of the moment, of bare's is measured pair by pair")
    print("features apart: from probekit's 17 pooled taps, the largest difference as a share of a tap's largest value")
    if "torch-torchlens" in names:
        try:
            import torchlens  # noqa: F401 - only to see whether it is there
        except ImportError:
            print("torch-torchlens is left out; for it type: pip install torchlens")
            names.remove("torch-torchlens")
    if not there and any(CONTENDERS[name].runtime == "openvino" for name in names):
        print("openvino is left out; for it type: pip install ./plugins/probekit-openvino")
        names = [name for name in names if CONTENDERS[name].runtime != "openvino"]
    print(flush=True)
    measured = measure(names, batch, pairs, quick=args.quick)
    report(measured)
    if measured.failures:
        sys.exit("\nfailed:\n" + "\n".join(measured.failures))


if __name__ == "__main__":
    main()
