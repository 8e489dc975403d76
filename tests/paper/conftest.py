"""A small sweep with known truth, as rows, a list of jobs and a ledger; and a paper about it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smallnets.paper import init
from smallnets.rows import JOBS, Row, write

FAMILIES = {"dense": 0.6, "monarch": 0.4}


def write_sweep(folder: Path, *, commit: str = "0123456789ab", numerics: str = "2") -> Path:
    """Two families of error 0.2 + A (N / 1000)^-0.5, five sizes, two rates, three seeds."""
    random, jobs = np.random.default_rng(1), []
    for family, scale in FAMILIES.items():
        for size in (1000, 3000, 9000, 27000, 81000):
            for rate in (1e-3, 3e-3):
                for seed in range(3):
                    error = (0.2 + scale * (size / 1000) ** -0.5) * np.exp(
                        0.01 * random.standard_normal() + 40 * (3e-3 - rate)
                    )
                    key = f"{len(jobs):016x}"
                    jobs.append({"number": len(jobs), "key": key, "words": [f"seed={seed}"]})
                    row = Row(
                        family=f"residual {family}",
                        task="mnist1d validation=0.2",
                        seed=seed,
                        parameters=size,
                        costs={"params": float(size), "flops": 2.0 * size},
                        status="finished",
                        metrics={"validation_error": error, "test_error": error},
                        curves={"step": [1.0], "test_error": [error]},
                        seconds=1.0,
                        compile_seconds=0.5,
                        execution="map",
                        members=6,
                        device="a processor",
                        commit=commit,
                        versions={"jax": "0.10.2", "numerics": numerics},
                        config={"seed": seed, "optimizer": {"learning_rate": rate}},
                        key=key,
                    )
                    (folder / key).mkdir(parents=True)
                    write(row, folder / key)
    (folder / JOBS).write_text("".join(f"{json.dumps(job)}\n" for job in jobs))
    line = {
        "started": "2026-11-30T10:00:00+0000",
        "folder": folder.name,
        "status": "finished",
        "runs": len(jobs),
        "trained": len(jobs),
        "found": 0,
        "failed": 0,
        "seconds": 60.0,
        "joules": 1000.0,
        "machine": "a processor",
        "commit": commit,
        "command": ["smallnets", "-m", "+experiment=x", f"hydra.sweep.dir={folder}"],
    }
    failed = line | {"folder": "gone", "status": "failed", "trained": 0, "joules": None}
    failed["started"] = "2026-11-29T09:00:00+0000"
    (folder.parent / "ledger.jsonl").write_text(f"{json.dumps(failed)}\n{json.dumps(line)}\n")
    return folder


@pytest.fixture
def writer() -> Callable[..., Path]:
    """Writes such a sweep into a folder, of another commit or NUMERICS."""
    return write_sweep


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep's folder: read it, don't write there."""
    return write_sweep(tmp_path_factory.mktemp("multirun") / "x-mnist1d")


@pytest.fixture(scope="session")
def laid_out(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A paper about the sweep as ``smallnets paper init`` writes it: copy it, don't write there."""
    folder = tmp_path_factory.mktemp("papers") / "x"
    init.write(folder, [sweep])
    return folder
