"""A run in segments is the run in one; what an objective and a view see; what is kept."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from smallnets.nn import Dense, Mixture, ResidualNetwork
from smallnets.training import cross_entropy
from smallnets.training.batch import COMPILER_OPTIONS
from smallnets.training.fit import Arrays, Fit, TrainingState
from smallnets.training.objective import label_loss

random = np.random.default_rng(0)
TRAIN = Arrays(
    random.normal(size=(64, 6)).astype(np.float32),
    random.integers(0, 4, 64).astype(np.int32),
    {"weight": random.random(64).astype(np.float32)},
)
HELD_OUT = {"validation": Arrays(TRAIN.inputs[:32], TRAIN.labels[32:])}
NETWORK = partial(ResidualNetwork, (6,), 4, width=8, depth=1, linear=Dense)
MIXTURE = partial(NETWORK, mixture=partial(Mixture, experts=3, top_k=2))


def adam(rate: float):
    return lambda steps: optax.adam(rate)


def described(**changes) -> Fit:
    plain = {
        "optimizer": adam(3e-2),
        "objective": cross_entropy,
        "steps": 24,
        "batch_size": 16,
        "evaluations": 6,
    }
    return Fit(**{**plain, **changes})


def begun(fit: Fit, network: Any = NETWORK, start: Any = None) -> TrainingState:
    return fit.begin(network, 3, count=64, start=start)


def run(fit: Fit, network: Any = NETWORK, start: Any = None) -> tuple:
    def whole(train, held_out):
        state, curves = fit.segment(begun(fit, network, start), train, held_out, fit.evaluations)
        return fit.finish(state), curves

    return compiled(whole)(TRAIN, HELD_OUT)


def compiled(function):
    """As a program is: another compiler may round two programs of the same numbers differently."""
    return jax.jit(function, compiler_options=COMPILER_OPTIONS.get(jax.default_backend()))


def equal(one, other) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


@pytest.mark.slow  # test_batch.py has it of a program
@pytest.mark.users_options
@pytest.mark.parametrize(
    ("keep", "network"),
    [
        ("best", NETWORK),
        pytest.param("best", MIXTURE, marks=pytest.mark.slow),
        pytest.param("last", MIXTURE, marks=pytest.mark.slow),
    ],
)
def test_segments_give_the_bits_of_one(keep: str, network: Any):
    fit = described(keep=keep)
    model, curves = run(fit, network)
    begin = compiled(lambda: begun(fit, network))
    segment = compiled(partial(fit.segment, evaluations=2))
    state, parts = begin(), []
    for _ in range(3):
        leaves, structure = jax.tree.flatten(state)  # a plain pytree, which can be kept
        state = jax.tree.unflatten(structure, leaves)
        state, part = segment(state, TRAIN, HELD_OUT)
        parts.append(part)
    assert int(state.step) == 24
    assert equal(compiled(fit.finish)(state), model)
    for name, curve in curves.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), curve)


def test_patience_keeps_what_stopping_would_have_kept():
    fit = described(keep="best", patience=2)
    losses = [3.0, 2.0, 2.5, 2.0, 1.0, 0.5]  # twice none was lower than the second
    best = (jnp.inf, jnp.zeros((), int), jnp.zeros(()), jnp.zeros(()))
    for place, loss in enumerate(losses):
        now = jnp.full((), float(place)), jnp.zeros(())
        best = fit._best(best, {"validation_loss": jnp.asarray(loss)}, now, jnp.asarray(place == 0))
    assert float(best[0]) == 2
    assert float(best[2]) == 1
    for patience, kept in ((3, 5), (None, 5)):
        again = (jnp.inf, jnp.zeros((), int), jnp.zeros(()), jnp.zeros(()))
        for place, loss in enumerate(losses):
            now = jnp.full((), float(place)), jnp.zeros(())
            score = {"validation_loss": jnp.asarray(loss)}
            again = described(keep="best", patience=patience)._best(
                again, score, now, jnp.asarray(place == 0)
            )
        assert float(again[2]) == kept


@pytest.mark.slow
def test_the_objective_sees_a_batch_s_further_arrays_and_a_key_of_its_own():
    seen = []

    def weighted(model, batch, key):
        assert batch.more["weight"].shape == (16,)
        jax.debug.callback(lambda key: seen.append(tuple(key.tolist())), jax.random.key_data(key))
        losses = jax.vmap(label_loss)(model(batch.inputs), batch.labels)
        return jnp.mean(batch.more["weight"] * losses)

    _, curves = run(described(objective=weighted))
    _, plain = run(described())
    assert len(set(seen)) == 24
    assert not np.array_equal(curves["train_loss"], plain["train_loss"])
    assert curves["train_loss"][0] < 0.8 * plain["train_loss"][0]  # weights of mean 1/2


@pytest.mark.slow
def test_rows_of_further_arrays_stay_with_their_examples():
    more = {"inputs": TRAIN.inputs}

    def same(model, batch, key):
        del key
        return (
            jnp.mean(model(batch.inputs) ** 2) + jnp.abs(batch.inputs - batch.more["inputs"]).sum()
        )

    train = Arrays(TRAIN.inputs, TRAIN.labels, more)
    fit = described(objective=same)
    state, curves = compiled(lambda train: fit.segment(begun(fit), train, {}, fit.evaluations))(
        train
    )
    assert curves["train_loss"][-1] < 0.1
    del state


@pytest.mark.slow
def test_held_out_splits_are_scored_by_the_task_whatever_the_objective():
    def nothing(model, batch, key):
        del key
        return 0 * jnp.mean(model(batch.inputs))

    model, curves = run(described(objective=nothing))
    expected = label_loss(model(HELD_OUT["validation"].inputs), HELD_OUT["validation"].labels)
    np.testing.assert_allclose(curves["validation_loss"], float(expected), rtol=1e-5)
    np.testing.assert_array_equal(curves["train_loss"], 0)


def rounded(model, *, training, key):
    """Weights rounded to halves, seen through by the gradient."""
    del key

    def each(leaf):
        value = jnp.round(2 * leaf) / 2
        return leaf + jax.lax.stop_gradient(value - leaf) if training else value

    return jax.tree.map(
        lambda leaf: jax.tree.map(each, leaf) if isinstance(leaf, nnx.Param) else leaf,
        model,
        is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
    )


@pytest.mark.slow
def test_the_model_comes_back_in_its_view_and_is_scored_in_it():
    model, curves = run(described(view=rounded))
    for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)):
        np.testing.assert_array_equal(2 * leaf, np.round(2 * leaf))
    loss = label_loss(model(HELD_OUT["validation"].inputs), HELD_OUT["validation"].labels)
    np.testing.assert_allclose(curves["validation_loss"][-1], float(loss), rtol=1e-5)


@pytest.mark.slow
def test_a_view_has_a_new_key_in_each_step_and_none_in_evaluations():
    seen = []

    def noisy(model, *, training, key):
        assert training is (key is not None)
        if training:
            jax.debug.callback(
                lambda key: seen.append(tuple(key.tolist())), jax.random.key_data(key)
            )
        return model

    run(described(view=noisy))
    assert len(set(seen)) == 24


@pytest.mark.slow
@pytest.mark.users_options
def test_the_best_is_the_earlier_on_ties_and_the_first_where_none_is_a_number():
    """A binary loss that training can't change, by which every evaluation is a tie."""
    fit = described(keep="best")
    tied = {"validation": Arrays(0 * TRAIN.inputs, TRAIN.labels)}  # the embedding of nothing is 0
    first = described(steps=24, evaluations=6)

    def after(evaluations, described, held_out):
        def segment(train, held_out):
            state = begun(described)
            return described.segment(state, train, held_out, evaluations)[0]

        return compiled(segment)(TRAIN, held_out)

    assert equal(fit.finish(after(6, fit, tied)), first.finish(after(1, first, tied)))
    nowhere = {"validation": Arrays(np.nan * TRAIN.inputs, TRAIN.labels)}
    assert equal(fit.finish(after(6, fit, nowhere)), first.finish(after(1, first, nowhere)))
    falling = {"validation": Arrays(TRAIN.inputs, TRAIN.labels)}
    assert not equal(fit.finish(after(6, fit, falling)), first.finish(after(1, first, falling)))


@pytest.mark.slow
def test_training_on_starts_where_the_model_was():
    fit = described()
    model, curves = run(fit)
    still = described(optimizer=adam(0.0), steps=4, evaluations=1)
    again, after = run(still, None, model)
    assert equal(again, model)
    np.testing.assert_allclose(
        after["validation_loss"][0], curves["validation_loss"][-1], rtol=1e-6
    )


@pytest.mark.slow
def test_products_in_bfloat16_leave_parameters_and_scores_in_float32():
    plain, curves = run(described())
    fit = described(precision="bfloat16")
    state = jax.eval_shape(lambda: begun(fit, MIXTURE))
    assert all(
        leaf.dtype != jnp.bfloat16 for leaf in jax.tree.leaves(state) if hasattr(leaf, "dtype")
    )

    def segment(train, held_out):
        return fit.segment(begun(fit), train, held_out, 6)

    traced = str(jax.make_jaxpr(segment)(TRAIN, HELD_OUT))
    products = [line for line in traced.splitlines() if "dot_general" in line]
    assert {"bf16" in line for line in products} == {True, False}  # a step's, and an evaluation's
    model, rounded = run(fit)
    first, other = curves["train_loss"], rounded["train_loss"]
    assert not np.array_equal(first, other)
    np.testing.assert_allclose(first, other, rtol=0.1)
    assert {leaf.dtype for leaf in jax.tree.leaves(model)} == {
        leaf.dtype for leaf in jax.tree.leaves(plain)
    }
