"""A pass as a run of no steps: a kept model in, the smaller model and its scores out."""

from typing import Any

import jax

from smallnets.measure.parameters import parameter_bytes
from smallnets.nn import Quantised
from smallnets.nn.parameter import is_variable
from smallnets.tasks.data import Data
from smallnets.training.batch import Stages
from smallnets.training.fit import Arrays, evaluate
from smallnets.training.trainer import Trainer


def applied(trainer: Trainer, data: Data, network: Any) -> Any:
    """The network after the trainer's pass, its arrays abstract as may be those of ``network``.

    Raises ValueError where the pass finds nothing to do, and where it saves nothing.
    """
    assert trainer.compress
    (name,) = trainer.compress
    _check_order(name, network)
    batch = trainer.batch(data)
    count = calibration(trainer, data)
    inputs = jax.ShapeDtypeStruct((count, *batch.shape[1:]), batch.dtype)
    found = jax.eval_shape(lambda *given: _passed(trainer, *given), network, inputs)
    before, after = parameter_bytes(network), parameter_bytes(found)
    if after > before:
        raise ValueError(
            f"a pass must save bytes, but {name} would take {before:,} bytes of parameters to "
            f"{after:,}: choose a smaller size, or leave it out"
        )
    return found


def stages(trainer: Trainer, data: Data, arrays: dict[str, Arrays], start: Any) -> Stages:
    """The pass as a run: it begins with the small model, and its one evaluation scores that.

    The pass sees ``trainer.calibration`` training examples, drawn by the seed.
    """
    train = arrays["train"]
    prepare = data.preparation if data.raw else lambda inputs: inputs

    def begin() -> Any:
        key = jax.random.key(trainer.seed)
        order = jax.random.permutation(key, train.labels.shape[0])
        return _passed(trainer, start, prepare(train.inputs[order[: calibration(trainer, data)]]))

    def advance(model: Any) -> tuple[Any, dict[str, jax.Array]]:
        curves = {}
        for name, split in arrays.items():
            if name == "train":
                continue
            found = evaluate(
                lambda inputs: model(prepare(inputs)), split, trainer.batch_size, data.scores
            )
            curves |= {f"{name}_{metric}": score[None] for metric, score in found.items()}
        return model, curves

    return Stages(begin, advance, lambda model: model)


def calibration(trainer: Trainer, data: Data) -> int:
    return min(trainer.calibration, len(data.train))


def _passed(trainer: Trainer, network: Any, inputs: jax.Array) -> Any:
    assert trainer.compress
    (compress,) = trainer.compress.values()
    return compress(network, inputs)


def _check_order(name: str, network: Any) -> None:
    """Raise ValueError where a pass would undo what an earlier one did."""
    leaves = jax.tree.leaves(network, is_leaf=is_variable)
    if any(isinstance(leaf, Quantised) for leaf in leaves):
        raise ValueError(
            f"quantise is the last pass, since others need numbers, but {name} comes after it: "
            "put quantise at the end of the chain"
        )
