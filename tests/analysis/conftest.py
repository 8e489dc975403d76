"""Studies with known truth, written as rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smallnets.analysis.report import build as build_report
from smallnets.rows import Row, write

FAMILIES = {"dense": (0.2, 0.6, 0.5), "monarch": (0.2, 0.4, 0.5)}


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes rows of E + A (N / 1000)^-alpha and returns their folder."""
    return _writer(tmp_path)


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one study with its report, built once: read it, don't write there."""
    folder = _writer(tmp_path_factory.mktemp("reported"))()
    assert build_report(folder) == folder / "report.html"
    return folder


def _writer(root: Path) -> Callable[..., Path]:

    def build(
        *,
        families=FAMILIES,
        sizes=6,
        seeds=3,
        rates=(1e-3, 3e-3, 1e-2),
        best=3e-3,
        noise=0.01,
        diverged=lambda family, size, rate, seed: False,
        name="study",
    ) -> Path:
        random = np.random.default_rng(1)
        folder = root / name
        for family, (floor, scale, alpha) in families.items():
            for size in np.geomspace(1000, 100_000, sizes).astype(int):
                for rate in rates:
                    for seed in range(seeds):
                        error = (floor + scale * (size / 1000) ** -alpha) * np.exp(
                            noise * random.standard_normal() + 0.1 * np.log(rate / best) ** 2
                        )
                        bad = diverged(family, size, rate, seed)
                        metrics = {
                            "validation_error": float(error),
                            "test_error": float(error * np.exp(noise * random.standard_normal())),
                        }
                        place = folder / f"{family}-{size}-{rate}-{seed}"
                        place.mkdir(parents=True)
                        write(
                            Row(
                                family=family,
                                task="toy",
                                seed=seed,
                                parameters=int(size),
                                costs={"flops": float(size) * (3 if family == "monarch" else 2)},
                                status="diverged" if bad else "finished",
                                metrics={k: float("nan") if bad else v for k, v in metrics.items()},
                                curves={"step": [1.0], "test_error": [float(error)]},
                                seconds=1.0 + size / 1e4 + 0.1 * seed,
                                compile_seconds=0.5,
                                execution="map",
                                members=3,
                                device="cpu",
                                commit="0123456",
                                versions={"jax": "0.10.2"},
                                config={
                                    "model": {"_target_": family, "width": int(size)},
                                    "optimizer": {"learning_rate": rate, "betas": [0.9, 0.99]},
                                },
                            ),
                            place,
                        )
        return folder

    return build
