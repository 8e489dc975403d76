"""What smallnets promises of every layer, and that each YAML builds what it describes."""

from pathlib import Path

import pytest
from mypackage.layers import Circulant

import smallnets
from smallnets.testing import check_linear

CONF = Path(__file__).parents[1] / "conf"


@pytest.mark.parametrize("factory", [Circulant])
def test_a_linear_layer_keeps_the_contract(factory):
    check_linear(factory)


def test_the_experiment_is_composed_sized_and_checked():
    plan = smallnets.plan("+experiment=circulant", config_dir=CONF)
    assert plan.runs == 8
    assert len(plan.programs) == 4
