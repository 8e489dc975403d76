"""Resampled fits, many side by side: for pictures of what the data leave open, not for intervals.

Measured on simulated studies, bootstrap intervals of few sizes and seeds cover far less than they
promise; ``intervals`` gives those. A replicate is a vector of multinomial weights, so that all
replicates share one table of logarithms and a descent updates ``LANES`` of them at a time.
"""

import numpy as np

from smallnets.analysis.fit import ITERATIONS, Fit, descend, start

LANES = 128
SOON = 10


def bootstrap(
    fitted: Fit, *, replicates: int = 1000, seed: int = 0, clusters: bool = False
) -> np.ndarray:
    """Natural parameters (replicates, p) of ``fitted``'s law on resampled runs.

    ``clusters`` resamples whole sizes instead of runs. Every replicate starts from the fit itself;
    one that ends without having converged starts again from a grid of its own.
    """
    weights = resampled(fitted, replicates=replicates, seed=seed, clusters=clusters)
    working, _ = refit(fitted, weights)
    matrix, offset = fitted.law.natural(fitted.centre)
    values = working @ matrix.T + offset
    return np.where(fitted.law.positive, np.exp(values), values)


def resampled(fitted: Fit, *, replicates: int, seed: int = 0, clusters: bool = False) -> np.ndarray:
    """How often each run (replicates, n) is drawn in each replicate."""
    random = np.random.default_rng(seed)
    n = len(fitted.score)
    if not clusters:
        return random.multinomial(n, np.full(n, 1 / n), size=replicates).astype(float)
    sizes, place = np.unique(fitted.x, axis=1, return_inverse=True)
    count = sizes.shape[1]
    draws = random.multinomial(count, np.full(count, 1 / count), size=replicates)
    return draws[:, place.ravel()].astype(float)


def refit(fitted: Fit, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Working parameters (r, p) and objectives (r,) for each row of weights (r, n).

    Most replicates end within ``SOON`` iterations; the others are gathered and go on together, so
    that a few slow ones don't hold up every batch.
    """
    # Having once freed a block of 16 MB, glibc keeps smaller ones: giving them back to the system
    # and faulting them in again costs each batch more than its arithmetic.
    np.empty(1 << 21)
    working = np.tile(fitted.working, (len(weights), 1))
    objective = np.empty(len(weights))
    waiting = np.arange(len(weights))
    for limit in (SOON, ITERATIONS):
        steps = np.zeros(len(waiting), int)
        for first in range(0, len(waiting), LANES):
            batch = waiting[first : first + LANES]
            working[batch], objective[batch], steps[first : first + LANES] = _descend(
                fitted, weights[batch], working[batch], limit
            )
        waiting = waiting[steps >= limit]
    for lane in waiting[:, None]:
        law, z = fitted.law, np.log(fitted.x) - fitted.centre[:, None]
        u = start(law, z, np.log(fitted.score)[None], weights[lane], delta=fitted.delta)
        u, value, _ = _descend(fitted, weights[lane], u, ITERATIONS)
        if value[0] < objective[lane]:
            working[lane], objective[lane] = u, value
    return working, objective


def _descend(
    fitted: Fit, weights: np.ndarray, u: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z = np.log(fitted.x) - fitted.centre[:, None]
    y = np.log(fitted.score)[None]
    return descend(fitted.law, z, y, weights, u, delta=fitted.delta, tolerance=1e-8, limit=limit)
