"""A kept model comes back in a process that knows nothing of it, or is refused by name."""

import itertools
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hydra.utils import instantiate
from omegaconf import OmegaConf

import smallnets
from smallnets import models
from smallnets.models import Model
from smallnets.nn import (
    Attention,
    ConvolutionalNetwork,
    Dense,
    FeedForward,
    Perceptron,
    ResidualNetwork,
    Transformer,
)
from smallnets.sweep.build import CHECKED
from smallnets.tasks import Preparation

CONF = Path(__file__).parents[1] / "conf" / "model"


def factories(group: str) -> dict[str, Any]:
    """Each YAML of a group of the model's as the factory that it names."""
    return {
        path.stem: instantiate(OmegaConf.load(path), _convert_="all", **CHECKED)
        for path in sorted((CONF / group).glob("*.yaml"))
    }


LINEAR, MIXTURES, STACKS = factories("linear"), factories("mixture"), factories("stack")
FEED_FORWARD, NORMS, CONNECTIONS = (
    factories(group) for group in ("feed_forward", "norm", "connection")
)
NETWORKS = ("residual", "encoder", "transformer")
REFUSED = {("transformer", "expert_choice"), ("transformer", "soft"), ("residual", "soft")}
PRODUCT = [
    each
    for each in itertools.product(NETWORKS, LINEAR, [None, *MIXTURES], STACKS)
    if (each[0], each[2]) not in REFUSED
]


def pairs_of(values: tuple) -> set[tuple]:
    return {*itertools.combinations(enumerate(values), 2)}


def pairwise(product: list[tuple]) -> list[tuple]:
    """A few of a product's members in which every pair of values that occurs in it occurs."""
    wanted = {pair for each in product for pair in pairs_of(each)}
    chosen = []
    while wanted:
        best = max(
            product, key=lambda each: len(wanted & {*itertools.combinations(enumerate(each), 2)})
        )
        chosen.append(best)
        wanted -= pairs_of(best)
    return chosen


COVER = pairwise(PRODUCT)


def network(kind: str, linear: str, mixture: str | None, stack: str, **more: Any) -> Any:
    options: dict[str, Any] = {"width": 16, "depth": 2, "linear": LINEAR[linear], **more}
    options["stack"] = STACKS[stack]
    if stack == "shared_part" and kind == "residual":
        options["stack"] = partial(STACKS[stack], part="layer")
    if mixture:
        options["mixture"] = MIXTURES[mixture]
        if kind == "transformer":
            options["mixture"] = partial(MIXTURES[mixture], capacity_factor=None)
    rngs = nnx.Rngs(params=jax.random.key(3))
    if kind == "residual":
        return ResidualNetwork((8, 2), 5, rngs=rngs, **options)
    options |= {"attention": partial(Attention, head_dim=8), "tied": kind == "transformer"}
    options.setdefault("feed_forward", FeedForward)
    shape = (8,) if kind == "transformer" else (8, 2)
    return Transformer(shape, 5, causal=kind == "transformer", rngs=rngs, **options)


def example(kind: str) -> np.ndarray:
    random = np.random.default_rng(0)
    if kind == "transformer":
        return random.integers(0, 5, (3, 8)).astype(np.int32)
    return random.normal(size=(3, 8, 2)).astype(np.float32)


def model_of(kind: str, built: Any) -> Model:
    dtype = "int32" if kind == "transformer" else "float32"
    return Model(built, Preparation(dtype=dtype), classes=("a", "b", "c", "d", "e"))


@pytest.mark.filterwarnings("ignore:.*more than the:smallnets.nn.linear.LargerThanDense")
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_every_description_gives_back_the_same_tree(step: int):
    """The whole product of networks, layers, mixtures and stacks, with abstract arrays."""
    for each in PRODUCT[::step]:
        abstract = jax.eval_shape(partial(network, *each))
        arrays: dict[str, Any] = {}
        text = json.dumps(models.described(abstract, "", arrays))
        again = models.built(json.loads(text), arrays)
        assert jax.tree.structure(again) == jax.tree.structure(abstract), each


LOADING = """
import json, sys
import jax, numpy as np
from pathlib import Path
from smallnets import load, models
answers = {}
for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
    model = load(path)
    x = np.load(path.with_suffix(".npy"))
    answers[path.stem] = np.asarray(jax.jit(lambda model, x: model(x))(model, x))
    path.with_suffix(".json").write_text(json.dumps(models.described(model, "", {})))
np.savez(Path(sys.argv[1]) / "answers.npz", **answers)
"""


def drawn(build: Any) -> Any:
    """A network of random numbers, without a program to compile for each of its arrays."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: random.normal(0, 0.3, leaf.shape).astype(leaf.dtype), jax.eval_shape(build)
    )


def check_in_a_new_process(kept: dict[str, Model], folder: Path) -> None:
    for name, model in kept.items():
        models.save(model, folder / f"{name}.safetensors")
        np.save(folder / f"{name}.npy", example(name.split("-")[0]))
    empty = folder / "elsewhere"
    empty.mkdir()
    subprocess.run([sys.executable, "-c", LOADING, str(folder)], check=True, cwd=empty)
    with np.load(folder / "answers.npz") as answers:
        for name, model in kept.items():
            x = example(name.split("-")[0])
            expected = jax.jit(lambda model, x: model(x))(model, x)
            np.testing.assert_array_equal(answers[name], expected, name)
            said = json.loads((folder / f"{name}.json").read_text())
            assert said == models.described(model, "", {}), name


def of_the_cover(cover: list[tuple]) -> dict[str, Model]:
    return {
        "-".join(map(str, each)): model_of(each[0], drawn(partial(network, *each)))
        for each in cover
    }


@pytest.mark.slow
def test_a_new_process_gives_the_same_models(tmp_path: Path):
    """A few of the cover, and every YAML that no layer, mixture or stack is."""
    kept = of_the_cover(COVER[:3])
    groups = {"feed_forward": FEED_FORWARD, "norm": NORMS, "connection": CONNECTIONS}
    groups["exits"] = factories("exits")
    for name, group in groups.items():
        for choice, factory in group.items():
            build = partial(network, "residual", "dense", None, "repeated", **{name: factory})
            kept[f"residual-{name}-{choice}"] = model_of("residual", drawn(build))
    check_in_a_new_process(kept, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*more than the:smallnets.nn.linear.LargerThanDense")
def test_a_new_process_gives_the_same_models_of_the_whole_cover(tmp_path: Path):
    assert len(COVER) >= 40
    check_in_a_new_process(of_the_cover(COVER), tmp_path)


@pytest.mark.parametrize("choice", factories("convolution"))
@pytest.mark.slow
def test_convolutional_networks_and_perceptrons_come_back(choice: str, tmp_path: Path):
    options = {"width": 8, "sizes": [3, 3], "stride": 2, "padding": 1, "linear": Dense}
    layer = factories("convolution")[choice]
    for build in (
        partial(ConvolutionalNetwork, (8, 2), 5, convolution=layer, **options),
        partial(Perceptron, (8, 2), 5, widths=[8], linear=Dense),
    ):
        model = model_of("residual", build(rngs=nnx.Rngs(params=jax.random.key(0))))
        again = smallnets.load(models.save(model, tmp_path / models.NAME))
        np.testing.assert_array_equal(again(example("residual")), model(example("residual")))
        assert jax.tree.structure(again) == jax.tree.structure(model)
        assert again.classes == ("a", "b", "c", "d", "e")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    model = model_of("residual", network("residual", "low_rank", "top_k", "repeated"))
    return models.save(model, tmp_path / models.NAME)


def test_a_flipped_bit_is_refused_by_name(kept: Path):
    content = kept.read_bytes()
    length = int.from_bytes(content[:8], "little")
    places = {*range(8), *range(8, 8 + length, 97), *range(8 + length, len(content), 1009)}
    for place in sorted(places | {len(content) - 1}):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        kept.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged|format") as error:
            smallnets.load(kept)
        assert str(error.value).startswith(str(kept)), place
        assert "\n" not in str(error.value)
    kept.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="damaged"):
        smallnets.load(kept)


def test_a_file_of_another_format_says_so(kept: Path, monkeypatch):
    model = smallnets.load(kept)
    with monkeypatch.context() as later:
        later.setattr(models, "FORMAT", "99")
        models.save(model, kept)
    with pytest.raises(ValueError, match="has format 99, this smallnets reads 1"):
        smallnets.load(kept)


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no model is kept there: .*save=last"):
        smallnets.load(tmp_path)


class Doubled(nnx.Module):
    """A layer of a user's own package: this file, imported as a module."""

    def __init__(self, inner: Any):
        self.inner = inner

    def __call__(self, x: jax.Array) -> jax.Array:
        return 2 * self.inner(x)


def test_a_class_of_a_users_own_needs_to_be_allowed(tmp_path: Path, monkeypatch):
    package = tmp_path / "mypackage.py"
    package.write_text(
        "from flax import nnx\n"
        "class Doubled(nnx.Module):\n"
        "    def __init__(self, inner):\n"
        "        self.inner = inner\n"
        "    def __call__(self, x):\n"
        "        return 2 * self.inner(x)\n"
        "def imported():\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import mypackage  # pyright: ignore[reportMissingImports]

    layer = mypackage.Doubled(Dense(2, 3, rngs=nnx.Rngs(0)))
    path = models.save(layer, tmp_path / models.NAME)
    monkeypatch.delitem(sys.modules, "mypackage")
    with pytest.raises(ValueError, match=r"names mypackage.Doubled.*allow=\('mypackage',\)"):
        smallnets.load(path)
    assert "mypackage" not in sys.modules  # it was refused before it was imported
    x = jnp.ones((1, 2))
    again = smallnets.load(path, allow=("mypackage",))
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.parametrize(
    "name", ["smallnets.cli.main", "smallnets.nn.parameter.kernel", "os.system"]
)
def test_only_modules_and_variables_are_loaded(name: str):
    with pytest.raises(ValueError, match=r"neither|only smallnets, optax are imported"):
        models.built({"class": name, "attributes": {}}, {})


def test_what_no_description_can_hold_is_refused(tmp_path: Path):
    layer = Doubled(Dense(2, 2, rngs=nnx.Rngs(0)))
    layer.inner = nnx.static(lambda x: x)
    with pytest.raises(ValueError, match="inner is a function"):
        models.save(layer, tmp_path / models.NAME)
    assert not list(tmp_path.iterdir())


def test_raw_inputs_are_the_contract(tmp_path: Path):
    mean, scale = np.full((1, 1, 2), 3.0, np.float32), np.full((1, 1, 2), 2.0, np.float32)
    built = network("residual", "dense", None, "repeated")
    model = Model(built, Preparation(mean=mean, scale=scale))
    raw = (np.arange(32) % 7).reshape(2, 8, 2).astype(np.uint8)
    again = smallnets.load(models.save(model, tmp_path / models.NAME))
    expected = built(jnp.asarray((raw.astype(np.float32) - 3) / 2))
    np.testing.assert_array_equal(again(raw), expected)


@pytest.mark.slow
def test_a_model_of_text_reads_text(tmp_path: Path):
    built = Transformer(
        (16,), 256, width=16, depth=1, linear=Dense, attention=partial(Attention, head_dim=8),
        feed_forward=FeedForward, causal=True, tied=True, rngs=nnx.Rngs(0),
    )  # fmt: skip
    model = Model(built, Preparation(dtype="int32", tokenizer="bytes", window=16))
    again = smallnets.load(models.save(model, tmp_path / models.NAME))
    tokens = np.frombuffer(b"It is a truth", np.uint8).astype(np.int32)[None]
    np.testing.assert_array_equal(again("It is a truth"), built(jnp.asarray(tokens))[0])
    with pytest.raises(ValueError, match="1 to 16 tokens at once, but the text has 28"):
        again("It is a truth universally ac")
