from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from smallnets.nn.embedding import Embedding
from smallnets.nn.parameter import Undrawn, partition
from smallnets.tasks.data import Data, check_whole
from smallnets.traced import TracedInt
from smallnets.training.augmentation import Augmentation, augmented
from smallnets.training.batch import Stages
from smallnets.training.fit import Arrays, Fit, Precision, View, evaluate
from smallnets.training.mesh import Mesh
from smallnets.training.objective import Objective, balanced
from smallnets.training.optimizer import Parametrization, with_rates

SAVES = ("last", "best", "none")
Network = Callable[..., Any]  # (shape, classes, *, rngs) -> network


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """One training run, described: the root of every config.

    ``task()`` gives the data, ``model(shape, classes, rngs=...)`` the network, ``optimizer(steps)``
    the transformation, ``objective(model, batch, key)`` the loss that is minimised,
    ``parametrization(fan_in, fan_out)`` the factors of a weight array's initial values and rate,
    ``view`` what stands between parameters and objective, if anything
    (:class:`smallnets.training.fit.Fit`), ``augmentation`` what changes a training batch, one
    after another (:mod:`smallnets.training.augmentation`). The network is trained for ``steps``
    batches of ``batch_size`` and evaluated ``evaluations`` times. ``budget()`` is what the network
    may cost, for whoever builds the run: training doesn't look at it. ``save`` says which model is
    kept, the ``last``, the ``best`` by the validation loss, or ``none``; with ``patience``, the
    best before so many evaluations in a row that found none better. ``precision`` is that of the
    network's products in training. ``start`` names the run, or the runs by seed, whose kept model
    is trained on; ``compress`` holds what is done to it, a chain that a plan turns into runs of one
    pass each (:mod:`smallnets.compress`), which look at ``calibration`` training examples and take
    no steps. ``distil()`` is what a teacher adds to the objective (:mod:`smallnets.distil`), and
    names that teacher.
    ``mesh()`` is of the devices that train it, for whoever runs it. ``cache`` is the folder of
    prepared data and compiled programs; ``study`` holds what other
    values of the config refer to, ``allow`` names the packages besides ours that its calls may be
    of.
    Raises ValueError where steps, batch size and evaluations do not fit each other, for another
    ``save``, and for no ``cache``.
    """

    seed: TracedInt
    task: Callable[[], Data]
    model: Network
    optimizer: Callable[[int], optax.GradientTransformation]
    objective: Objective
    parametrization: Parametrization
    budget: Callable[[], Any]
    steps: int
    batch_size: int
    evaluations: int
    cache: str
    mesh: Callable[[], Mesh] = Mesh
    view: View | None = None
    augmentation: Mapping[str, Augmentation] | None = None
    save: str = "last"
    patience: int | None = None
    precision: Precision = "float32"
    start: str | None = None
    distil: Callable[..., Any] | None = None
    compress: Mapping[str, Any] | None = None
    calibration: int = 512
    study: Mapping[str, Any] | None = None
    allow: Sequence[str] = ()

    def __post_init__(self):
        counts = ("steps", "batch_size", "evaluations")
        numbers = {name: getattr(self, name) for name in (*counts, "calibration")}
        if self.compress:
            del numbers["steps"]
        check_whole(numbers, least=1)
        if self.steps % self.evaluations:
            raise ValueError(
                f"evaluations must divide steps, but evaluations={self.evaluations} for "
                f"steps={self.steps}: choose a divisor of the steps"
            )
        if not self.cache:
            raise ValueError("cache must be a folder, but is empty: name one, or leave it out")
        if self.save not in SAVES:
            raise ValueError(f"save must be one of {', '.join(SAVES)}, not {self.save}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be float32 or bfloat16, not {self.precision}")
        if self.patience is not None:
            check_whole({"patience": self.patience}, least=1)
            if self.save != "best":
                raise ValueError(
                    f"patience={self.patience} is for the best model, but save={self.save}: add "
                    "save=best, or leave patience out"
                )

    def network(self, data: Data) -> Callable[..., Any]:
        """The factory ``(*, rngs) -> network`` for the examples and classes of ``data``."""

        def build(*, rngs: nnx.Rngs) -> Any:
            return self.model(data.train.inputs.shape[1:], data.outputs, rngs=rngs)

        return build

    def batch(self, data: Data) -> jax.ShapeDtypeStruct:
        """Shape and type of a batch's inputs."""
        inputs = data.train.inputs
        dtype = jnp.float32 if data.raw else inputs.dtype
        return jax.ShapeDtypeStruct((self.batch_size, *inputs.shape[1:]), dtype)

    def batch_labels(self, data: Data) -> jax.ShapeDtypeStruct:
        """Shape and type of a batch's labels."""
        labels = data.train.labels
        return jax.ShapeDtypeStruct((self.batch_size, *labels.shape[1:]), labels.dtype)

    def fit(
        self, data: Data, arrays: dict[str, Arrays], start: Any = None, teacher: Any = None
    ) -> tuple[Any, dict[str, jax.Array]]:
        """Train the network, or ``start``; ``arrays`` are the splits of ``data`` on the device.

        ``teacher`` is what it learns from in ``distil``, where the examples of the train split have
        no ``more["teacher"]``. See :meth:`smallnets.training.fit.Fit.run`.
        """
        held_out = {name: split for name, split in arrays.items() if name != "train"}
        network, start = self._learner(data, start, arrays["train"], teacher)
        return self._fit(data, teacher).run(
            network, arrays["train"], held_out, seed=self.seed, start=start
        )

    def stages(
        self,
        data: Data,
        arrays: dict[str, Arrays],
        start: Any = None,
        teacher: Any = None,
        spread: Callable[[Any], Any] | None = None,
        batches: Arrays | None = None,
    ) -> Stages:
        """The same, in parts that may be told apart; ``spread`` lays a batch over devices.

        ``batches`` are those of the next stretch where the train split is not in ``arrays``.
        """
        fit, train = self._fit(data, teacher, spread), arrays.get("train")
        held_out = {name: split for name, split in arrays.items() if name != "train"}
        network, start = self._learner(data, start, train, teacher)
        count = train.labels.shape[0] if train is not None else 0
        return Stages(
            begin=lambda: fit.begin(network, self.seed, count=count, start=start),
            advance=lambda state: fit.segment(state, train, held_out, 1, batches),
            finish=fit.finish,
        )

    def _learner(
        self, data: Data, start: Any, train: Arrays | None, teacher: Any
    ) -> tuple[Any, Any]:
        """The factory of what is trained, and what is trained on: with what a distillation adds."""
        network = self.network(data)
        if self.distil is None:
            return network, start
        distil, batch = self.distil(), self.batch(data)
        taught = train.more.get("teacher") if train is not None else None
        if taught is None:
            taught = jax.eval_shape(distil.asked, teacher, batch)
        student = partial(distil.student, inputs=batch, taught=taught)
        if start is not None:
            key = jax.random.fold_in(jax.random.key(self.seed), 1)
            return network, student(start, rngs=nnx.Rngs(params=key))
        return lambda *, rngs: student(network(rngs=rngs), rngs=rngs), None

    def _fit(
        self,
        data: Data,
        teacher: Any = None,
        spread: Callable[[Any], Any] | None = None,
    ) -> Fit:
        prepare = data.preparation if data.raw else None
        if spread is not None:
            prepare = spread if prepare is None else composed(prepare, spread)
        return Fit(
            optimizer=self.optimizer,
            objective=self._objective(data),
            steps=self.steps,
            batch_size=self.batch_size,
            evaluations=self.evaluations,
            parametrization=self.parametrization,
            view=self.view,
            augment=self._augment,
            keep="best" if self.save == "best" else "last",
            patience=self.patience,
            prepare=prepare,
            metrics=data.scores,
            precision=self.precision,
            distil=None if self.distil is None else self.distil(),
            teacher=teacher,
        )

    def check(self, data: Data, start: Any = None, teacher: Any = None) -> Any:
        """Build and call all parts without computing; return the network, its arrays abstract.

        ``start`` is the model that is trained on, in place of a new one; without the ``teacher`` of
        a distillation the rest is checked. Raises ValueError where
        the data have fewer examples than a batch, tokens that the network has no row for, or where
        it does not return logits; what the network's own factories raise goes through.
        """
        if self.batch_size > len(data.train):
            raise ValueError(
                f"batch_size must not exceed the train split, but batch_size={self.batch_size} "
                f"for {len(data.train)} examples: choose a smaller batch"
            )

        if data.streamed and (self.distil is not None or self.compress):
            raise ValueError(
                "a teacher's answers and a pass look at examples in memory, but this train split "
                "stays on disk: set task.in_memory=true"
            )
        if self.save == "best" and not len(data.validation):
            raise ValueError(
                "save=best keeps the model of the lowest validation loss, but the task holds out "
                "no validation split: hold one out, or save the last"
            )

        def build_and_call(inputs: jax.Array, start: Any) -> tuple[Any, jax.Array]:
            network = start
            if network is None:
                network = self.network(data)(rngs=Undrawn(params=jax.random.key(0)))
            _check_tokens(network, data)
            return network, network(inputs)

        network, logits = jax.eval_shape(build_and_call, self.batch(data), start)
        labels = self.batch_labels(data)
        expected = (*labels.shape[: 1 + (data.kind == "classes")], data.outputs)
        if logits.shape != expected or logits.dtype != jnp.float32:
            raise ValueError(
                f"the network must return float32 logits {expected}, but returns {logits.dtype} "
                f"{logits.shape}: choose a model for these labels"
            )
        if self.compress:  # a pass takes no steps
            return network
        batch = Arrays(self.batch(data), labels)
        if self._augment is not None:
            batch = jax.eval_shape(self._augment, jax.random.key(0), batch)
        loss = jax.eval_shape(partial(self.loss, data), network, batch, teacher)
        if getattr(loss, "shape", None) != () or not jnp.issubdtype(loss.dtype, jnp.floating):
            raise ValueError(
                f"the objective must return one float, but returns {loss}: take a mean over the "
                "batch"
            )
        if data.metrics:  # of text some are refused
            score = partial(evaluate, batch_size=self.batch_size, metrics=data.scores)
            jax.eval_shape(score, network, Arrays(self.batch(data), labels))
        jax.eval_shape(self._first_update, network)
        return network

    @property
    def _augment(self) -> Callable[[jax.Array, Arrays], Arrays] | None:
        return partial(augmented, parts=self.augmentation) if self.augmentation else None

    def loss(self, data: Data, network: Any, batch: Arrays, teacher: Any = None) -> jax.Array:
        """What is minimised of a network as training sees it, on one prepared batch."""
        key, fit = jax.random.key(0), self._fit(data, teacher)
        if teacher is None:
            fit = replace(fit, distil=None)
        else:
            _, network = self._learner(data, network, batch, teacher)
        return fit.loss(network, batch, key, key, jnp.zeros((), int))

    def _objective(self, data: Data) -> Objective:
        """The objective, with what it asks of the train split."""
        objective: Any = self.objective
        asked = getattr(objective, "keywords", {}).get("class_weights")
        if asked == "balanced" and data.train.labels.ndim == 1:
            return partial(objective, class_weights=balanced(data.train.labels, data.outputs))
        return objective

    def _first_update(self, network: Any) -> Any:
        parameters, _ = partition(network)
        transformation = with_rates(self.optimizer(self.steps), self.parametrization)
        with jax.numpy_dtype_promotion("standard"):  # as in fit
            return transformation.update(parameters, transformation.init(parameters), parameters)


def _check_tokens(network: Any, data: Data) -> None:
    """Raise ValueError where inputs are tokens and the network has no row of a table for each."""
    if data.train.inputs.dtype != np.int32:
        return
    tables = [m.table for _, m in nnx.iter_modules(network) if isinstance(m, Embedding)]
    if not tables:
        raise ValueError(
            "the inputs are tokens, but the network embeds none, so it would read their numbers as "
            "magnitudes: choose model=transformer or model=encoder"
        )
    rows = min(table.shape[0] for table in tables)
    for name in ("train", "validation", "test"):
        inputs = getattr(data, name).inputs
        if inputs.size and not 0 <= inputs.min() <= inputs.max() < rows:
            raise ValueError(
                f"tokens must lie in [0, {rows}), the rows of the network's table, but those of "
                f"{name} run from {inputs.min()} to {inputs.max()}: set model.vocabulary"
            )


def composed(second: Callable[[Any], Any], first: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: second(first(x))


def splits(data: Data) -> dict[str, Any]:
    """The splits that are not empty, by name, as :class:`Arrays` of numpy arrays.

    A train split that stays on disk is left out.
    """
    named = {"train": data.train, "validation": data.validation, "test": data.test}
    if data.streamed:
        del named["train"]
    return {name: Arrays(s.inputs, s.labels) for name, s in named.items() if len(s)}
