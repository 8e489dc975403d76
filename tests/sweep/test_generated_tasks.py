"""The command that stands in a generated task's YAML gives a network for its examples."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from smallnets.sweep.jobs import resolve
from smallnets.sweep.plan import build, check, load

CONF = Path(__file__).parents[2] / "conf"
TASKS = ("language", "modular_addition", "recall", "sparse_parity", "teacher")


@pytest.mark.parametrize("task", TASKS)
def test_the_command_of_the_task_shape_checks_on_its_own_examples(task: str):
    text = (CONF / "task" / f"{task}.yaml").read_text()
    command = re.search(r"^#   smallnets (.*)$", text, re.MULTILINE)
    assert command
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", command[1].split(), return_hydra_config=True)
    run, data = load(build(resolve(config)))
    check(run, data, task)
    assert len(data.validation) > 0


def test_the_loss_that_a_yaml_states_is_that_of_its_function():
    for task, names in (
        ("language", ("seed", "symbols", "rules", "branches", "depth")),
        ("teacher", ("classes", "noise")),
    ):
        path = CONF / "task" / f"{task}.yaml"
        options = OmegaConf.load(path)
        assert isinstance(options, DictConfig)
        truth = get_method(f"smallnets.tasks.{task}.bayes_loss")
        stated = re.search(r"bayes_loss\(\.\.\.\): ([\d.]+) nats", path.read_text())
        assert stated
        assert f"{truth(**{name: options[name] for name in names}):.3f}" == stated[1]
