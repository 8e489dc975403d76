"""Numbers stay what they were: runs of every network and family, and sweeps, against a sample.

The sample was trained by the commit that it names. On the processor and the JAX that made it the
curves of training must be equal to the last bit; elsewhere a compiler may round otherwise, and
curves of so few steps must agree to a part in a thousand. Held-out splits have been answered in
batches since, and by mixtures without capacities: their curves, of those mixtures by the commit
``held_out_commit``, agree to rounding.
"""

import hashlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from command import folders, smallnets

from smallnets.measure.machine import device_name
from smallnets.rows import load

pytestmark = pytest.mark.users_options


def processor() -> str:
    """A digest of what the processor can do: machines of one name may round otherwise."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:12]


SAMPLES = sorted((Path(__file__).parent / "golden").glob("*.json"))
QUICK = {"perceptron-dense"}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow)
        for path in SAMPLES
    ],
)
def test_curves_are_those_of_the_sample(path: Path, cache: Path, tmp_path: Path):
    sample = json.loads(path.read_text())
    sweep = ["-m"] if path.stem.startswith("sweep") else []
    smallnets(*sweep, *sample["overrides"], *folders(cache, tmp_path))
    rows = list(load(tmp_path))
    here = device_name(jax.devices()[0]), processor(), jax.__version__
    same = (sample["device"], sample["processor"], sample["jax"]) == here
    assert len(rows) == len(sample["rows"])
    for expected in sample["rows"]:
        first = expected["curves"]["train_loss"][0]
        alike = [row for row in rows if row.parameters == expected["parameters"]]
        row = min(alike, key=lambda row: abs(row.curves["train_loss"][0] - first))
        assert row.seed == expected["seed"]
        assert set(row.curves) == set(expected["curves"])
        for name, curve in expected["curves"].items():
            if same and not name.startswith(("validation", "test")):
                np.testing.assert_array_equal(row.curves[name], np.asarray(curve, float), name)
            else:
                rtol = 1e-5 if same else 1e-3
                np.testing.assert_allclose(row.curves[name], curve, rtol=rtol, err_msg=name)
