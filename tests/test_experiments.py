"""Every script answers its question, with tiny settings: from its command to its figure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
TINY = ["steps=20", "evaluations=1", "batch_size=16", "seed=0"]
FEW = ["task.train=200", "task.validation=50", "task.test=50"]
RATE = "optimizer.learning_rate=1e-3"
WORDS = {  # a corner of each script's grid, and what it must print
    "families": (["family=dense,low_rank", "budget.params=1_130,3_000", RATE], "families.png"),
    "mnist1d_table": (["seed=0,1"], "logistic regression"),
    "known_asymptote": (
        ["model.width=4,6,8,12,16", "seed=0,1", "optimizer.learning_rate=1e-2,2e-2", *FEW],
        "the entropy is",
    ),
    "rate_transfer": (["seed=0,1"], "rate_transfer.png"),
    "fewer_bytes": ([], "equal FLOPs"),
    "fewer_bytes_lenet": (["lenet_300_100"], "equal FLOPs"),
    "fewer_bytes_austen": ([], "equal FLOPs"),
    "cascades": (["mnist1d"], "cascade - small"),
    "early_exit": (["model.width=8", RATE], "early_exit.png"),
    "routes": (
        ["--families", "dense", "--seeds", "2", "--sizes", "8_000,16_000"],
        "file_bytes",
    ),
    "search_by_optuna": ([], "sign test p ="),
    "benchmarks/deploy_table": (["model.width=16", "model.depth=2"], "paid after"),
}

LONG = {"fewer_bytes", "fewer_bytes_lenet", "fewer_bytes_austen", "routes", "search_by_optuna"}

# Tested in tests/sweep/test_ray.py, tests/compress/test_pretrained.py.
OF_EXTRAS = {"ray_workers", "tensorboard_callback", "pretrained"}


def test_no_script_is_without_a_test():
    scripts = {path.stem for path in EXPERIMENTS.glob("*.py")}
    assert scripts == {name for name in WORDS if "/" not in name} | OF_EXTRAS


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=[pytest.mark.long] * (each in LONG)) for each in WORDS],
)
def test_a_script(name: str, cache: Path, tmp_path: Path):
    words, said = WORDS[name]
    if (
        name == "benchmarks/deploy_table"
        and not (EXPERIMENTS.parent / ".venv-onnx" / "installed").exists()
    ):
        pytest.skip("the converters' environments are not here: make deploy")
    if name == "fewer_bytes_lenet" and not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    if name == "search_by_optuna":
        pytest.importorskip("optuna")
    # the corner's words stand last: of two that set one key the last counts
    command = [sys.executable, str(EXPERIMENTS / f"{name}.py"), str(tmp_path / "study")]
    ran = subprocess.run(
        [*command, *TINY, f"cache={cache}", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert said in ran.stdout
    if said.endswith(".png"):
        assert (tmp_path / "study" / said).stat().st_size > 5_000


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_is_short_and_opens_with_its_command(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= 110
    assert f"    python experiments/{path.name}" in text.split('"""')[1]
