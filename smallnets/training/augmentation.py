"""Augmentations: functions of a key that change a training batch, on the device, in its step.

``augment(key, batch) -> batch`` sees ``batch.inputs[n, *positions, channels]``, of any type, and
``batch.labels[n]``, and keeps their shapes and types. One key gives one result; each example draws
for itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from smallnets.traced import Traced

Augmentation = Callable[[jax.Array, Any], Any]  # (key, batch) -> batch


def augmented(key: jax.Array, batch: Any, parts: Mapping[str, Augmentation]) -> Any:
    """The batch after one augmentation after another, each with a key of its own.

    Raises ValueError for inputs without positions and channels.
    """
    if batch.inputs.ndim < 3:
        raise ValueError(
            "augmentations need examples [*positions, channels], but they are "
            f"{batch.inputs.shape[1:]}: leave augmentation out for this task"
        )
    for index, part in enumerate(parts.values()):
        batch = part(jax.random.fold_in(key, index), batch)
    return batch


def flip(key: jax.Array, batch: Any, *, axis: int = -2, probability: Traced = 0.5) -> Any:
    """Each example turned over along an axis with a probability; -2 is left and right."""
    x = batch.inputs
    turned = jax.random.bernoulli(key, jnp.asarray(probability, float), (len(x),))
    turned = turned.reshape(-1, *[1] * (x.ndim - 1))
    return replace(batch, inputs=jnp.where(turned, jnp.flip(x, axis), x))


def shift(key: jax.Array, batch: Any, *, positions: int = 4) -> Any:
    """Each example moved by -positions .. positions along each axis, with zeros where none was,
    which is the mean where inputs are standardised.

    The same as a random crop of its size from the example with so many zeros around it, as for
    CIFAR in He et al. 2015, arXiv:1512.03385, section 4.2. Raises ValueError for positions below 0.
    """
    if positions < 0:
        raise ValueError(f"shift needs positions of at least 0, but is {positions}: mend it")
    x = batch.inputs
    axes = x.ndim - 2
    padded = jnp.pad(x, [(0, 0), *[(positions, positions)] * axes, (0, 0)])
    starts = jax.random.randint(key, (len(x), axes), 0, 2 * positions + 1)

    def cut(example: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(example, [*start, 0], x.shape[1:])

    return replace(batch, inputs=jax.vmap(cut)(padded, starts))


def cutout(key: jax.Array, batch: Any, *, size: int = 8) -> Any:
    """In each example a window of ``size`` positions along each axis at zero, over the edge too.

    Source: DeVries & Taylor 2017, arXiv:1708.04552, section 3. Raises ValueError for a size
    below 1.
    """
    if size < 1:
        raise ValueError(f"cutout needs a size of at least 1, but is {size}: mend it")
    x = batch.inputs
    inside = jnp.ones((len(x), *[1] * (x.ndim - 1)), bool)
    for axis in range(1, x.ndim - 1):
        count = x.shape[axis]
        middle = jax.random.randint(jax.random.fold_in(key, axis), (len(x), 1), 0, count)
        start = middle - size // 2
        place = jnp.broadcast_to(jnp.arange(count)[None], (len(x), count))
        hit = (place >= start) & (place < start + size)
        hit = hit.reshape(len(x), *[count if a == axis else 1 for a in range(1, x.ndim)])
        inside = inside & hit
    return replace(batch, inputs=jnp.where(inside, jnp.zeros_like(x), x))


def mixup(
    model: Any,
    batch: Any,
    key: jax.Array,
    *,
    objective: Callable[..., jax.Array],
    alpha: Traced = 0.2,
) -> jax.Array:
    """The loss on mixed examples, an objective around another one.

        x = lam x_i + (1 - lam) x_j,    loss = lam objective(x, y_i) + (1 - lam) objective(x, y_j)

    with lam of Beta(alpha, alpha), one for a batch, and j another order of the batch. For a
    cross-entropy that is the loss against mixed labels; the network is called once for each label,
    which XLA makes one call where nothing in it draws otherwise. Inputs become floats.

    Source: Zhang et al. 2017, arXiv:1710.09412, equation 1; one lam for a batch as in its code.
    Raises ValueError for inputs that are tokens.
    """
    x = batch.inputs
    if x.ndim < 3 and jnp.issubdtype(x.dtype, jnp.integer):
        raise ValueError("mixup needs inputs that are numbers, but they are tokens: leave it out")
    key_lam, key_order, key = jax.random.split(key, 3)
    both = jnp.asarray(alpha, float)  # a whole number too
    lam = jax.random.beta(key_lam, both, both)
    order = jax.random.permutation(key_order, len(x))
    x = x.astype(lam.dtype)
    mixed = replace(batch, inputs=lam * x + (1 - lam) * x[order])
    other = replace(mixed, labels=batch.labels[order])
    return lam * objective(model, mixed, key) + (1 - lam) * objective(model, other, key)
