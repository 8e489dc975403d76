"""Every task's YAML opens with its command, builds without loading TFDS, and knows its options."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

FOLDER = Path(__file__).parents[2] / "conf" / "task"
PATHS = sorted(FOLDER.glob("*.yaml"))


def config(path: Path) -> DictConfig:
    loaded = OmegaConf.load(path)
    assert isinstance(loaded, DictConfig)
    return loaded


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_opens_with_its_command_and_names_every_option(path):
    assert f"\n#   smallnets task={path.stem}" in path.read_text()
    task = config(path)
    options = {str(key) for key in task if not str(key).startswith("_")}
    assert task["_partial_"] is True
    assert options == set(inspect.signature(get_object(task["_target_"])).parameters)


def test_tasks_are_imported_without_tfds():
    modules = ", ".join(config(path)["_target_"].rpartition(".")[0] for path in PATHS)
    script = f"import sys, {modules}; print('tensorflow_datasets' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr
