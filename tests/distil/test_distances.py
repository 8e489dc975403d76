"""What a student differs from its teacher by: the equations of the docstrings, and their zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smallnets.distil import Attention, Features, Logits, Relations
from smallnets.training.fit import Arrays

DRAW = np.random.default_rng(0)
LABELS = Arrays(None, jnp.asarray([1, 0, -1, 2]))


def draw(*shape: int) -> np.ndarray:
    return DRAW.normal(size=shape).astype(np.float32)


def test_logits_are_the_divergence_of_softened_probabilities_over_given_labels():
    y, t, temperature = draw(4, 3), draw(4, 3), 2.0
    p, q = (np.exp(x / temperature) for x in (t, y))
    p, q = (x / x.sum(axis=1, keepdims=True) for x in (p, q))
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=1)[[0, 1, 3]].mean()
    way = Logits(teacher="", temperature=temperature)
    found = way.distance(jnp.asarray(y), jnp.asarray(t), LABELS)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_features_are_an_error_over_the_size_of_the_teachers():
    h = jnp.asarray(draw(4, 6))
    features = Features(teacher="")
    assert float(features.distance(h, h, LABELS)) == 0
    assert float(features.distance(0 * h, 7 * h, LABELS)) == pytest.approx(1)


@pytest.mark.parametrize("width", [8, 16])  # the teacher has 8 numbers, the student as many or more
def test_attention_compares_relations_of_heads_of_any_width(width: int):
    way = Attention(teacher="", relation_heads=2)
    theirs = [jnp.asarray(draw(3, 5, 8)) for _ in range(3)]
    # numbers that give the same products over sqrt(d_r) within each head
    mine = [np.zeros((3, 5, 2, width // 2), np.float32) for _ in range(3)]
    for wide, narrow in zip(mine, theirs, strict=True):
        wide[..., :4] = narrow.reshape(3, 5, 2, 4) * (width / 8) ** 0.25
    own = jnp.stack([way._relations(jnp.asarray(x.reshape(3, 5, width))) for x in mine])
    assert float(way.distance(own, theirs, LABELS)) == pytest.approx(0, abs=1e-6)
    assert float(way.distance(own, theirs[::-1], LABELS)) > 1e-2


@pytest.mark.slow
def test_relations_are_those_of_any_turned_and_scaled_copy_and_of_no_other():
    z = draw(4, 3)
    turn, _ = np.linalg.qr(draw(5, 5))
    copy = 3 * np.pad(z, ((0, 0), (0, 2))) @ turn.astype(np.float32)
    way = Relations(teacher="")
    assert float(way.distance(jnp.asarray(z), jnp.asarray(copy), LABELS)) < 1e-6
    assert float(way.distance(jnp.asarray(z), jnp.asarray(draw(4, 5)), LABELS)) > 1e-2
    twice = jnp.asarray(z).at[1].set(z[0])  # two equal examples have no angle, and no NaN
    slope = jax.grad(lambda z: way.distance(z, jnp.asarray(copy), LABELS))(twice)
    assert jnp.isfinite(slope).all()
