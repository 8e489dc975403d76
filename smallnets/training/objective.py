"""What training minimises: objectives ``(model, batch, key) -> loss``, and the losses in them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from smallnets.traced import Traced

Objective = Callable[[Any, Any, jax.Array], jax.Array]  # (model, batch, key) -> loss


def cross_entropy(
    model: Any, batch: Any, key: jax.Array, *, label_smoothing: Traced = 0.0
) -> jax.Array:
    """The cross-entropy of a model's logits with the labels of a batch: :func:`label_loss`."""
    del key
    return label_loss(model(batch.inputs), batch.labels, label_smoothing=label_smoothing)


def label_loss(logits: jax.Array, labels: jax.Array, *, label_smoothing: Any = 0.0) -> jax.Array:
    """Mean cross-entropy in nats against (1 - s) onehot(label) + s / classes.

    Shapes: logits[..., classes], labels[...] (integers), such as [n] or, with one for each token,
    [n, T] -> scalar; s = label_smoothing. The mean is over the labels that are not -1: such a
    position has no answer, and where none has one the loss is NaN.

    Source of the smoothing: Szegedy et al. 2015, arXiv:1512.00567, section 7.
    """
    log_probabilities = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]
    smooth = label_smoothing * log_probabilities.mean(axis=-1)
    return -jnp.mean((1 - label_smoothing) * picked + smooth, where=labels >= 0)
