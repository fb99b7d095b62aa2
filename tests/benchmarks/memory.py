"""Peak memory against the number of examples, which is doubled three times.

    python tests/benchmarks/memory.py [--quick]

(a) Extraction alone: the paper's convnet (specs/models/fashion_convnet.onnx), two taps flattened, 18,816 features.
(b) A whole `probekit run` with `memory: 256MiB`, the least there is: a tap of 3,136 features, one λ. All its features
    are larger than that with the copies of a fit, so they are read from the store pass by pass.

Every run is a fresh process on made images in a memory-mapped file. `resident` is the kernel's peak. Features are
mapped from files while they are read, and their pages count as resident though the kernel takes them back when it needs
them; `not of files` is what remains without such pages, as samples every 20 ms saw it. Flat means that the largest
figure is at most 10 % above the smallest. Takes 10 minutes and 1.5 GB of disk (TMPDIR); with --quick one minute, in
which (b) is too small to be bounded by anything but its own size.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from side_by_side import ROOT, Child, megabytes, print_machine, print_table, run_child, tell_parent

MODEL = ROOT / "specs" / "models" / "fashion_convnet.onnx"
FLAT = 1.10
SPECS = {
    "extraction": {"taps": ["relu_1", "max_pool2d"], "memory": None},
    "run": {"taps": ["max_pool2d_1"], "memory": "256MiB"},
}


def make_data(folder: Path, count: int) -> None:
    """Write made images, and labels that can be learnt from them."""
    rng = np.random.default_rng(0)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, 1, 28, 28))
    weights = rng.standard_normal((28 * 28, 10))
    lines = ["label"]
    for start in range(0, count, 1000):
        part = rng.integers(0, 256, (min(1000, count - start), 1, 28, 28), dtype=np.uint8)
        images[start : start + len(part)] = part
        lines.extend(((part.reshape(len(part), -1) - 127.5) @ weights).argmax(axis=1).astype(str))
    images.flush()
    (folder / "columns.csv").write_text("\n".join(lines) + "\n", encoding="ascii")


def write_spec(folder: Path, what: str) -> Path:
    """Write a spec as JSON, which is YAML."""
    spec = {
        "probekit": 1,
        "model": {"kind": "onnx", "path": str(MODEL), "batch_size": 100},
        "data": {
            "kind": "arrays",
            "arrays": {"image": str(folder / "images.npy")},
            "columns": str(folder / "columns.csv"),
            "preprocess": {"scale": 255},
        },
        "reduction": {"kind": "flatten"},
        "labels": {"class": {"kind": "column", "column": "label"}},
        "probe": {"kind": "linear", "penalty": 1.0},
        "reports": ["json"],
        "store": {"path": str(folder / "store")},
        **SPECS[what],
    }
    path = folder / "memory.yaml"
    path.write_text(json.dumps({key: value for key, value in spec.items() if value is not None}), encoding="utf-8")
    return path


def extract_as_child(spec_file: str) -> None:
    """Do what `probekit run` does up to the end of its extraction."""
    from probekit.data.question import ask
    from probekit.features.digests import RowDigests
    from probekit.plugins import Plugins
    from probekit.reading import open_store, read_models
    from probekit.spec import load_spec

    spec = load_spec(spec_file, Plugins()).spec
    asked = ask(spec)
    readings = read_models(spec, asked, RowDigests(asked.examples), open_store(spec))
    for one in readings:
        one.extraction.run()
    tell_parent()


def run_as_child(spec_file: str) -> None:
    """Do what `probekit run` does."""
    from probekit.plugins import Plugins
    from probekit.run import run_spec
    from probekit.spec import load_spec

    plugins = Plugins()
    outcome = run_spec(load_spec(spec_file, plugins), plugins, Path(spec_file).parent / "run")
    probes = [[probe.tap, probe.features_used, probe.certificate.status] for probe in outcome.result.probes]
    tell_parent(probes=probes, failures=outcome.failures)


CHILDREN = {"extraction": extract_as_child, "run": run_as_child}


def measure(what: str, counts: Sequence[int]) -> bool:
    """Print the table of one kind of run; return whether all of it went well."""
    rows = [("examples", "features on disk, MB", "resident, MB", "not of files, MB")]
    children: list[Child] = []
    for count in counts:
        print(f"... {what}, {count} examples", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_data(folder, count)
            child = run_child([__file__, "--child", what, "--spec", write_spec(folder, what)])
            size = sum(path.stat().st_size for path in (folder / "store" / "features").rglob("*.safetensors"))
        children.append(child)
        anonymous = "unknown" if child.anonymous is None else megabytes(child.anonymous)
        rows.append((f"{count}", megabytes(size), megabytes(child.peak), anonymous))
    print_table(rows)
    print(f"  resident: {flatness([child.peak for child in children])}")
    print(f"  not of files: {flatness([child.anonymous for child in children])}")
    for child in children:
        if child.told.get("failures"):
            print(f"  a fit failed: {child.told['failures']}")
    print()
    return not any(child.told.get("failures") for child in children)


def flatness(peaks: Sequence[int | None]) -> str:
    """Return whether figures are flat, in words."""
    known = [peak for peak in peaks if peak is not None]
    if len(known) < len(peaks):
        return "unknown"
    growth = max(known) / min(known)
    return f"the largest is {growth:.2f} times the smallest: {'flat' if growth <= FLAT else 'NOT flat'}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure peak memory against the number of examples.")
    parser.add_argument("--quick", action="store_true", help="few examples; (b) twice only")
    parser.add_argument("--child", choices=sorted(CHILDREN), help=argparse.SUPPRESS)
    parser.add_argument("--spec", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        CHILDREN[args.child](args.spec)
        return
    print_machine(["numpy", "torch", "onnxruntime"])
    first = 900  # a row range of 75 kB a row has 800 examples
    print("(a) extraction alone")
    fine = measure("extraction", [first, 2 * first] if args.quick else [first << i for i in range(4)])
    first = 1200 if args.quick else 10_500  # a fit that reads its features pass by pass samples 8,192 training rows
    print("(b) the whole run, memory: 256MiB")
    fine &= measure("run", [first, 2 * first] if args.quick else [first << i for i in range(4)])
    if not fine:
        sys.exit("a fit failed")


if __name__ == "__main__":
    main()
