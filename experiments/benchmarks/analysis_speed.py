"""How much faster are 4,000 bootstrap replicates of the Chinchilla fit than fitted one by one?

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \\
    python experiments/benchmarks/analysis_speed.py chinchilla_240.csv [replicates]

The file is the published table of training runs (columns Model Size, Training FLOP, loss). Both
sides fit the same resamples, those that Besiroglu et al. 2024 (arXiv:2404.10102) drew, in one
process, timed by CPU time. The reference is written in the usual way: SciPy's
BFGS with an analytic gradient, one replicate at a time, from the optimum of the whole data. About
two minutes.
"""

import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
from scipy.optimize import minimize
from scipy.special import logsumexp

from smallnets.analysis.bootstrap import refit
from smallnets.analysis.fit import fit
from smallnets.analysis.laws import TWO_AXES

DELTA = 1e-3


def objective(u, log_n, log_d, log_loss):
    """Huber objective of e, a, b, alpha, beta and its gradient."""
    e, a, b, alpha, beta = u
    terms = np.stack([np.full_like(log_n, e), a - alpha * log_n, b - beta * log_d])
    prediction = logsumexp(terms, axis=0)
    residual = log_loss - prediction
    slope = np.clip(residual, -DELTA, DELTA)
    share = np.exp(terms - prediction)
    by = -(share @ slope)
    by_exponent = [(share[1] * slope) @ log_n, (share[2] * slope) @ log_d]
    return slope @ (residual - slope / 2), np.concatenate([by, by_exponent])


def main() -> None:
    path, replicates = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 4000
    table = pl.read_csv(path)
    table = table[np.sort(np.argsort(table["loss"].to_numpy(), kind="stable")[:-5])]
    n, flop, score = (table[c].to_numpy() for c in ("Model Size", "Training FLOP", "loss"))
    x = np.stack([n, flop / (6 * n)])
    whole = fit(TWO_AXES, x, score, delta=DELTA)
    legacy = np.random.RandomState(42)  # the published draws
    draws = [legacy.choice(len(score), len(score), replace=True) for _ in range(replicates)]
    weights = np.stack([np.bincount(d, minlength=len(score)) for d in draws]).astype(float)

    began = time.process_time()
    working, ours = refit(whole, weights)
    seconds = time.process_time() - began

    matrix, offset = TWO_AXES.natural(whole.centre)
    start = matrix @ whole.working + offset
    logs = np.log(x)
    reference, failed = np.empty(replicates), 0
    began = time.process_time()
    for i, draw in enumerate(draws):
        args = (logs[0, draw], logs[1, draw], np.log(score[draw]))
        found = minimize(objective, start, args=args, method="BFGS", jac=True)
        reference[i], failed = found.fun, failed + (not found.success)
    reference_seconds = time.process_time() - began

    best = np.minimum(ours, reference)
    values = working @ matrix.T + offset
    values[:, :3] = np.exp(values[:, :3])
    print(f"{replicates} replicates          ours   SciPy BFGS")
    print(f"CPU seconds             {seconds:8.2f} {reference_seconds:10.2f}")
    rates = [replicates / s for s in (seconds, reference_seconds)]
    print(f"replicates a CPU second {rates[0]:8.0f} {rates[1]:10.0f}")
    for tolerance in (1e-6, 1e-4):
        worse = [(v > best * (1 + tolerance)).sum() for v in (ours, reference)]
        print(f"worse than {tolerance:g}        {worse[0]:8d} {worse[1]:10d}")
    print(f"reports failure                - {failed:10d}")
    print(f"times faster            {reference_seconds / seconds:8.0f}")
    print(
        "standard errors", dict(zip(TWO_AXES.parameters, values.std(axis=0, ddof=1), strict=True))
    )


if __name__ == "__main__":
    main()
