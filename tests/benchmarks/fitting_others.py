"""Other ways to fit a probe: torch's L-BFGS, cyanure, and the package that is called probekit on PyPI.

Nothing here is run by itself.
"""

import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from fitting_rivals import Contest, Found, by_count, silent, standardised
from fitting_truth import Weights, two_rows
from side_by_side import OwnTime


class TorchLbfgs:
    """What people write by hand."""

    name = "torch LBFGS"
    settings = (
        "float32, torch.optim.LBFGS(line_search_fn='strong_wolfe', history_size=100, max_iter=smallest, both "
        "tolerances 0), cross_entropy + λ/2 ‖W‖²"
    )

    def search(self, contest: Contest) -> Found:
        made, gap, begun, excluded, count, seconds = self._made(contest), np.inf, time.perf_counter(), 0.0, 0, 0.0
        optimiser, closure, weights = made(1)
        before = np.inf
        while gap > contest.goal and seconds <= contest.limit:
            loss = float(optimiser.step(closure).detach())
            count += 1
            seconds = time.perf_counter() - begun - excluded
            if loss <= contest.lower * (1 + 10 * contest.goal) or loss == before or seconds > contest.limit:
                paused = time.perf_counter()
                gap = contest.gap(weights())
                excluded += time.perf_counter() - paused
                if loss == before:
                    break
            before = loss
        return Found(f"max_iter={count}", gap, seconds, lambda: self._fit(made, count))

    def _fit(self, made: Any, count: int) -> Weights:
        optimiser, closure, weights = made(count)
        optimiser.step(closure)
        found: Weights = weights()
        return found

    def _made(self, contest: Contest) -> Callable[[int], Any]:
        import torch

        def made(count: int) -> Any:
            X, y = torch.from_numpy(standardised(contest.features)), torch.from_numpy(contest.codes)
            W = torch.zeros(contest.classes, X.shape[1], requires_grad=True)
            b = torch.zeros(contest.classes, requires_grad=True)
            optimiser = torch.optim.LBFGS(
                [W, b], max_iter=count, max_eval=25 * count, tolerance_grad=0, tolerance_change=0,
                line_search_fn="strong_wolfe",
            )  # fmt: skip

            def closure() -> Any:
                optimiser.zero_grad()
                loss = torch.nn.functional.cross_entropy(X @ W.T + b, y) + contest.penalty / 2 * (W**2).sum()
                loss.backward()
                return loss

            return optimiser, closure, lambda: (W.detach().double().numpy(), b.detach().double().numpy())

        return made


class Cyanure:
    """Accelerated incremental methods in C++."""

    name = "cyanure"
    settings = "StandardScaler, float32, LogisticRegression(solver='auto', lambda_1=λ, tol=0, max_iter=smallest)"

    def __init__(self, threads: Callable[[], int]) -> None:
        self.threads = threads

    def search(self, contest: Contest) -> Found | str:
        try:
            from cyanure.estimators import LogisticRegression
        except ImportError:
            return "not installed; type: pip install --no-deps cyanure"
        two = contest.classes == 2

        def fit(count: int) -> Weights:
            X = standardised(contest.features)
            codes = 2 * contest.codes - 1 if two else contest.codes
            penalty = contest.penalty / 2 if two else contest.penalty
            model = LogisticRegression(
                lambda_1=penalty, tol=0.0, max_iter=count, n_threads=self.threads(), verbose=False
            )
            with silent(), quiet():
                model.fit(X, codes)
            W, b = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
            return two_rows(W, float(b.ravel()[0])) if two else (W.T, b)

        return by_count(contest, fit, "max_iter")


class PypiProbekit:
    """The package of the same name, which is another project's: for two classes, in a process of its own."""

    name = "probekit 0.4.0 of PyPI"
    settings = (
        "StandardScaler, fit_logistic_batch(C=2/(N λ), normalize=False, solver='auto', tol=1e-30, max_iter=smallest)"
    )

    def __init__(self, folder: Path | None, threads: Callable[[], int]) -> None:
        self.folder, self.threads = folder, threads

    def search(self, contest: Contest) -> Found | str:
        if contest.classes != 2:
            return "it fits two classes only"
        if self.folder is None or not (self.folder / "probekit").is_dir():
            return "give --peer FOLDER, made by: pip install --no-deps --target FOLDER probekit==0.4.0"
        place = tempfile.TemporaryDirectory()
        np.savez(f"{place.name}/in.npz", X=contest.features, y=contest.codes)
        script = Path(__file__).with_name("fitting_peer.py")
        worker = subprocess.Popen(
            [sys.executable, script, place.name, self.folder, str(contest.inverse_penalty)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(self.folder)},
        )

        def fit(count: int) -> OwnTime:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(f"{count} {self.threads()}\n")
            worker.stdin.flush()
            told = worker.stdout.readline()
            if not told:
                raise RuntimeError(f"{place.name}: the process of the other probekit ended with {worker.wait()}")
            with np.load(f"{place.name}/out.npz") as found:
                return OwnTime(two_rows(found["w"], float(found["b"])), json.loads(told)["seconds"])

        return by_count(contest, fit, "max_iter")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what a library prints, from C++ as well, out of the tables."""
    sys.stdout.flush()
    kept, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    logging.disable(logging.CRITICAL)
    try:
        os.dup2(sink, 1)
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(sink)
        logging.disable(logging.NOTSET)
