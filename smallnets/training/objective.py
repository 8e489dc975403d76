import jax
import jax.numpy as jnp

from smallnets.traced import Traced


def cross_entropy(
    logits: jax.Array, labels: jax.Array, *, label_smoothing: Traced = 0.0
) -> jax.Array:
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
