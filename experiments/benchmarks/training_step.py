"""What does the framework cost? A training step of ours against the same written by hand.

    python experiments/benchmarks/training_step.py        under a minute on two cores

The residual network of dense maps, AdamW, batches of 64: ours is ``fit``; by hand it is plain JAX
and Optax, one function and a dictionary of arrays. Both are one compiled program of 200 steps that
starts from the same parameters and takes the same batches, so that both end at the same loss; they
run in turns. Prints the ratio ours / by hand: median of 15 rounds and quartiles.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table
from turns import in_turns

from smallnets.measure.machine import device_name
from smallnets.nn.linear import Dense
from smallnets.nn.residual import ResidualNetwork
from smallnets.training.fit import Arrays, Fit
from smallnets.training.objective import cross_entropy
from smallnets.training.optimizer import cosine_schedule, gradient_transformation, has_fans

STEPS, BATCH, DEPTH, ROUNDS = 200, 64, 2, 15
random = np.random.default_rng(0)
TRAIN = Arrays(
    random.normal(size=(640, 40)).astype(np.float32), np.arange(640, dtype=np.int32) % 10
)


def ours(train: Arrays, *, width: int) -> jax.Array:
    network = partial(ResidualNetwork, (40,), 10, width=width, depth=DEPTH, linear=Dense)
    curves = Fit(
        optimizer=partial(
            gradient_transformation,
            rule=partial(optax.adamw, mask=has_fans),
            learning_rate=3e-3,
            weight_decay=0.01,
            schedule=cosine_schedule,
        ),
        objective=cross_entropy,
        steps=STEPS,
        batch_size=BATCH,
        evaluations=1,
    ).run(network, train, {}, seed=0)[1]
    return curves["train_loss"][0]


def by_hand(train: Arrays, *, width: int) -> jax.Array:
    key_parameters, key_order = jax.random.split(jax.random.key(0))
    parameters = arrays_of(
        ResidualNetwork(
            (40,), 10, width=width, depth=DEPTH, linear=Dense, rngs=nnx.Rngs(params=key_parameters)
        )
    )
    warmup = round(0.05 * STEPS)

    def rate(count):
        rising = (count + 1) / (warmup + 1)
        falling = 0.5 * (1 + jnp.cos(jnp.pi * (count - warmup) / (STEPS - warmup)))
        return 3e-3 * jnp.where(count < warmup, rising, falling)

    def norm(x, scale):
        return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale

    def loss(parameters, inputs, labels):
        x = inputs @ parameters["embedding"]
        for index in range(DEPTH):
            up, down, scale = (parameters[name][index] for name in ("up", "down", "scale"))
            x = x + jax.nn.gelu(norm(x, scale) @ up) @ down
        logits = norm(x, parameters["norm"]) @ parameters["head"]
        return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels])

    decayed = {name: name not in ("scale", "norm") for name in parameters}
    optimizer = optax.adamw(rate, weight_decay=0.01, mask=decayed)
    batches = len(train.labels) // BATCH

    def step(carry, index):
        parameters, state, order = carry
        order = jax.lax.cond(
            index % batches == 0,
            lambda: jax.random.permutation(jax.random.fold_in(key_order, index // batches), 640),
            lambda: order,
        )
        rows = jax.lax.dynamic_slice(order, [index % batches * BATCH], [BATCH])
        value, gradient = jax.value_and_grad(loss)(
            parameters, train.inputs[rows], train.labels[rows]
        )
        updates, state = optimizer.update(gradient, state, parameters)
        return (optax.apply_updates(parameters, updates), state, order), value

    carry = (parameters, optimizer.init(parameters), jnp.arange(640))
    return jax.lax.scan(step, carry, jnp.arange(STEPS))[1].mean()


def arrays_of(network) -> dict[str, jax.Array]:
    blocks = network.stack.blocks
    return {
        "embedding": network.embedding.kernel[...],
        "up": blocks.layer.up.kernel[...],
        "down": blocks.layer.down.kernel[...],
        "scale": blocks.norm.scale[...],
        "norm": network.norm.scale[...],
        "head": network.head.kernel[...],
    }


table = Table(title=f"a training step, ours / by hand, {device_name(jax.devices()[0])}")
for column in ("width", "loss, ours", "loss, by hand", "median", "quartiles"):
    table.add_column(column, justify="right")
for width in (16, 64, 256):
    calls = [
        partial(jax.jit(partial(function, width=width)).lower(TRAIN).compile(), TRAIN)
        for function in (ours, by_hand)
    ]
    of_ours, of_hand = in_turns(calls, rounds=ROUNDS).T
    low, middle, high = np.quantile(of_ours / of_hand, [0.25, 0.5, 0.75])
    table.add_row(
        str(width),
        *(f"{float(call()):.5f}" for call in calls),
        f"{middle:.2f}",
        f"{low:.2f} to {high:.2f}",
    )
Console().print(table)
