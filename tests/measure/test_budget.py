"""Budgets are met by networks that are only traced; brute force and closed forms say how well."""

import math
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest
from command import TINY, folders
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import smallnets
from smallnets.measure import costs as module
from smallnets.measure.budget import Budget, solve
from smallnets.measure.costs import AXES, counted_costs
from smallnets.nn.linear import Dense
from smallnets.sweep.plan import plan

BATCH = jax.ShapeDtypeStruct((64, 40, 1), "float32")
FAMILIES = ("dense", "low_rank", "monarch", "shared", "mixture")


class Block(nnx.Module):
    """width (3 + 2 hidden) parameters; widths are multiples of ``blocks`` from ``least`` up."""

    def __init__(self, *, width, hidden=None, blocks=1, least=1, rngs):
        if width % blocks or width < least:
            raise ValueError(f"width={width} is no multiple of {blocks} from {least} up")
        hidden = 2 * width if hidden is None else hidden
        self.embed = Dense(3, width, rngs=rngs)
        self.up, self.down = Dense(width, hidden, rngs=rngs), Dense(hidden, width, rngs=rngs)

    def __call__(self, x):
        return self.down(self.up(self.embed(x)))


def size(width, hidden=None):
    return width * (3 + 2 * (2 * width if hidden is None else hidden))


def find(budget, knobs=("width",), **options):
    """The sizes that :func:`solve` gives for :class:`Block`, and how many networks it built."""
    built = []

    def network(sizes):
        built.append(sizes)
        return partial(Block, **sizes, **options)

    batch = jax.ShapeDtypeStruct((8, 3), "float32")
    return solve(budget, network, batch, knobs=knobs), len(built)


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(target=st.integers(1, 300_000), blocks=st.integers(1, 7), least=st.sampled_from([1, 20, 60]))
def test_it_finds_what_brute_force_finds(target, blocks, least):
    sizes = [size(width) for width in range(1, 400) if width % blocks == 0 and width >= least]
    nearest = min(sizes, key=lambda amount: abs(amount - target))
    budget = Budget(params=target)
    if abs(nearest - target) <= 0.005 * target:
        found, _ = find(budget, blocks=blocks, least=least)
        assert size(**found) == nearest
        return
    with pytest.raises(ValueError, match=r"nearest are|below the smallest") as refusal:
        find(budget, blocks=blocks, least=least)
    named = [int(number) for number in re.findall(r"([\d,]+) \(at", _plain(refusal))]
    below = [amount for amount in sizes if amount < target][-1:]
    above = [amount for amount in sizes if amount >= target][:1]
    assert named == below + above


def _plain(refusal):
    return str(refusal.value).replace(",", "")


@pytest.mark.slow
@settings(deadline=None, max_examples=4)
@given(target=st.integers(12_000, 300_000))
def test_the_next_knob_closes_the_gap_near_the_width(target):
    """One more hidden unit is 1 / (2 width) of the parameters: from 12,000 on, less than 1 %."""
    found, built = find(Budget(params=target), knobs=("width", "hidden"))
    assert abs(size(**found) - target) <= 0.005 * target
    exact = math.sqrt(target / 4)  # 3 width more do not matter here
    assert abs(found["width"] - exact) < 3
    assert 0.7 < found.get("hidden", 2 * found["width"]) / (2 * found["width"]) < 1.4
    assert built <= 30


def test_the_next_knob_is_left_alone_where_the_width_is_enough():
    assert find(Budget(params=size(50)), knobs=("width", "hidden"))[0] == {"width": 50}


@pytest.mark.parametrize("width", [1, 7, 33, 100, 1000])
def test_few_networks_are_traced(width):
    found, built = find(Budget(params=size(width)))
    assert found == {"width": width}
    assert built <= 9


@pytest.fixture(scope="module")
def models(cache: Path) -> dict[str, Any]:
    """What builds a network of each family: ``(shape, classes, *, width, rngs)``."""
    residual = plan(f"family={','.join(FAMILIES)}", f"cache={cache}")
    convolutional = plan("model=convolutional", f"cache={cache}")
    models = [program.trainer.model for program in residual.programs + convolutional.programs]
    return dict(zip((*FAMILIES, "convolutional"), models, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("axis", [axis for axis in AXES if axis != "latency_ms"])
@pytest.mark.parametrize("family", [*FAMILIES, "convolutional"])
def test_every_family_meets_what_one_of_its_widths_costs(models, family, axis):
    def network(sizes):
        return partial(models[family], (40, 1), 10, **sizes)

    built = jax.eval_shape(lambda: network({"width": 60})(rngs=nnx.Rngs(params=jax.random.key(0))))
    amount = counted_costs(built, BATCH)[axis]
    budget = Budget(tolerance=0.0, **{axis: amount})  # pyright: ignore[reportArgumentType]
    found = solve(budget, network, BATCH, knobs=["width"])
    assert found == {"width": 60}


def test_axes_by_their_closed_forms():
    built = jax.eval_shape(lambda: Block(width=5, rngs=nnx.Rngs(params=jax.random.key(0))))
    costs = counted_costs(built, jax.ShapeDtypeStruct((8, 3), "float32"))
    assert costs == {
        "params": size(5),
        "active_params": size(5),
        "flops": 2 * size(5),
        "bytes": 4 * size(5),
    }


class Fourier(Block):
    def __call__(self, x):
        return jax.numpy.fft.fft(super().__call__(x))


def test_flops_without_a_rule_are_left_out_and_no_budget():
    batch = jax.ShapeDtypeStruct((8, 3), "float32")
    built = jax.eval_shape(lambda: Fourier(width=5, rngs=nnx.Rngs(params=jax.random.key(0))))
    assert counted_costs(built, batch) == {"params": 115, "active_params": 115, "bytes": 460}
    with pytest.raises(ValueError, match="no rule says how many FLOPs"):
        solve(Budget(flops=1e4), lambda sizes: partial(Fourier, **sizes), batch, knobs=["width"])


def test_nothing_is_allocated():
    found, _ = find(Budget(params=1e11))  # 400 GB
    assert size(**found) == pytest.approx(1e11, rel=0.005)


def test_budgets_that_agree_are_met_together():
    both = Budget(params=size(50), bytes=4 * size(50))
    assert find(both)[0] == {"width": 50}


def test_budgets_that_contradict_each_other():
    message = "params=10,150 is met, bytes is nearest to 20,000 at width=50, where it is 40,600"
    with pytest.raises(ValueError, match=message):
        find(Budget(params=size(50), bytes=20_000))


@pytest.mark.slow  # a search of networks; test_search.py has the search
def test_two_axes_take_two_knobs():
    """Calls of a shared block cost FLOPs and no parameters: the widths set both."""
    words = ["family=shared", "model.depth=4", "budget.params=20_000", "budget.flops=100_000"]
    (program,) = plan(*words).programs
    assert set(program.sizes) == {"width", "hidden"}
    assert program.costs["params"] == pytest.approx(20_000, rel=0.005)
    assert program.costs["flops"] == pytest.approx(100_000, rel=0.005)


@pytest.mark.slow  # the search is that of any knob
def test_a_knob_may_be_a_layer_s(cache: Path, tmp_path: Path):
    words = ["family=low_rank", "model.linear.ratio=null", "model.width=64", "budget.params=15_000"]
    words += ["budget.knobs=[linear.rank,hidden]", *TINY, *folders(cache, tmp_path)]
    (run,) = smallnets.train(smallnets.plan(*words))
    assert run.row.parameters == pytest.approx(15_000, rel=0.005)
    model = run.row.config["model"]
    assert model["linear"]["rank"] > 1
    assert "linear.rank" not in model
    assert model["hidden"] is None or model["hidden"] > 1


def test_at_most_is_met_from_below_alone():
    """The nearest width is above: 1,072 for 1,065; 5 hidden more than at width 15 are below."""
    budget = {"bytes": 4 * 1065, "tolerance": 0.05}
    assert find(Budget(**budget))[0] == {"width": 16}
    found, _ = find(Budget(**budget, at_most=True), knobs=("width", "hidden"))
    assert 0.95 * 1065 <= size(**found) <= 1065
    assert find(Budget(params=1065, at_most=True))[0] == {"width": 15}
    with pytest.raises(ValueError, match="below the smallest network"):
        find(Budget(params=6, at_most=True))


@pytest.mark.slow
def test_a_model_of_at_most_ten_kilobytes_is_not_larger(cache: Path):
    words = ["family=monarch", "budget.bytes=10_000", "budget.at_most=true", f"cache={cache}"]
    (program,) = plan(*words).programs
    assert 9_900 <= program.costs["bytes"] <= 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(params=6), r"params=6 lies below the smallest network, 7 \(at width=1\)"),
        (Budget(params=1e18), "lies above the largest network"),
        (Budget(params=1000), r"the nearest are 945 \(at width=15\) and 1,072 \(at width=16\)"),
    ],
)
def test_what_no_width_meets(budget, said):
    with pytest.raises(ValueError, match=said):
        find(budget)


def test_what_is_wrong_with_every_width_is_said_at_once():
    built = []

    def network(sizes):
        built.append(sizes)
        return partial(wrong, **sizes)

    def wrong(*, width, rngs):
        raise ValueError("unique must divide depth")

    with pytest.raises(ValueError, match="unique must divide depth"):
        solve(Budget(params=100), network, BATCH, knobs=["width"])
    assert len(built) <= 3


@pytest.mark.parametrize(
    "wrong",
    [{"params": 0}, {"flops": -1}, {"bytes": math.inf}, {"params": "many"}, {"params": True}],
)
def test_a_budget_is_a_number_above_zero(wrong):
    with pytest.raises(
        ValueError, match=f"must be a number above 0, but budget.{next(iter(wrong))}"
    ):
        Budget(**wrong)


@pytest.mark.parametrize("wrong", [{"tolerance": 1.0}, {"tolerance": -0.1}, {"knobs": []}])
def test_options_are_checked(wrong):
    with pytest.raises(ValueError, match=f"budget.{next(iter(wrong))} must"):
        Budget(**wrong)


def timed(milliseconds, scatter):
    """In place of the clock: a latency in proportion to the parameters."""

    def latencies(forms, inputs, *, batch_sizes, rounds):
        assert inputs.shape == (1, 3)
        median = 1e-3 * milliseconds(module.parameters(forms["network"]).stored)
        return [
            SimpleNamespace(
                median_seconds=median,
                lower_quartile_seconds=median * (1 - scatter),
                upper_quartile_seconds=median * (1 + scatter),
            )
        ]

    return latencies


def test_a_latency_is_met_within_the_quartiles_of_its_timing(monkeypatch):
    monkeypatch.setattr(module, "latencies", timed(lambda count: count / 1000, 0.03))
    found, _ = find(Budget(latency_ms=10.3), knobs=("width", "hidden"))
    assert list(found) == ["width"]
    assert size(**found) / 1000 == pytest.approx(10.3, rel=0.03)


def test_a_latency_that_scatters_is_refused(monkeypatch):
    monkeypatch.setattr(module, "latencies", timed(lambda count: count / 1000, 0.5))
    with pytest.raises(ValueError, match="latency_ms can't be measured on this machine now"):
        find(Budget(latency_ms=10))


@pytest.mark.slow
def test_a_latency_between_neighbours_is_refused_as_unmeasurable(monkeypatch):
    monkeypatch.setattr(module, "latencies", timed(lambda count: 5 if count < 9e3 else 9, 0.01))
    with pytest.raises(ValueError, match=r"neighbouring networks took 5 .* and 9 "):
        find(Budget(latency_ms=7))


def test_no_huge_network_is_timed(monkeypatch):
    monkeypatch.setattr(module, "TIMED_BYTES", 10_000)
    monkeypatch.setattr(module, "latencies", timed(lambda count: 1e-3, 0.01))
    with pytest.raises(ValueError, match="needs a network larger than is timed here"):
        find(Budget(latency_ms=7))
