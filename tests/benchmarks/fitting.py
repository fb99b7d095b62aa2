"""Fits of linear probes against scikit-learn and others, at an equal true gap of 1e-4 of the objective.

    python tests/benchmarks/fitting.py [--quick] [--only a,b,...] [--repeats 5] [--limit 300] [--cache FOLDER]
        [--peer FOLDER] [--rows N] [--rivals NAME,...] [--match TEXT] [--json FILE]

(a) one head, D = 10, on taps of the paper's convnet over 20,000 images of Fashion-MNIST
(b) one head, D = 100 and D = 1000, F = 2048, on made features; of D = 1000 one λ and three rivals
(c) the whole job: 17 taps of EfficientNet-Lite0 and of ResNet-50 x 8 penalties x 2 factors x (true + shuffled), over
    images of Fashion-MNIST and over emoji
(d) raw features, F = 25,088, held and read from the store
(taps) taps of networks that nothing was tuned on; (binary) two classes
(stream) a pass over features in the store against one in memory; (growth) how a pass grows;
(path) all λ together against one after the other
(size) F = 100,000 and D = 10,000

For every problem the optimum is first enclosed in float64. Then the cheapest setting that gets a method within 1e-4 of
it is searched, untimed: for us the loosest tolerance of a grid, for the others the smallest number of iterations. Those
fits are timed in turns with ours, from features as they are to W and b, everyone at its best thread count. What does
not get there within --limit seconds, or four times what another rival takes, is printed with the gap that it got.

Features are extracted once into --cache (default: specs/data/fitting; (d) writes 2.5 GB there). Needs what the scripts
specs/models/{magika,efficientnet_lite0_emoji,mnist_cnn}_arrays.py make; what is absent is left out, exit code 3.
--peer is made by: pip install --no-deps --target FOLDER probekit==0.4.0. cyanure is left out where it is not installed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import fitting_duel as duels
from fitting_others import PypiProbekit
from fitting_sections import SECTIONS, Bench
from side_by_side import NO_MODEL, ROOT, print_machine


def main() -> None:
    parser = argparse.ArgumentParser(description="Time fits of linear probes against scikit-learn and others.")
    parser.add_argument("--quick", action="store_true", help="small sizes, one repeat; says little")
    parser.add_argument("--only", metavar="NAME,...", help=f"out of {', '.join(SECTIONS)}")
    parser.add_argument("--repeats", type=int, help="timed pairs of each rival and us; default: 5")
    parser.add_argument("--limit", type=float, help="seconds for a rival's search; default: 300")
    parser.add_argument("--rows", type=int, help="training rows of (c); default: all")
    parser.add_argument(
        "--memory", type=float, default=4.0, help="GiB that fits of (d) and (size) may take; default: 4"
    )
    parser.add_argument("--rivals", metavar="NAME,...", help="only these; 'scikit-learn lbfgs', 'torch LBFGS' ...")
    parser.add_argument("--match", metavar="TEXT", default="", help="only problems, and data of (c), named so")
    parser.add_argument("--cache", type=Path, default=ROOT / "specs" / "data" / "fitting")
    parser.add_argument("--peer", type=Path, help="folder of PyPI's probekit 0.4.0")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else list(SECTIONS)
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        parser.error(f"--only: no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    limit = args.limit or (5.0 if args.quick else 300.0)
    effort = duels.Effort(args.repeats or (1 if args.quick else 5), limit, limit, 2e6 if args.quick else 6e8)
    asked = tuple(args.rivals.split(",")) if args.rivals else ()
    bench = Bench(
        args.quick, effort, args.cache, args.peer, args.rows, int(args.memory * 2**30), asked, args.match
    )  # fmt: skip
    bench.cache.mkdir(parents=True, exist_ok=True)

    print_machine(["torch", "numpy", "scipy", "scikit-learn", "cyanure"])
    print(f"thread counts tried: {duels.thread_counts()}; seconds are medians of up to {effort.repeats} fits in turns")
    known = bench.rivals(PypiProbekit(bench.peer, lambda: 1))
    if missing := set(asked) - {rival.name for rival in known}:
        parser.error(f"--rivals: there is no {sorted(missing)[0]!r}")
    for rival in known:
        print(f"  {rival.name}: {rival.settings}")
    for name in [name for name in SECTIONS if name in names]:
        begun = time.perf_counter()
        SECTIONS[name](bench)
        print(f"... section {name} took {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
        if args.json:
            args.json.write_text(json.dumps(bench.json | {"verdicts": bench.verdicts}, indent=1), encoding="utf-8")
    if args.quick:
        print("\nso small, nothing is compared with the targets")
    else:
        print("\n".join(["\ntargets:", *(f"  {line}" for line in bench.verdicts)]))
    if bench.absent:
        print("\nleft out:\n" + "\n".join(sorted(set(bench.absent))), file=sys.stderr)
        sys.exit(NO_MODEL)


if __name__ == "__main__":
    main()
