"""One training run as a pure function: a model and numbers in, a trained model and curves out.

A run is ``begin``, then a segment or more, then ``finish``, over one explicit pytree, the
:class:`TrainingState`; :meth:`Fit.run` is the three of them with one segment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from smallnets.nn.parameter import Buffer, combine, emptied, means, partition, training
from smallnets.tasks.metrics import Metric, scores
from smallnets.training.objective import Objective
from smallnets.training.optimizer import Parametrization, initial, standard, with_rates

Keep = Literal["last", "best"]
Precision = Literal["float32", "bfloat16"]
View = Callable[..., Any]  # (model, *, training, key) -> model


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Arrays:
    """A split on the device: its ``inputs`` and ``labels``, as :class:`smallnets.tasks.Split`.

    ``more`` holds further arrays of the examples, ``[n, ...]`` each, such as a teacher's outputs or
    weights: they are gathered with a batch, for the objective.
    """

    inputs: Any
    labels: Any
    more: dict[str, Any] = field(default_factory=dict)


class Projected(nnx.Module):
    """A network in training, and a projection that is trained beside it and dropped at the end."""

    def __init__(self, network: Any, projection: Any):
        self.network, self.projection = network, projection

    def __call__(self, x: Any) -> jax.Array:
        return self.network(x)


class Step(NamedTuple):
    """What a step of training shows a distillation, such as :class:`smallnets.distil.Logits`.

    ``see(call)`` is ``inputs -> call(model, inputs)`` of the model that learns, in the precision of
    training; ``answering`` is that model as it is outside of a training step, by which it may write
    what it learns from. ``teacher`` is what answers, where ``batch.more`` has no ``"teacher"``.
    """

    see: Callable[..., Any]
    answering: Any
    teacher: Any
    batch: Arrays
    key: jax.Array
    index: jax.Array


class TrainingState(NamedTuple):
    """All that a training run carries from one step to the next.

    ``rest`` is of the model what neither training nor a report changes. ``best`` is None unless the
    best model is kept: then the lowest validation loss so far, how many evaluations ago that was,
    and that model's parameters and buffers.
    """

    parameters: Any
    buffers: Any
    rest: Any
    optimizer: Any
    order: jax.Array
    key_order: jax.Array
    key_objective: jax.Array
    step: jax.Array
    best: tuple[jax.Array, jax.Array, Any, Any] | None


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a run is trained: what does not change from step to step.

    ``optimizer(steps)`` gives the transformation, ``objective(model, batch, key)`` the loss that is
    minimised, or with ``distil(step, objective)`` what that makes of it and of a ``teacher``.
    ``parametrization`` says how each weight array's initial values and learning rate depend on its
    fans. ``view(model, training=..., key=...)`` stands between the parameters and the
    objective, as dropout or rounded weights do; evaluations and the model that is returned are
    seen through it too, with ``training=False`` and no key. ``augment(key, batch)`` is the batch
    that a training step sees instead of the one drawn. ``keep`` says which model is returned:
    that of the last step, or of the evaluation with the lowest loss on ``validation`` (the earlier
    on ties); with ``patience``, the lowest before so many evaluations in a row that were no lower,
    where training would have stopped. ``prepare`` turns a batch's inputs into the network's, and
    ``metrics`` score the held-out splits. With ``precision`` bfloat16 a training step computes its
    network's products and all between them in it; parameters, their gradients, the optimiser, the
    objective and what is scored stay in float32.
    """

    optimizer: Callable[[int], optax.GradientTransformation]
    objective: Objective
    steps: int
    batch_size: int
    evaluations: int
    parametrization: Parametrization = standard
    view: View | None = None
    augment: Callable[[jax.Array, Arrays], Arrays] | None = None
    keep: Keep = "last"
    patience: int | None = None
    prepare: Callable[[jax.Array], jax.Array] | None = None
    metrics: Sequence[Metric] = scores("classes")
    precision: Precision = "float32"
    distil: Callable[[Step, Objective], jax.Array] | None = None
    teacher: Any = None

    def run(
        self,
        network: Callable[..., Any] | None,
        train: Arrays,
        held_out: dict[str, Arrays],
        *,
        seed: jax.Array | int,
        start: Any = None,
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Train for ``steps`` batches; evaluate ``evaluations`` times, evenly, the last at the end.

        ``network(rngs=...)`` builds the model, or ``start`` is one that is trained on. Batches are
        drawn without replacement, in a new order each epoch; what is left of an epoch after its
        last whole batch is skipped. The seed sets the parameters, the orders and the keys of view
        and objective.

        Returns the model and curves, each ``[evaluations]``: ``train_loss`` (mean of the objective
        over the batches since the evaluation before) and of each held-out split
        ``<name>_<metric>``, the loss first: where that is NaN, all are. What a model's layers
        report of themselves in training are curves too (:mod:`smallnets.nn.parameter`). It is one
        ``lax.scan``, pure, and so may be ``vmap``-ed over everything that is a number.
        """
        state = self.begin(network, seed, count=train.labels.shape[0], start=start)
        state, curves = self.segment(state, train, held_out, self.evaluations)
        return self.finish(state), curves

    def begin(
        self, network: Callable[..., Any] | None, seed: jax.Array | int, *, count: int, start: Any
    ) -> TrainingState:
        """The state before the first step, with ``count`` examples, none where batches are given.

        The model is ``start``, as it is, or where that is None, ``network(rngs=...)`` with its
        initial values by the parametrization.
        """
        key_parameters, key_order = keys_of(seed)
        if start is None:
            assert network is not None
            parameters, rest = partition(network(rngs=nnx.Rngs(params=key_parameters)))
            parameters = initial(parameters, self.parametrization)
        else:
            parameters, rest = partition(start)
        buffers, rest = partition(rest, Buffer)
        best = None
        if self.keep == "best":
            best = (jnp.full((), jnp.inf), jnp.zeros((), int), parameters, buffers)
        return TrainingState(
            parameters=parameters,
            buffers=buffers,
            rest=rest,
            optimizer=self._transformation().init(parameters),
            order=jnp.arange(count),
            key_order=key_order,
            key_objective=jax.random.fold_in(key_parameters, 0),
            step=jnp.zeros((), int),
            best=best,
        )

    def segment(
        self,
        state: TrainingState,
        train: Arrays | None,
        held_out: dict[str, Arrays],
        evaluations: int,
        batches: Arrays | None = None,
    ) -> tuple[TrainingState, dict[str, jax.Array]]:
        """Train until the next ``evaluations`` evaluations: the state there, and their curves.

        Batches are drawn from ``train``, or ``batches``, ``[steps, batch, ...]``, are those until
        the next evaluation, drawn by :func:`order_of`.
        """
        transformation = self._transformation()
        key_order, key_objective, rest = state.key_order, state.key_objective, state.rest

        def whole(parameters: Any, buffers: Any) -> Any:
            return combine(parameters, combine(buffers, rest))

        def loss(trained: tuple[Any, Any], batch: Arrays, index: jax.Array) -> jax.Array:
            key = jax.random.fold_in(key_objective, index)
            key_view, key = jax.random.split(key)
            if self.prepare is not None:
                batch = replace(batch, inputs=self.prepare(batch.inputs))
            if self.augment is not None:
                batch = self.augment(jax.random.fold_in(key_view, 1), batch)
            return self.loss(whole(*trained), batch, key_view, key, index)

        def drawn(index: jax.Array, order: jax.Array) -> tuple[Arrays, jax.Array]:
            assert train is not None
            count = train.labels.shape[0]
            batches = count // self.batch_size
            order = jax.lax.cond(
                index % batches == 0,
                lambda: order_of(key_order, index // batches, count),
                lambda: order,
            )
            start = [index % batches * self.batch_size]
            rows = jax.lax.dynamic_slice(order, start, [self.batch_size])
            return jax.tree.map(lambda array: array[rows], train), order

        def step(carry: Any, now: tuple[jax.Array, Arrays | None]) -> tuple[Any, jax.Array]:
            parameters, buffers, optimizer, order = carry
            index, batch = now
            if batch is None:
                batch, order = drawn(index, order)
            value, (gradient, reports) = jax.value_and_grad(loss)(
                (parameters, buffers), batch, index
            )
            buffers = jax.tree.map(jnp.add, buffers, reports)
            with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to integer counts
                updates, optimizer = transformation.update(gradient, optimizer, parameters)
            return (optax.apply_updates(parameters, updates), buffers, optimizer, order), value

        def stretch(carry: Any, steps: Any) -> tuple[Any, dict[str, jax.Array]]:
            (parameters, buffers, *others), best = carry
            carry, losses = jax.lax.scan(step, (parameters, emptied(buffers), *others), steps)
            parameters, buffers = carry[:2]
            model = self._viewed(whole(parameters, buffers), training=False, key=None)
            metrics = {"train_loss": losses.mean(), **means(buffers)}
            for name, split in held_out.items():
                found = evaluate(self._answers(model), split, self.batch_size, self.metrics)
                value = found[self.metrics[0].name]
                for metric, score in found.items():
                    score = score if score is value else jnp.where(jnp.isnan(value), value, score)
                    metrics[f"{name}_{metric}"] = score
            if best is not None:
                best = self._best(best, metrics, (parameters, buffers), steps[0][0] == 0)
            return (carry, best), metrics

        stride = self.steps // self.evaluations
        carry = (state.parameters, state.buffers, state.optimizer, state.order)
        indices = state.step + jnp.arange(evaluations * stride).reshape(evaluations, stride)
        given = jax.tree.map(lambda array: array[None], batches)
        (carry, best), curves = jax.lax.scan(stretch, (carry, state.best), (indices, given))
        parameters, buffers, optimizer, order = carry
        state = state._replace(
            parameters=parameters,
            buffers=buffers,
            optimizer=optimizer,
            order=order,
            step=state.step + evaluations * stride,
            best=best,
        )
        return state, curves

    def loss(
        self, model: Any, batch: Arrays, key_view: jax.Array, key: jax.Array, index: jax.Array
    ) -> jax.Array:
        """What is minimised of a model as training sees it, on one batch, prepared and augmented,
        in step ``index``.
        """
        learning = training(model, jax.random.fold_in(key_view, 0))
        learning = self._viewed(learning, training=True, key=key_view)
        if self.distil is None:
            return self.objective(computed_in(self.precision, learning), batch, key)
        see = partial(computed_in, self.precision, learning)
        answering = self._viewed(model, training=True, key=key_view)
        return self.distil(Step(see, answering, self.teacher, batch, key, index), self.objective)

    def _answers(self, model: Any) -> Callable[[Any], jax.Array]:
        prepare = self.prepare
        return model if prepare is None else lambda inputs: model(prepare(inputs))

    def _best(self, best: Any, metrics: dict[str, jax.Array], now: Any, first: jax.Array) -> Any:
        """The best model after an evaluation, given the best before."""
        lowest, since, *kept = best
        score = metrics["validation_loss"]
        better = (score < lowest) | first
        if self.patience is not None:
            better &= since < self.patience
        found = (jnp.where(jnp.isfinite(score), score, jnp.inf), jnp.zeros_like(since), *now)
        return jax.tree.map(
            lambda new, old: jnp.where(better, new, old), found, (lowest, since + 1, *kept)
        )

    def finish(self, state: TrainingState) -> Any:
        """The model that is kept, in its view."""
        parameters, buffers = state.parameters, state.buffers
        if state.best is not None:
            _, _, parameters, buffers = state.best
        model = combine(parameters, combine(buffers, state.rest))
        model = self._viewed(model, training=False, key=None)
        return model.network if isinstance(model, Projected) else model

    def _viewed(self, model: Any, *, training: bool, key: jax.Array | None) -> Any:
        if self.view is None:
            return model
        if isinstance(model, Projected):
            network = self.view(model.network, training=training, key=key)
            return Projected(network, model.projection)
        return self.view(model, training=training, key=key)

    def _transformation(self) -> optax.GradientTransformation:
        return with_rates(self.optimizer(self.steps), self.parametrization)


def computed_in(precision: Precision, model: Any, call: Callable[..., Any] | None = None) -> Any:
    """``x -> model(x)``, or ``x -> call(model, x)``, with parameters and inputs rounded to
    ``precision`` and answers in float32.
    """
    if precision == "float32":
        return model if call is None else partial(call, model)

    def rounded(leaf: jax.Array) -> jax.Array:
        return leaf.astype(precision) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    network = jax.tree.map(rounded, model)
    answer = network if call is None else partial(call, network)
    return lambda inputs: jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32), answer(rounded(inputs))
    )


def keys_of(seed: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """A run's keys: of its parameters, and of the orders of its examples."""
    key_parameters, key_order = jax.random.split(jax.random.key(seed))
    return key_parameters, key_order


def order_of(key_order: jax.Array, epoch: jax.Array | int, count: int) -> jax.Array:
    """The order in which an epoch has the ``count`` examples."""
    return jax.random.permutation(jax.random.fold_in(key_order, epoch), count)


def evaluate(
    model: Callable[[Any], jax.Array],
    split: Arrays,
    batch_size: int,
    metrics: Sequence[Metric],
) -> dict[str, jax.Array]:
    """Each metric over a split, by its name; the answers are found ``batch_size`` at a time.

    Answers to examples are put together and scored at once. Answers to tokens would take T times
    the memory: each batch is scored by itself, and the scores of all labels that are given are
    summed. The last batch reaches back over examples that were answered already, and only the
    others count. Raises ValueError for a metric of text that is not a mean over its tokens.
    """
    count = split.labels.shape[0]
    size = min(batch_size, count)
    starts = jnp.arange(0, count, size)
    surplus = len(starts) * size - count  # examples that the last batch has again

    def part(array: jax.Array, start: jax.Array) -> jax.Array:
        first = jnp.minimum(start, count - size)
        return jax.lax.dynamic_slice_in_dim(array, first, size)

    if not _of_tokens(split):
        if len(starts) == 1:
            answers = model(split.inputs)
        else:
            parts = jax.lax.map(lambda start: model(part(split.inputs, start)), starts)
            answers = jnp.concatenate(
                [parts[:-1].reshape(-1, *parts.shape[2:]), parts[-1][surplus:]]
            )
        return {each.name: each(answers, split.labels) for each in metrics}

    def call(start: jax.Array) -> dict[str, jax.Array]:
        labels = part(split.labels, start)
        logits = model(part(split.inputs, start))
        new = jnp.minimum(start, count - size) + jnp.arange(size) >= start
        given = (labels >= 0) & new[:, None]
        found = {}
        for each in metrics:
            scores = each.function(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
            if scores.shape != (labels.size,):
                raise ValueError(
                    f"a metric of text is a mean over its tokens, but {each.name} is not: leave it "
                    "out of metrics"
                )
            found[each.name] = jnp.sum(scores.reshape(labels.shape), where=given, dtype=float)
        return found

    given = jnp.sum(split.labels >= 0).astype(float)
    sums = jax.lax.map(call, starts)
    return {each.name: each.finish(sums[each.name].sum() / given) for each in metrics}


def _of_tokens(split: Arrays) -> bool:
    """Whether each token of an example has a label, or -1 for none."""
    shape = split.labels.shape
    return len(shape) == 2 and shape == split.inputs.shape and split.inputs.dtype == jnp.int32
