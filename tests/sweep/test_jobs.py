"""Composing once and setting numbers gives what Hydra gives for each job."""

import random
import re
from unittest import mock

import numpy as np
import pytest
from omegaconf import OmegaConf, open_dict

from smallnets.sweep.jobs import Job, compose, group
from smallnets.sweep.plan import Plan, plan


@pytest.fixture(scope="module")
def one(cache) -> Plan:
    """A plan of one run, with the context and the master config that Hydra hands to a launcher."""
    return plan("seed=1", f"cache={cache}")


RATES = ["1", "1e-3", "0.003", "3E-3", "1.", ".5", "1e30", "+2", "${optimizer.schedule.warmup}"]


def sweep_of(generator: random.Random) -> list[list[str]]:
    """Some choices, and under each a few jobs with numbers written in many ways."""
    jobs = []
    for _ in range(4):
        choices = [
            f"family={generator.choice(['dense', 'mixture'])}",
            f"model.width={generator.choice([8, 16])}",
            f"hydra.job.name={generator.choice(['a', 'b'])}",
            f"steps={generator.choice([100, 200])}",
        ]
        chosen = generator.sample(choices, generator.randrange(1, 5))
        names = ["seed", "optimizer.learning_rate", "optimizer.weight_decay"]
        varied = generator.sample(names, generator.randrange(1, 4))
        for _ in range(4):
            numbers = [
                f"{name}={generator.randrange(99) if name == 'seed' else generator.choice(RATES)}"
                for name in varied
            ]
            jobs.append([*chosen, *numbers])
    return jobs


@pytest.mark.slow
def test_fast_equals_slow(one: Plan):
    jobs = sweep_of(random.Random(0))
    loader = one.context.config_loader
    with mock.patch.object(loader, "load_sweep_config", wraps=loader.load_sweep_config) as slow:
        fast = list(compose(loader, one.config, jobs, range(5, 5 + len(jobs))))
    assert slow.call_count < len(jobs) / 2
    for number, (job, overrides) in enumerate(zip(fast, jobs, strict=True), start=5):
        config = loader.load_sweep_config(one.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = str(number), number
        assert OmegaConf.to_yaml(job.config) == OmegaConf.to_yaml(config)


def jobs_of(one: Plan, *overrides: list[str]) -> list[Job]:
    return list(
        compose(one.context.config_loader, one.config, list(overrides), range(len(overrides)))
    )


def test_jobs_that_differ_in_varying_numbers_are_one_group(one: Plan):
    groups = group(
        jobs_of(
            one,
            ["optimizer.learning_rate=1", "seed=3"],
            ["optimizer.learning_rate=1e-3", "seed=4"],
            ["optimizer.learning_rate=1e-3", "objective.label_smoothing=0.1"],
            ["optimizer.learning_rate=1e-3", "model.width=16"],
        )
    )
    assert [[job.number for job in each.jobs] for each in groups] == [[0, 1, 2], [3]]
    values = groups[0].values
    np.testing.assert_array_equal(values["seed"], np.asarray([3, 4, 0], np.uint32))
    rates = np.asarray([1, 1e-3, 1e-3], np.float32)
    np.testing.assert_array_equal(values["optimizer.learning_rate"], rates)
    assert values["optimizer.learning_rate"].dtype == np.float32


def test_a_layer_declares_its_own_varying_numbers(one: Plan):
    jobs = jobs_of(
        one,
        ["family=mixture", "model.mixture.balance_weight=0.1"],
        ["family=mixture", "model.mixture.balance_weight=0.2"],
        ["family=mixture", "model.mixture.experts=8"],
    )
    assert [len(each.jobs) for each in group(jobs)] == [2, 1]


def test_a_value_derived_from_a_varying_number_follows_it(one: Plan):
    derived = ["steps=${seed}", "evaluations=1"]
    groups = group(jobs_of(one, ["seed=10", *derived], ["seed=20", *derived]))
    assert [each.jobs[0].resolved["steps"] for each in groups] == [10, 20]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.learning_rate=abc", "optimizer.learning_rate must be a number, but is 'abc'"),
        ("optimizer.learning_rate=null", "optimizer.learning_rate must be a number, but is None"),
        ("seed=1.5", "seed must be a whole number, but is 1.5"),
        ("seed=-1", "seed must not be below 0, but is -1"),
    ],
)
def test_what_is_no_number_gets_one_line(one: Plan, override: str, said: str):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        group(jobs_of(one, [override]))


def test_the_order_of_jobs_is_kept(one: Plan):
    jobs = jobs_of(one, *[[f"seed={seed}", "model.width=8"] for seed in (5, 3, 9)])
    assert [job.resolved["seed"] for job in jobs] == [5, 3, 9]
    assert [job.config.hydra.overrides.task[0] for job in jobs] == ["seed=5", "seed=3", "seed=9"]
