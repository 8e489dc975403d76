"""A plan: composed, sized and checked, nothing run; and a budget in any config."""

from pathlib import Path

import pytest
from command import TINY, folders, smallnets
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from smallnets.sweep import VERSION_BASE
from smallnets.sweep.execute import train
from smallnets.sweep.plan import plan

FAMILIES = ("dense", "low_rank", "monarch", "shared", "mixture")


@pytest.mark.slow
def test_a_run_meets_its_budget_and_its_sizes_repeat_it(cache: Path, tmp_path: Path):
    by_budget = plan("budget.params=3_000", *TINY, *folders(cache, tmp_path))
    sizes = ["model.width=17", "model.hidden=31"]
    by_sizes = plan(*sizes, *TINY, *folders(cache, tmp_path))
    assert by_budget.programs[0].sizes == {"width": 17, "hidden": 31}
    assert by_budget.programs[0].keys == by_sizes.programs[0].keys
    (run,) = train(by_budget)
    row = run.row
    assert row.parameters == row.costs["params"] == 3009
    assert row.costs["flops"] == 2 * (3009 - 3 * 17)  # all but the scales of three norms
    assert row.costs["bytes"] == 4 * 3009
    assert (row.config["model"]["width"], row.config["model"]["hidden"]) == (17, 31)
    assert row.config["budget"]["params"] == 3000


@pytest.mark.slow
def test_the_budgets_of_the_default_study_are_met_by_all_its_families(cache: Path):
    one_rate = "optimizer.learning_rate=1e-3"
    programs = plan("+experiment=mnist1d", one_rate, f"cache={cache}").programs
    budgets = [1_130, 3_000, 6_440, 16_000, 40_000, 100_000]
    asked = [(family, budget) for family in FAMILIES for budget in budgets]
    for program, (family, budget) in zip(programs, asked, strict=True):
        assert program.families == [f"residual {family}"] * 5  # seeds
        assert program.parameters == pytest.approx(budget, rel=0.005)
        assert program.trainer.budget().targets == {"params": budget}


def test_before_training_it_is_said_which_family_has_too_few_sizes(
    cache: Path, tmp_path: Path, capsys
):
    words = ["model=perceptron", "seed=0,1", *folders(cache, tmp_path)]
    smallnets("plan", *words, "model.widths=[2],[3]")
    said = " ".join(capsys.readouterr().out.split())
    few = "note: a scaling law needs 5 sizes of a family or more: perceptron dense widths.count=1"
    assert f"{few} has 2" in said


def test_without_a_budget_the_sizes_stay(cache: Path):
    (program,) = plan("model.width=8", f"cache={cache}").programs
    assert program.sizes == {}
    assert program.group.jobs[0].resolved["model"]["width"] == 8
    assert program.group.jobs[0].resolved["model"]["hidden"] is None
    assert program.parameters == 936


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=mnist1d", "model=transformer"], "a tied embedding gives the logits of a decoder"),
        (["task=austen", "model=encoder"], r"must return float32 logits \(64, 128, 256\), but"),
        (["task=austen", "model=transformer", "model.width=20"], "head_dim must divide the width"),
        (["task=austen", "model=transformer", "task.length=0"], "length must be a whole number"),
    ],
)
def test_models_and_tasks_that_do_not_fit_get_one_line(words, said, cache):
    with pytest.raises(ValueError, match=said) as caught:
        plan(*words, f"cache={cache}")
    assert "\n" not in str(caught.value)


def test_another_hydra_app_finds_its_own_state_untouched(cache: Path, tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(tmp_path), **VERSION_BASE):
        HydraConfig.instance().set_config(compose("mine", return_hydra_config=True))
        hydra, config = GlobalHydra.instance().hydra, HydraConfig.get()
        made = plan("seed=0,1", "hydra.job.name=theirs", f"cache={cache}")
        assert made.runs == 2
        assert GlobalHydra.instance().hydra is hydra
        assert HydraConfig.get() is config
        assert config.job.name != "theirs"
        assert OmegaConf.to_container(compose("mine")) == {"a": 1}
    HydraConfig.instance().cfg = None


def test_after_a_plan_no_hydra_is_left(cache: Path):
    GlobalHydra.instance().clear()
    plan(f"cache={cache}")
    with pytest.raises(ValueError, match="circle"):
        plan("model=circle", f"cache={cache}")
    assert not GlobalHydra.instance().is_initialized()
