"""What answers are scored by: functions of all answers of a split and of its labels.

A network's answers are logits ``[n, classes]`` or, of text, ``[n, T, classes]``; a number for each
target, ``[n, targets]``; or a logit for each label, ``[n, labels]``.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

Kind = Literal["classes", "targets", "labels"]  # one of several; numbers; each yes or no
BINS = 15  # of the calibration error, as in Guo et al. 2017


class Metric(NamedTuple):
    """A score by name: ``function(answers, labels)``, the score or one number for each label.

    Of one number for each label the mean is taken, over the labels that are given, and ``finish``
    makes the score of it. Text is scored by such functions alone, batch by batch. Less is better,
    unless ``perfect`` gives the largest value that there is: then the analysis looks at the
    distance from it.
    """

    name: str
    function: Callable[[jax.Array, jax.Array], jax.Array]
    perfect: float = 0.0
    finish: Callable[[jax.Array], jax.Array] = lambda score: score

    def __call__(self, answers: jax.Array, labels: jax.Array) -> jax.Array:
        """The score of all answers at once."""
        return self.finish(jnp.mean(self.function(answers, labels)))


def class_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log softmax(logits)[label] in nats: logits[..., classes], labels[...] -> [...]."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1)[..., 0]


def label_losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over an example's labels of the binary cross-entropy in nats: [n, k], [n, k] -> [n]."""
    yes = labels.astype(logits.dtype)
    losses = jax.nn.softplus(logits) - yes * logits
    return losses.mean(axis=-1)


def target_loss(answers: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over an example's targets of the squared difference: [n, k], [n, k] -> [n]."""
    return jnp.square(answers - targets).mean(axis=-1)


def error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether the largest logit is not that of the label."""
    return logits.argmax(axis=-1) != labels


def label_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of an example's labels that are answered wrongly; yes is a logit above 0."""
    return ((logits > 0) != (labels > 0)).mean(axis=-1)


def top_5_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether five or more classes have a larger logit than the label."""
    own = jnp.take_along_axis(logits, labels[..., None], axis=-1)
    return (logits > own).sum(axis=-1) >= 5


def balanced_accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over the classes that occur of the share of their examples answered rightly."""
    own = jax.nn.one_hot(labels, logits.shape[-1])
    right = (~error(logits, labels)).astype(own.dtype) @ own
    return jnp.mean(right / own.sum(axis=0), where=own.sum(axis=0) > 0)


def f1(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """2 TP / (2 TP + FP + FN) of class 1 where there are two, else the mean over the classes.

    A class that neither occurs nor is answered is left out of the mean.
    """
    classes = logits.shape[-1]
    own = jax.nn.one_hot(labels, classes)
    answered = jax.nn.one_hot(logits.argmax(axis=-1), classes)
    scores, there = _f1(answered, own)
    return scores[1] if classes == 2 else jnp.mean(scores, where=there)


def label_f1(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over the labels of 2 TP / (2 TP + FP + FN); 0 where nothing is there to be found."""
    return _f1((logits > 0).astype(logits.dtype), labels.astype(logits.dtype))[0].mean()


def _f1(answered: jax.Array, own: jax.Array) -> tuple[jax.Array, jax.Array]:
    hits, total = (answered * own).sum(axis=0), (answered + own).sum(axis=0)
    return 2 * hits / jnp.maximum(total, 1), total > 0


def auc(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The chance that an example of a class has a higher score than one of another, ties half.

    The score is the class's share of a softmax; of two classes it is the second's, of more the mean
    over the classes that occur, each against the rest. Source: Hanley & McNeil 1982.
    """
    classes = logits.shape[-1]
    shares = jax.nn.softmax(logits)
    own = jax.nn.one_hot(labels, classes)
    if classes == 2:
        return _auc(logits[:, 1] - logits[:, 0], own[:, 1])
    return jnp.nanmean(jax.vmap(_auc, in_axes=1)(shares, own))


def label_auc(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over the labels, each of which occurs and is missing, of their AUC."""
    return jnp.nanmean(jax.vmap(_auc, in_axes=1)(logits, labels.astype(logits.dtype)))


def _auc(scores: jax.Array, own: jax.Array) -> jax.Array:
    """Of one class, [n], [n] -> scalar; NaN where all or no examples are of it."""
    ordered = jnp.sort(scores)
    below = jnp.searchsorted(ordered, scores, side="left")
    not_above = jnp.searchsorted(ordered, scores, side="right")
    ranks = (below + not_above + 1).astype(scores.dtype) / 2
    yes, no = own.sum(), (1 - own).sum()
    # the mean rank, not the sum, which would leave float32's whole numbers
    return ((ranks * own).sum() / yes - (yes + 1) / 2) / no


def calibration_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """sum over bins of (share of examples) |accuracy - mean confidence|, 15 bins of equal width.

    The confidence is the largest share of the softmax. Source: Guo et al. 2017, arXiv:1706.04599,
    equation 3.
    """
    confidence = jax.nn.softmax(logits).max(axis=-1)
    place = jnp.clip(jnp.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    right = (~error(logits, labels)).astype(confidence.dtype)
    gaps = jax.ops.segment_sum(right - confidence, place, BINS)
    return jnp.abs(gaps).sum() / len(labels)


def mae(answers: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean absolute difference, in the targets' units."""
    return jnp.abs(answers - targets).mean(axis=-1)


def r2(answers: jax.Array, targets: jax.Array) -> jax.Array:
    """1 - sum (y - t)^2 / sum (t - mean t)^2, the mean over the targets."""
    spread = jnp.square(targets - targets.mean(axis=0, keepdims=True)).sum(axis=0)
    return jnp.mean(1 - jnp.square(answers - targets).sum(axis=0) / spread)


LOSS = {"classes": class_loss, "targets": target_loss, "labels": label_losses}
USUAL: dict[Kind, tuple[Metric, ...]] = {
    "classes": (Metric("error", error),),
    "targets": (Metric("mae", mae), Metric("r2", r2, perfect=1.0)),
    "labels": (Metric("error", label_error),),
}
FURTHER: dict[Kind, tuple[Metric, ...]] = {
    "classes": (
        Metric("top_5_error", top_5_error),
        Metric("perplexity", class_loss, finish=jnp.exp),  # of exp(loss) classes alike
        Metric("calibration_error", calibration_error),
        Metric("balanced_accuracy", balanced_accuracy, perfect=1.0),
        Metric("f1", f1, perfect=1.0),
        Metric("auc", auc, perfect=1.0),
    ),
    "targets": (Metric("rmse", target_loss, finish=jnp.sqrt),),
    "labels": (Metric("f1", label_f1, perfect=1.0), Metric("auc", label_auc, perfect=1.0)),
}


def scores(
    kind: Kind,
    metrics: tuple[str | Metric, ...] = (),
    targets: Callable[[jax.Array], jax.Array] | None = None,
) -> tuple[Metric, ...]:
    """The loss of a kind of answers, its usual metrics and those named, each once.

    All but the loss are of answers and labels that ``targets`` turns into their units. Raises
    ValueError for a name that is none of this kind's.
    """
    found = {metric.name: metric for metric in USUAL[kind]}
    known = found | {metric.name: metric for metric in FURTHER[kind]}
    for each in metrics:
        metric = known.get(each) if isinstance(each, str) else each
        if metric is None:
            raise ValueError(
                f"metrics of {kind} are {', '.join(known)}, but {each!r} is asked for: name one of "
                "these, or give a smallnets.tasks.Metric"
            )
        found[metric.name] = metric
    units = [metric if targets is None else _in_units(metric, targets) for metric in found.values()]
    return (Metric("loss", LOSS[kind]), *units)


def _in_units(metric: Metric, units: Callable[[jax.Array], jax.Array]) -> Metric:
    function = metric.function
    return metric._replace(function=lambda y, t: function(units(y), units(t)))
