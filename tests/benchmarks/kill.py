"""Kill ``probekit run`` a hundred times at random moments, and see that nothing is lost.

    python tests/benchmarks/kill.py [--kills N] [--seed N] [--quick]

After every kill the same command is typed again, until it comes to its end; then the results are compared with those
of an undisturbed run, byte for byte without times, and the row ranges that were computed twice are counted: at most
one a kill. Ends with 1 when something is wrong.

100 kills take about 6 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from kill_harness import RANGE, ROWS, SlowSite, kill_and_resume


def main() -> int:
    """Kill, print what came of it, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--quick", action="store_true", help="10 kills")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        site = SlowSite(Path(folder), probe="{kind: linear, penalty: 0.1}")
        tally = kill_and_resume(site, 10 if arguments.quick else arguments.kills, arguments.seed)
    again = tally.again
    print(f"{tally.kills} kills of a run with {ROWS // RANGE} row ranges, {time.monotonic() - begun:.0f} s")
    print(f"{tally.finished} runs came to their end, each with the results of an undisturbed run")
    print(
        f"of {len(again)} runs that went on with a killed one's extraction, {sum(n > 0 for n in again)} computed a row"
    )
    print(f"range again, at most {max(again, default=0)} each")
    for text in tally.wrong:
        print(f"WRONG: {text}")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
