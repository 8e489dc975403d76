"""One training run as a pure function: seed and numbers in, trained model and curves out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from smallnets.nn.parameter import Buffer, combine, emptied, means, partition
from smallnets.training.objective import cross_entropy
from smallnets.training.optimizer import Parametrization, initial, standard, with_rates

Loss = Callable[[jax.Array, jax.Array], jax.Array]


class Arrays(NamedTuple):
    """A split on the device: ``inputs[n, ...]``, and ``labels[n]`` or, of tokens, ``[n, T]``.

    The label -1 of a token is none.
    """

    inputs: Any
    labels: Any


def fit(
    network: Callable[..., Any],
    train: Arrays,
    held_out: dict[str, Arrays],
    *,
    seed: jax.Array | int,
    optimizer: Callable[[int], optax.GradientTransformation],
    loss: Loss,
    steps: int,
    batch_size: int,
    evaluations: int,
    parametrization: Parametrization = standard,
) -> tuple[Any, dict[str, jax.Array]]:
    """Train for ``steps`` batches; evaluate ``evaluations`` times, evenly, the last at the end.

    ``network(rngs=...)`` builds the model. Batches are drawn without replacement, in a new order
    each epoch; what is left of an epoch after its last whole batch is skipped. The seed sets the
    parameters and the orders; ``parametrization`` says how each weight array's initial values and
    learning rate depend on its fans.

    Returns the model and curves, each ``[evaluations]``: ``train_loss`` (mean of the batches since
    the evaluation before) and for each held-out split ``<name>_loss`` (plain cross-entropy in nats,
    whatever the training loss) and ``<name>_error`` (share of wrong answers, NaN where the loss
    is), where the labels are of tokens means over those tokens that have one. What a model's maps
    report of themselves in training are curves too (:mod:`smallnets.nn.parameter`). It is one
    ``lax.scan``, pure, and so may be ``vmap``-ed over everything that is a number.
    """
    key_parameters, key_order = jax.random.split(jax.random.key(seed))
    parameters, rest = partition(network(rngs=nnx.Rngs(params=key_parameters)))
    states, rest = partition(rest, Buffer)
    parameters = initial(parameters, parametrization)
    transformation = with_rates(optimizer(steps), parametrization)
    count = train.labels.shape[0]
    batches = count // batch_size

    def whole(parameters: Any, states: Any) -> Any:
        return combine(parameters, combine(states, rest))

    def objective(trained: tuple[Any, Any], batch: Arrays) -> jax.Array:
        return loss(whole(*trained)(batch.inputs), batch.labels)

    def order_of(epoch: jax.Array) -> jax.Array:
        return jax.random.permutation(jax.random.fold_in(key_order, epoch), count)

    def step(carry, index):
        parameters, states, state, order = carry
        order = jax.lax.cond(
            index % batches == 0, lambda: order_of(index // batches), lambda: order
        )
        rows = jax.lax.dynamic_slice(order, [index % batches * batch_size], [batch_size])
        batch = Arrays(train.inputs[rows], train.labels[rows])
        value, (gradient, reports) = jax.value_and_grad(objective)((parameters, states), batch)
        states = jax.tree.map(jnp.add, states, reports)
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer counts
            updates, state = transformation.update(gradient, state, parameters)
        return (optax.apply_updates(parameters, updates), states, state, order), value

    def stretch(carry, indices):
        parameters, states, *others = carry
        carry, losses = jax.lax.scan(step, (parameters, emptied(states), *others), indices)
        model = whole(carry[0], carry[1])
        metrics = {"train_loss": losses.mean(), **means(carry[1])}
        for name, split in held_out.items():
            value, wrong = evaluate(model, split, batch_size)
            metrics[f"{name}_loss"] = value
            metrics[f"{name}_error"] = jnp.where(jnp.isnan(value), value, wrong)
        return carry, metrics

    carry = (parameters, states, transformation.init(parameters), jnp.arange(count))
    indices = jnp.arange(steps).reshape(evaluations, -1)
    (parameters, states, _, _), curves = jax.lax.scan(stretch, carry, indices)
    return whole(parameters, states), curves


def evaluate(
    model: Callable[[Any], jax.Array], split: Arrays, batch_size: int
) -> tuple[jax.Array, jax.Array]:
    """Mean cross-entropy in nats and share of wrong answers over a split.

    Labels ``[n]`` are evaluated in one call. Labels of tokens, ``[n, T]``, take T times the memory:
    they are evaluated in calls of ``batch_size`` sequences. The last call reaches back over
    sequences that are counted already, and counts the others alone.
    """
    if split.labels.ndim == 1:
        logits = model(split.inputs)
        wrong = jnp.mean(logits.argmax(axis=-1) != split.labels)
        return cross_entropy(logits, split.labels), wrong
    count = split.labels.shape[0]
    size = min(batch_size, count)

    def call(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        first = jnp.minimum(start, count - size)
        inputs, labels = (jax.lax.dynamic_slice_in_dim(each, first, size) for each in split)
        logits = model(inputs)
        new = first + jnp.arange(size) >= start
        given = (labels >= 0) & new[:, None]
        losses = jax.vmap(cross_entropy)(logits, labels)
        wrong = (logits.argmax(axis=-1) != labels) & given
        return given.sum(axis=1).astype(losses.dtype) @ losses, wrong.sum()

    losses, wrong = jax.lax.map(call, jnp.arange(0, count, size))
    given = jnp.sum(split.labels >= 0).astype(losses.dtype)
    return losses.sum() / given, wrong.sum().astype(losses.dtype) / given
