"""The networks for images train through the door, by every kind of map, with dropout."""

import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest
from command import TINY, folders, smallnets

import smallnets as library
from smallnets.rows import load


def idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    with gzip.open(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright squares whose place says the class, in the files of Fashion-MNIST."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, count in (("train", 100), ("t10k", 40)):
        labels = np.arange(count) % 10
        pixels = random.integers(0, 100, (count, 28, 28))
        for image, label in zip(pixels, labels, strict=True):
            row, column = divmod(int(label), 4)
            image[9 * row : 9 * row + 6, 7 * column : 7 * column + 6] += 150
        idx(folder / f"{name}-images-idx3-ubyte.gz", pixels)
        idx(folder / f"{name}-labels-idx1-ubyte.gz", labels)
    return folder


def train(images: Path, cache: Path, out: Path, *words: str) -> list:
    source = ["task=fashion_mnist", f"task.source={images}"]
    smallnets("-m", *source, *words, *TINY, *folders(cache, out))
    return list(load(out))


SMALL = ["model=residual_convolutional", "model.width=8", "model.depth=1", "model.stages=2"]


@pytest.mark.slow
def test_a_sweep_over_dropout_is_two_programs_and_its_models_come_back(images, cache, tmp_path):
    rows = train(images, cache, tmp_path, *SMALL, "model.dropout=0,0.1,0.4")
    assert {row.family for row in rows} == {
        "residual_convolutional dense depth=1 stages=2",
        "residual_convolutional dense depth=1 dropout=0.1 stages=2",
        "residual_convolutional dense depth=1 dropout=0.4 stages=2",
    }
    losses = [row.metrics["train_loss"] for row in rows]
    assert np.isfinite(losses).all()
    assert len(set(losses)) == 3
    assert len({row.parameters for row in rows}) == 1
    for row in rows:
        model = library.load(tmp_path / row.key)
        assert np.isfinite(model(np.zeros((2, 28, 28, 1), np.uint8))).all()


def test_a_rate_outside_gets_one_line(images, cache, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(images, cache, tmp_path, *SMALL, "model.dropout=0.1,1.5")
    assert "model.dropout must lie in [0, 1), but is 1.5" in capsys.readouterr().err


FAMILIES = ("dense", "low_rank", "monarch")
CONVOLUTIONS = ("plain", "separable", "inverted_bottleneck")


@pytest.mark.slow
@pytest.mark.parametrize(("convolution", "family"), [*itertools.product(CONVOLUTIONS, FAMILIES)])
def test_every_convolution_and_map_trains(convolution, family, images, cache, tmp_path):
    words = [*SMALL, f"model/convolution={convolution}", f"family={family}"]
    [row] = train(images, cache, tmp_path, *words)
    first, last = row.curves["train_loss"]
    assert last < first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "family"), [*itertools.product(("lenet5", "lenet_300_100"), FAMILIES)]
)
def test_every_lenet_and_map_trains(model, family, images, cache, tmp_path):
    [row] = train(images, cache, tmp_path, f"model={model}", f"family={family}")
    first, last = row.curves["train_loss"]
    assert last < first


@pytest.mark.slow
@pytest.mark.parametrize(("convolution", "family"), [*itertools.product(CONVOLUTIONS, FAMILIES)])
@pytest.mark.filterwarnings("ignore::smallnets.nn.LargerThanDense")  # a Monarch map of 4 channels
def test_every_convolution_and_map_meets_a_budget(convolution, family, cache):
    words = ["model=residual_convolutional", f"model/convolution={convolution}", f"family={family}"]
    (program,) = library.plan(*words, "budget.params=20_000", f"cache={cache}").programs
    assert program.costs["params"] == pytest.approx(20_000, rel=0.005)
