"""What training minimises: objectives ``(model, batch, key) -> loss``, and the losses in them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smallnets.tasks.metrics import label_losses
from smallnets.traced import Traced, TracedFraction

Objective = Callable[[Any, Any, jax.Array], jax.Array]  # (model, batch, key) -> loss


def cross_entropy(
    model: Any,
    batch: Any,
    key: jax.Array,
    *,
    label_smoothing: TracedFraction = 0.0,
    class_weights: Sequence[float] | str | None = None,
) -> jax.Array:
    """The cross-entropy of a model's logits with the labels of a batch: :func:`label_loss`.

    ``class_weights`` are one for each class, or ``balanced``: n / (classes * the class's examples)
    of the train split, so that all classes count alike. Raises ValueError where the labels are no
    classes or their number is not that of the weights.
    """
    del key
    _check(batch.labels, jnp.int32, "cross_entropy", "classes")
    if isinstance(class_weights, str):
        raise ValueError(
            f"class_weights must be a number for each class, balanced or null, but is "
            f"{class_weights!r}: balanced is for tasks of one class an example"
        )
    logits = model(batch.inputs)
    if batch.labels.ndim == logits.ndim:
        raise ValueError(
            "objective=cross_entropy is for one class an example, but the task has several labels: "
            "choose objective=binary_cross_entropy"
        )
    if class_weights is not None and len(class_weights) != logits.shape[-1]:
        raise ValueError(
            f"class_weights must be a number for each class, but there are {len(class_weights)} "
            f"for {logits.shape[-1]} classes: give one for each"
        )
    return label_loss(
        logits, batch.labels, label_smoothing=label_smoothing, class_weights=class_weights
    )


def label_loss(
    logits: jax.Array,
    labels: jax.Array,
    *,
    label_smoothing: Any = 0.0,
    class_weights: Sequence[float] | None = None,
) -> jax.Array:
    """Mean cross-entropy in nats against (1 - s) onehot(label) + s / classes.

    Shapes: logits[..., classes], labels[...] (integers), such as [n] or, with one for each token,
    [n, T] -> scalar; s = label_smoothing. The mean is over the labels that are not -1, each with
    the weight of its class: such a position has no answer, and where none has one the loss is NaN.

    Source of the smoothing: Szegedy et al. 2015, arXiv:1512.00567, section 7.
    """
    log_probabilities = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]
    smooth = label_smoothing * log_probabilities.mean(axis=-1)
    likelihoods = (1 - label_smoothing) * picked + smooth
    if class_weights is None:
        return -jnp.mean(likelihoods, where=labels >= 0)
    weights = jnp.where(labels >= 0, jnp.asarray(class_weights, logits.dtype)[labels], 0)
    return -jnp.sum(weights * likelihoods) / jnp.sum(weights)


def squared_error(model: Any, batch: Any, key: jax.Array) -> jax.Array:
    """Mean of (y - t)^2 over the targets of a batch, which have variance 1 in the train split."""
    return _differences(model, batch, key, "squared_error", jnp.square)


def absolute_error(model: Any, batch: Any, key: jax.Array) -> jax.Array:
    """Mean of |y - t| over the targets of a batch."""
    return _differences(model, batch, key, "absolute_error", jnp.abs)


def huber(model: Any, batch: Any, key: jax.Array, *, delta: Traced = 1.0) -> jax.Array:
    """Mean of d^2 / 2 where d = |y - t| <= delta, else of delta (d - delta / 2). Huber 1964."""

    def loss(difference: jax.Array) -> jax.Array:
        near = jnp.minimum(jnp.abs(difference), delta)
        return near * (jnp.abs(difference) - near / 2)

    return _differences(model, batch, key, "huber", loss)


def binary_cross_entropy(model: Any, batch: Any, key: jax.Array) -> jax.Array:
    """Mean over examples and labels of -log of the probability sigmoid(y) or 1 - sigmoid(y)."""
    del key
    _check(batch.labels, jnp.int32, "binary_cross_entropy", "labels of 0 and 1, [n, k],", axes=2)
    return label_losses(model(batch.inputs), batch.labels).mean()


def balanced(labels: np.ndarray, classes: int) -> tuple[float, ...]:
    """n / (classes * count) for each class; 0 for a class without examples."""
    counts = np.bincount(labels, minlength=classes)
    return tuple(float(len(labels) / (classes * count)) if count else 0.0 for count in counts)


def _differences(model: Any, batch: Any, key: jax.Array, name: str, loss: Any) -> jax.Array:
    del key
    _check(batch.labels, jnp.float32, name, "targets")
    return loss(model(batch.inputs) - batch.labels).mean()


def _check(labels: Any, dtype: Any, name: str, needed: str, *, axes: int | None = None) -> None:
    if labels.dtype == dtype and (axes is None or labels.ndim == axes):
        return
    fix = "objective=squared_error" if labels.dtype == jnp.float32 else "objective=cross_entropy"
    raise ValueError(
        f"objective={name} is for {needed} but the task has {labels.dtype} labels: choose {fix}"
    )
