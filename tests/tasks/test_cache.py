"""Prepared data are whole or not there, whoever else writes or dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from smallnets.tasks.cache import prepare, writing
from smallnets.tasks.tfds import read

COUNTS = {"train": 60, "test": 20}


class Digits(tfds.core.GeneratorBasedBuilder):
    """Numbers and their last digits."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "number": tfds.features.Tensor(shape=(1,), dtype=np.float32),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("number", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(count) for name, count in COUNTS.items()}

    def _generate_examples(self, count):
        for number in range(count):
            yield number, {"number": np.full(1, number, np.float32), "label": number % 10}


def digits(folder: Path) -> Digits:
    return Digits(data_dir=folder, file_format="array_record")


PREPARE_AND_READ = """
import logging, pathlib, sys, time
from test_cache import digits
from smallnets.tasks.cache import prepare
from smallnets.tasks.tfds import read
logging.basicConfig(level="INFO")
cache = pathlib.Path(sys.argv[1])
(cache / f"ready-{time.time_ns()}").touch()
while not (cache / "go").exists():
    time.sleep(0.001)
data = read(prepare(cache / "digits", digits), cache=cache)
print(data.train.inputs.sum(), data.test.labels.sum())
"""

DIE_HALF_WAY = """
import os, pathlib, signal, sys
from test_cache import Digits, digits
from smallnets.tasks.cache import prepare
whole = Digits._generate_examples
def half(self, count):
    yield from whole(self, count // 2)
    os.kill(os.getpid(), signal.SIGKILL)
Digits._generate_examples = half
prepare(pathlib.Path(sys.argv[1], "digits"), digits)
"""


def start(script: str, cache: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, str(cache)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.slow
def test_four_processes_prepare_once_and_all_read(tmp_path):
    processes = [start(PREPARE_AND_READ, tmp_path) for _ in range(4)]
    while len(list(tmp_path.glob("ready-*"))) < 4 and all(p.poll() is None for p in processes):
        time.sleep(0.01)
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    expected = f"{sum(range(60)):.1f} {2 * sum(range(10))}\n"
    assert [out for out, _ in outputs] == [expected] * 4
    (line,) = "".join(error for _, error in outputs).splitlines()  # and nothing of TFDS's
    assert line.startswith("INFO:smallnets.tasks.cache:preparing ")


@pytest.mark.slow
def test_a_kill_half_way_leaves_nothing_that_is_taken_for_whole(tmp_path):
    cache = tmp_path / "cache"
    process = start(DIE_HALF_WAY, cache)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert sorted(path.name for path in cache.iterdir()) == ["digits.draft", "digits.lock"]
    assert list((cache / "digits.draft").rglob("*"))  # what the killed process left
    data = read(prepare(cache / "digits", digits), cache=cache)
    np.testing.assert_array_equal(data.train.inputs[:, 0], np.arange(60))
    assert not list(cache.glob("*.draft"))


def test_what_is_there_is_not_prepared_again(tmp_path):
    assert prepare(tmp_path, lambda folder: pytest.fail("built again")) == tmp_path


@pytest.mark.parametrize("below", [".", "deeper/still"])
def test_a_cache_that_cannot_be_written_is_refused(tmp_path, below):
    (tmp_path / "file").touch()
    directory = tmp_path / "file" / below / "digits"
    with pytest.raises(
        ValueError, match=r"cache: .* must be writable, but: .*cache=/path"
    ) as error:
        prepare(directory, lambda folder: pytest.fail("built all the same"))
    assert "\n" not in str(error.value)


def test_a_full_disk_gives_one_line(tmp_path):
    with (
        pytest.raises(ValueError, match="but: No space left on device"),
        writing(tmp_path),
        open("/dev/full", "w") as full,
    ):
        full.write("much")
