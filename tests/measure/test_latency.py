"""What is timed and how often; no test asserts seconds, which a shared machine can't promise."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from smallnets.measure import latency
from smallnets.measure.latency import latencies


class Layers(nnx.Module):
    def __init__(self, *shapes: tuple[int, int]):
        self.kernels = nnx.List([nnx.Param(jnp.ones(shape)) for shape in shapes])

    def __call__(self, x: jax.Array) -> jax.Array:
        for kernel in self.kernels:
            x = x @ kernel[...]
        return x


def test_each_form_is_timed_at_each_batch_size():
    forms = {"factorised": Layers((8, 2), (2, 8)), "merged": Layers((8, 8))}
    found = latencies(forms, jnp.ones((16, 8)), batch_sizes=(1, 16), rounds=7)
    assert [(entry.form, entry.batch_size) for entry in found] == [
        ("factorised", 1),
        ("merged", 1),
        ("factorised", 16),
        ("merged", 16),
    ]
    for entry in found:
        quartiles = (
            entry.lower_quartile_seconds,
            entry.median_seconds,
            entry.upper_quartile_seconds,
        )
        assert 0 < quartiles[0] <= quartiles[1] <= quartiles[2]
        assert entry.dispatch_seconds > 0
        assert entry.rounds == 7
        assert entry.device


def test_the_quartiles_are_those_of_the_rounds_after_warm_up(monkeypatch):
    """On a clock of our own, on which call number n takes n seconds: two calls a round."""
    ticks = iter(second for call in range(1, 15) for second in (0.0, float(call)))
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    (found,) = latencies(
        {"layers": Layers((2, 2))}, jnp.ones((1, 2)), batch_sizes=(1,), rounds=5, warmup=2
    )
    # The layers are called 1st, 3rd, ... of 14 calls; two rounds are warm-up: 5, 7, 9, 11, 13 s.
    assert found.lower_quartile_seconds == 7
    assert found.median_seconds == 9
    assert found.upper_quartile_seconds == 11
    assert found.dispatch_seconds == 10


def test_parameters_are_arguments_that_the_compiler_cannot_fold(monkeypatch):
    programs = []
    lower = jax.stages.Lowered.compile

    def spy(lowered, *arguments, **options):
        programs.append(lowered.as_text())
        return lower(lowered, *arguments, **options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", spy)
    latencies({"layers": Layers((3, 5), (5, 3))}, jnp.ones((1, 3)), batch_sizes=(1,), rounds=4)
    for shape in ("3x5", "5x3"):
        assert all(f"tensor<{shape}xf32>" in program.split("->")[0] for program in programs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sizes": (0,)}, r"0 is not in 1 \.\. 4"),
        ({"batch_sizes": (1, 5)}, r"5 is not in 1 \.\. 4"),
        ({"rounds": 3}, "at least 4 rounds"),
    ],
)
def test_what_cannot_be_timed_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        latencies({"layers": Layers((2, 2))}, jnp.ones((4, 2)), **{"batch_sizes": (1,), **options})


def test_a_plain_function_is_refused():
    with pytest.raises(ValueError, match=r"'sine' is a plain .* jax\.tree_util\.Partial"):
        latencies({"sine": jnp.sin}, jnp.ones((4, 2)))
    (found,) = latencies(
        {"sine": jax.tree_util.Partial(jnp.sin)}, jnp.ones((4, 2)), batch_sizes=(4,), rounds=4
    )
    assert found.form == "sine"
