"""The command that stands in a generated task's YAML gives a network for its examples."""

import re
from pathlib import Path

import pytest
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from smallnets.sweep import CONF
from smallnets.sweep.plan import plan

FEW = ["task.train=500", "task.validation=50", "task.test=50"]
TASKS = ("random_hierarchy", "modular_addition", "mqar", "sparse_parity", "teacher_student")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_command_of_the_task_shape_checks_on_its_own_examples(task: str, cache: Path):
    text = (CONF / "task" / f"{task}.yaml").read_text()
    command = re.search(r"^#   smallnets (.*)$", text, re.MULTILINE)
    assert command
    few = FEW if task != "modular_addition" else []  # there they are shares of all pairs
    (program,) = plan(*command[1].split(), *few, f"cache={cache}").programs
    assert len(program.data.validation) > 0


def test_the_loss_that_a_yaml_states_is_that_of_its_function():
    for task, names in (
        ("random_hierarchy", ("seed", "symbols", "rules", "branches", "depth")),
        ("teacher_student", ("classes", "noise")),
    ):
        path = CONF / "task" / f"{task}.yaml"
        options = OmegaConf.load(path)
        assert isinstance(options, DictConfig)
        truth = get_method(f"smallnets.tasks.{task}.bayes_loss")
        stated = re.search(r"bayes_loss\(\.\.\.\): ([\d.]+) nats", path.read_text())
        assert stated
        assert f"{truth(**{name: options[name] for name in names}):.3f}" == stated[1]
