"""Fits the other project's probe, in a process where its package is the one called probekit. Run by fitting_others.

    python fitting_peer.py FOLDER PACKAGE C

Reads FOLDER/in.npz, and from its input lines of MAX_ITER and THREADS; for each it fits, writes FOLDER/out.npz and
prints the seconds as JSON.
"""

import json
import sys
import time
from pathlib import Path


def main() -> None:
    folder, package, C = sys.argv[1:]
    # The folder of this script would stand before it.
    sys.path[:] = [package, *(path for path in sys.path if Path(path) != Path(__file__).parent)]
    import numpy as np
    import torch
    from probekit.fitters.batch.logistic import fit_logistic_batch
    from sklearn.preprocessing import StandardScaler

    import probekit

    if Path(package).resolve() not in Path(probekit.__file__).resolve().parents:
        sys.exit(f"{probekit.__file__} is not the package of {package}")
    with np.load(Path(folder, "in.npz")) as given:
        X, y = given["X"], torch.from_numpy(given["y"])
    for line in sys.stdin:
        count, threads = map(int, line.split())
        torch.set_num_threads(threads)
        begun = time.perf_counter()
        rows = torch.from_numpy(np.asarray(StandardScaler().fit_transform(X)))
        made = fit_logistic_batch(rows[None], y, c_param=float(C), max_iter=count, tol=1e-30, normalize=False)
        w, b = (part.numpy() for part in made.to_tensor())
        seconds = time.perf_counter() - begun
        np.savez(Path(folder, "out.npz"), w=w[0], b=b[0])
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
