import numpy as np
import pytest

from smallnets.analysis import planning
from smallnets.analysis.planning import design, noises, question
from smallnets.analysis.simulation import PILOT_CELLS, Cell, simulate_plans
from smallnets.analysis.study import analyse


def pilot(**change):
    return analyse(Cell(sizes=6, seeds=3, **change).draw(np.random.default_rng(0)))


def test_a_question_is_read():
    asked = question("dense vs low_rank linear.ratio=0.5 at loss 2.5 by 1.5")
    assert (asked.family, asked.other) == ("dense", "low_rank linear.ratio=0.5")
    assert (asked.score, asked.factor) == (2.5, 1.5)
    with pytest.raises(ValueError, match="more than 1 times"):
        question("a vs b at loss 1 by 0.5")


@pytest.mark.slow
def test_a_larger_difference_needs_fewer_runs_and_the_plan_is_a_sentence(monkeypatch):
    monkeypatch.setattr(planning, "SIZES", (5, 8))
    monkeypatch.setattr(planning, "SEEDS", (1, 3))
    study = pilot()
    plans = [
        design(study, question(f"first vs third at error 0.5 by {factor}"), studies=25)
        for factor in (1.2, 2.5)
    ]
    assert plans[1].enough
    assert plans[1].best.cost < plans[0].best.cost
    assert plans[1].at_hand.power > plans[0].at_hand.power
    assert "To show first needing 2.5 times less than third at 0.5" in str(plans[1])


def test_noise_of_seeds_and_of_sizes_are_told_apart():
    shared = [noises([c.choice.best for c in pilot(size_error=0.05).curves if c.choice])]
    within, between = shared[0]
    assert within == pytest.approx(0.02, rel=0.4)
    assert 0.02 < between < 0.1
    assert noises([c.choice.best for c in pilot().curves if c.choice])[1] < 0.02


@pytest.mark.slow
def test_the_planned_power_is_what_studies_of_the_truth_have(monkeypatch):
    """Pilots differ; the power that they give their own design must be right on average."""
    monkeypatch.setattr(planning, "SIZES", (6,))
    monkeypatch.setattr(planning, "SEEDS", (3,))
    planned, shown = np.mean(simulate_plans(PILOT_CELLS[4], 60), axis=0)
    assert planned == pytest.approx(shown, abs=0.15)
