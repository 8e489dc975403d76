"""Which law may be printed, where AICc prefers the power law? Simulated studies, known truth.

    python experiments/benchmarks/which_law.py [studies a cell]

For studies of two families it prints how often the intervals of the exponent, and of the prediction
at ten times the largest size, hold the truth: of the law that the lowest summed AICc has, of both
laws' hull where that is the power law, and of the law with asymptote always. Six minutes on one
core.
"""

import sys
from itertools import product

import numpy as np

from smallnets.analysis.choose import aicc, effective_runs
from smallnets.analysis.fit import Fit, fit
from smallnets.analysis.intervals import intervals, prediction
from smallnets.analysis.laws import ASYMPTOTE, POWER

NOISE = 0.02
RULES = ("as AICc says", "hull of both", "always with asymptote")


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    truths = ((0.3, 0.6, 0.5), (0.1, 0.6, 0.3), (0.0, 0.9, 0.25))
    cells = product(truths, ((5, 3), (6, 1), (6, 5), (8, 3)), (0.0, 0.03))
    for seed, (truth, design, error) in enumerate(cells):
        power, held = cell(truth, design, error, studies, np.random.default_rng(seed))
        print(f"E, A, alpha {truth}, sizes x seeds {design}, error of sizes {error}: ", end="")
        print(f"power law preferred {power:.2f}; exponent, prediction: ", end="")
        shares = zip(RULES, held.mean(axis=0), strict=True)
        print("; ".join(f"{rule} {a:.3f}, {b:.3f}" for rule, (a, b) in shares), flush=True)


def cell(truth, design, error, studies: int, random) -> tuple[float, np.ndarray]:
    """How often the power law is preferred, and what held (studies, rules, quantities)."""
    floor, scale, alpha = truth
    sizes, seeds = design
    x = np.repeat(np.geomspace(1e3, 1e5, sizes), seeds)
    ahead = floor + scale * 1e3**-alpha
    held, preferred = np.zeros((studies, len(RULES), 2)), 0
    for study in range(studies):
        pairs = []
        for _ in range(2):
            y = np.log(floor + scale * (x / 1e3) ** -alpha)
            y += NOISE * random.standard_normal(len(x))
            y += error * np.repeat(random.standard_normal(sizes), seeds)
            pairs.append((fit(POWER, x, np.exp(y)), fit(ASYMPTOTE, x, np.exp(y))))
        runs = [effective_runs(asymptote) for _, asymptote in pairs]
        sums = [
            sum(aicc(pair[i], count) for pair, count in zip(pairs, runs, strict=True))
            for i in (0, 1)
        ]
        power = sums[0] <= sums[1]
        preferred += power
        low, high = (said(each) for each in pairs[0])
        hull = np.stack([np.minimum(low, high)[:, 0], np.maximum(low, high)[:, 1]], axis=1)
        rules = (low if power else high, hull if power else high, high)
        for place, ends in enumerate(rules):
            held[study, place] = (ends[:, 0] <= (alpha, ahead)) & (ends[:, 1] >= (alpha, ahead))
    return preferred / studies, held


def said(fitted: Fit) -> np.ndarray:
    """The intervals (2, 2) of the exponent and of the score at ten times the largest size."""
    exponent = next(each for each in intervals(fitted) if each.parameter == "alpha")
    far = prediction(fitted, 10 * float(fitted.x[0].max()))
    return np.array([[exponent.low, exponent.high], [far.low, far.high]])


if __name__ == "__main__":
    main()
