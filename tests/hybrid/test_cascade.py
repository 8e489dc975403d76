"""A cascade answers by confidence, is chosen on validation examples, and is a model like others."""

import itertools
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import folders
from command import smallnets as command
from flax import nnx

import smallnets
from smallnets import hybrid, models, rows
from smallnets.hybrid.cascade import Answers, _oracle, _stage, temperature
from smallnets.hybrid.command import main
from smallnets.models import Model
from smallnets.nn import Cascade, Dense
from smallnets.tasks import Data, Preparation, Split

random = np.random.default_rng(0)
CLASSES, WIDTH = 3, 6
TRUTH = random.normal(size=(WIDTH, CLASSES)).astype(np.float32)


def dense(noise: float, scale: float = 1.0, inner: int = 0) -> nnx.Module:
    """Logits near the truth; with an inner layer, of the same answers for more FLOPs."""
    layer = Dense(WIDTH, CLASSES, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.asarray(scale * (TRUTH + noise * random.normal(size=TRUTH.shape)))
    return layer if not inner else Costly(layer, inner)


class Costly(nnx.Module):
    def __init__(self, layer: nnx.Module, inner: int):
        self.layer = layer
        self.waste = Dense(WIDTH, inner, rngs=nnx.Rngs(1))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layer(x) + 0 * self.waste(x)[..., :1]


def split(count: int, seed: int) -> Split:
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(count, WIDTH)).astype(np.float32)
    labels = (inputs @ TRUTH + draw.gumbel(size=(count, CLASSES))).argmax(axis=-1)
    return Split(inputs, labels.astype(np.int32))


DATA = Data(split(20, 1), split(400, 2), split(500, 3), outputs=CLASSES)
SMALL, LARGE = dense(0.9, 3.0), dense(0.0, 0.5, inner=40)


def member(network: nnx.Module, **options) -> Model:
    return Model(network, options.pop("inputs", Preparation()), **options)


@pytest.fixture(scope="module")
def found() -> hybrid.Hybrid:
    return hybrid.cascade([member(SMALL), member(LARGE)], DATA)


@pytest.mark.slow
def test_each_example_is_answered_by_the_first_network_that_is_sure():
    x, hot = DATA.test.inputs[:40], (2.0, 0.5, 1.0)
    networks = [SMALL, dense(0.3), LARGE]
    alone = [np.asarray(jax.nn.softmax(net(x) / t)) for net, t in zip(networks, hot, strict=True)]
    cascade = Cascade(networks, temperatures=hot, confidence=0.7)
    call = jax.jit(lambda cascade, c: cascade.answers(x, c))
    for confidence in (0.0, 0.5, 0.7, 2.0):
        logits, stage = call(cascade, confidence)
        sure = np.stack([each.max(axis=-1) >= confidence for each in alone[:2]] + [np.ones(40)])
        expected = sure.argmax(axis=0)
        np.testing.assert_array_equal(stage, expected)
        answers = np.stack(alone)[expected, np.arange(40)]
        np.testing.assert_allclose(jax.nn.softmax(logits), answers, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(jax.jit(cascade)(x), call(cascade, 0.7)[0])


@pytest.mark.slow
def test_a_cascade_is_loaded_and_evaluated_like_any_model(found, tmp_path):
    models.save(found.model, tmp_path / "model.safetensors")
    loaded = smallnets.load(tmp_path, allow=(__name__.partition(".")[0],))
    score = loaded.evaluate(DATA.test, batch_size=16)
    assert score["error"] == pytest.approx(found.chosen.error, abs=1e-6)
    np.testing.assert_array_equal(loaded(DATA.test.inputs), found.model(DATA.test.inputs))


@pytest.mark.slow
def test_nothing_that_is_chosen_knows_the_test_split(found):
    other = Data(DATA.train, DATA.validation, split(300, 9), outputs=CLASSES)
    again = hybrid.cascade([member(SMALL), member(LARGE)], other)
    assert (again.chosen.confidence, again.temperatures) == (
        found.chosen.confidence,
        found.temperatures,
    )
    assert again.chosen.error != found.chosen.error
    validation = Data(DATA.train, split(400, 10), DATA.test, outputs=CLASSES)
    assert hybrid.cascade([member(SMALL), member(LARGE)], validation).temperatures != (
        found.temperatures
    )


@pytest.mark.slow
def test_the_curve_runs_from_the_small_one_to_the_large_one_between_chance_and_oracle(found):
    first, *_, last = found.curve
    assert (first.error, last.error) == found.errors
    assert first.flops == found.flops[0] == 2 * WIDTH * CLASSES
    assert last.flops == sum(found.flops)
    assert last.flops - first.flops == 2 * WIDTH * (CLASSES + 40)
    for point in found.curve:
        assert point.oracle <= min(point.error, point.random) + 1e-9
        assert point.flops == pytest.approx(found.flops[0] + point.shares[1] * found.flops[1])
    assert 0 < found.area.low < found.area.estimate < found.area.high < found.oracle_area
    assert found.chosen.flops <= 0.5 * found.flops[1] + 0.05 * found.flops[1]
    assert found.flops_share.low < found.chosen.flops / found.flops[1] < found.flops_share.high
    assert found.differences[0].high < 0  # the small one is far worse


def test_the_oracle_is_the_best_of_all_ways_to_pass_on_as_many():
    wrong = np.random.default_rng(5).random((3, 6)) < 0.5
    stage = np.asarray([0, 0, 0, 1, 1, 2])
    best = min(wrong[list(way), range(6)].mean() for way in itertools.permutations(stage))
    assert _oracle(Answers(np.zeros((3, 6)), wrong), stage) == pytest.approx(best)


@pytest.mark.slow
def test_a_temperature_undoes_a_scale_and_lowers_the_calibration_error(found):
    logits = DATA.validation.inputs @ TRUTH
    one = temperature(logits, DATA.validation.labels)
    assert one == pytest.approx(1, abs=0.2)  # labels were drawn by the softmax of these
    assert temperature(5 * logits, DATA.validation.labels) == pytest.approx(5 * one, rel=1e-3)
    for before, after in found.calibration:
        assert after < before


def test_an_example_leaves_at_the_confidence_or_above():
    confidence = np.asarray([[0.5, 0.7, 0.9], [0.1, 0.1, 0.1]], np.float32)
    sure = Answers(confidence, np.zeros((2, 3), bool))
    np.testing.assert_array_equal(_stage(sure, 0.7), [1, 0, 0])
    np.testing.assert_array_equal(_stage(sure, 2.0), [1, 1, 1])


TWO = [member(SMALL), member(LARGE)]
UNPREPARED = Preparation(mean=np.ones(WIDTH, np.float32), scale=np.ones(WIDTH, np.float32))
WIDE = Dense(WIDTH, 7, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("members", "data", "said"),
    [
        (TWO[:1], DATA, "needs a small model and a larger one, but got 1"),
        ([TWO[0], member(LARGE, classes=("a", "b", "c"))], DATA, "number 2 has the classes"),
        ([TWO[0], member(LARGE, kind="targets")], DATA, "number 2 has the kind targets"),
        ([TWO[0], member(LARGE, inputs=UNPREPARED)], DATA, "number 2 prepares them in another"),
        ([TWO[0], member(WIDE)], DATA, r"number 2 gives \[7\]"),
        ([TWO[0], SMALL], DATA, "number 2 is a Dense"),
        (TWO, Data(DATA.train, DATA.test, DATA.test, outputs=3), "not be chosen on the test split"),
        (TWO, Data(DATA.train, split(0, 0), DATA.test, outputs=3), "the task has none"),
        (TWO[::-1], DATA, "the first alone costs"),
    ],
)
def test_what_is_no_cascade_gets_one_line(members, data, said: str):
    with pytest.raises(ValueError, match=said) as raised:
        hybrid.cascade(members, data)
    assert "\n" not in str(raised.value)


def test_networks_without_temperatures_are_refused():
    build = partial(Cascade, confidence=0.5)
    with pytest.raises(ValueError, match="needs two networks or more"):
        build([SMALL], temperatures=[1.0])
    with pytest.raises(ValueError, match="needs a temperature above 0"):
        build([SMALL, LARGE], temperatures=[1.0, 0.0])


@pytest.mark.slow  # trains two networks
def test_the_command_keeps_a_cascade_of_two_runs(cache, tmp_path, capsys):
    words = ["model=perceptron", "model.widths=[4],[64]", "steps=200", "evaluations=2"]
    command("-m", "task=mnist1d", *words, *folders(cache, tmp_path / "runs"))
    small, large = sorted(rows.found(tmp_path / "runs"), key=lambda each: each[1].parameters)
    capsys.readouterr()
    command("cascade", small[0], large[0], "--out", tmp_path / "out")
    said = capsys.readouterr().out
    assert "of the last member's FLOPs" in said
    assert f"kept: {tmp_path / 'out'}" in said
    record = json.loads((tmp_path / "out" / "cascade.json").read_text())
    assert record["measured"]["milliseconds"] > 0
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        "cascade.json", "curve.csv", "curve.pdf", "curve.png", "model.safetensors"
    }  # fmt: skip
    model = smallnets.load(tmp_path / "out")
    (program, *_) = smallnets.plan("task=mnist1d", *words, f"cache={cache}").programs
    error = model.evaluate(program.data.test)["error"]
    assert error == pytest.approx(record["chosen"]["error"], abs=2e-3)
    with pytest.raises(ValueError, match="is there already"):
        main([str(small[0]), str(large[0]), "--out", str(tmp_path / "out")])
