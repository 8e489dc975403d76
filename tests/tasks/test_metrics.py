"""Every metric against scikit-learn, on answers with ties and on classes that do not occur."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smallnets.tasks import Metric
from smallnets.tasks.metrics import BINS, scores

sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is in the extra dev")

random = np.random.default_rng(0)


def scored(kind, metrics, answers, labels) -> dict[str, float]:
    found = scores(kind, metrics)
    values = jax.jit(lambda y, t: {m.name: m(y, t) for m in found})(
        jnp.asarray(answers, jnp.float32), jnp.asarray(labels)
    )
    return {name: float(value) for name, value in values.items()}


@pytest.mark.parametrize("classes", [2, 7])
def test_of_classes(classes: int):
    labels = random.integers(0, classes - (classes > 2), 400).astype(np.int32)  # one never occurs
    logits = np.round(8 * random.normal(size=(400, classes)) + 12 * np.eye(classes)[labels]) / 8
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = ["auc", "f1", "balanced_accuracy", "calibration_error", "top_5_error", "perplexity"]
    found = scored("classes", tuple(names), logits, labels)
    answered = logits.argmax(axis=1)
    present = np.arange(classes - (classes > 2))
    if classes == 2:
        auc = sklearn.roc_auc_score(labels, logits[:, 1] - logits[:, 0])
        f1 = sklearn.f1_score(labels, answered)
    else:
        auc = np.mean([sklearn.roc_auc_score(labels == k, shares[:, k]) for k in present])
        f1 = sklearn.f1_score(labels, answered, average="macro")
    loss = sklearn.log_loss(labels, shares, labels=np.arange(classes))
    expected = {
        "loss": loss,
        "error": 1 - sklearn.accuracy_score(labels, answered),
        "auc": auc,
        "f1": f1,
        "balanced_accuracy": np.mean([np.mean(answered[labels == k] == k) for k in present]),
        "calibration_error": calibration(shares, labels),
        "top_5_error": np.mean(
            [(row > row[k]).sum() >= 5 for row, k in zip(logits, labels, strict=True)]
        ),
        "perplexity": np.exp(loss),
    }
    assert found == pytest.approx(expected, rel=2e-5)


def calibration(shares, labels) -> float:
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    total = 0.0
    for low in np.arange(BINS) / BINS:
        inside = (confidence > low) & (confidence <= low + 1 / BINS)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def test_of_targets():
    targets = random.normal(size=(300, 2)).astype(np.float32) * [1, 20]
    answers = targets + random.normal(size=(300, 2))
    found = scored("targets", ("rmse",), answers, targets.astype(np.float32))
    assert found["r2"] == pytest.approx(sklearn.r2_score(targets, answers), rel=1e-4)
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(targets, answers), rel=1e-4)
    squared = sklearn.mean_squared_error(targets, answers)
    assert found["rmse"] == pytest.approx(squared**0.5, rel=1e-4)
    assert found["loss"] == pytest.approx(squared, rel=1e-4)


def test_of_labels():
    labels = random.integers(0, 2, (300, 3)).astype(np.int32)
    logits = np.round(8 * random.normal(size=(300, 3)) + 8 * labels) / 8
    found = scored("labels", ("auc", "f1"), logits, labels)
    shares = 1 / (1 + np.exp(-logits))
    expected = {
        "loss": np.mean([sklearn.log_loss(labels[:, k], shares[:, k]) for k in range(3)]),
        "error": sklearn.hamming_loss(labels, logits > 0),
        "auc": sklearn.roc_auc_score(labels, logits, average="macro"),
        "f1": sklearn.f1_score(labels, logits > 0, average="macro"),
    }
    assert found == pytest.approx(expected, rel=2e-5)


def test_a_metric_that_is_not_of_the_kind_gets_one_line_and_one_of_ones_own_is_taken():
    with pytest.raises(ValueError, match="metrics of targets are mae, r2, rmse, but 'auc'"):
        scores("targets", ("auc",))
    own = Metric("largest", lambda answers, targets: jnp.abs(answers - targets).max())
    assert scored("targets", (own,), [[1.0], [5.0]], [[0.0], [2.0]])["largest"] == 3
