"""Prepared data are whole or not there, whoever else writes or dies."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from smallnets.tasks import fashion_mnist
from smallnets.tasks.cache import prepare, writing

LOAD = """
import logging, pathlib, sys, time
from smallnets.tasks import fashion_mnist
import smallnets.tasks.builders.fashion_mnist
logging.basicConfig(level="INFO")
source, cache = sys.argv[1:]
pathlib.Path(cache, f"ready-{time.time_ns()}").touch()
while not pathlib.Path(cache, "go").exists():
    time.sleep(0.001)
data = fashion_mnist.load(source=source, cache=cache, validation=0)
print(data.train.inputs.shape, data.test.labels.sum())
"""

DIE = """
import os, signal, sys
from smallnets.tasks import fashion_mnist
from smallnets.tasks.builders.fashion_mnist import FashionMnist
whole = FashionMnist._generate_examples
def half(self, images, labels):
    yield from whole(self, images[:5], labels[:5])
    os.kill(os.getpid(), signal.SIGKILL)
FashionMnist._generate_examples = half
fashion_mnist.load(source=sys.argv[1], cache=sys.argv[2], validation=0)
"""


def start(script: str, *arguments: Path) -> subprocess.Popen:
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def test_four_processes_prepare_once_and_all_read(idx_folder, images, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    processes = [start(LOAD, idx_folder, cache) for _ in range(4)]
    while len(list(cache.glob("ready-*"))) < 4 and all(p.poll() is None for p in processes):
        time.sleep(0.01)
    (cache / "go").touch()
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    expected = f"(60, 28, 28, 1) {images['t10k'][1].sum()}\n"
    assert [out for out, _ in outputs] == [expected] * 4
    (line,) = "".join(error for _, error in outputs).splitlines()  # and nothing of TFDS's
    assert line.startswith("INFO:smallnets.tasks.cache:preparing ")


def test_a_kill_half_way_leaves_nothing_that_is_taken_for_whole(idx_folder, tmp_path):
    cache = tmp_path / "cache"
    process = start(DIE, idx_folder, cache)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    left = sorted(path.suffix for path in cache.iterdir())
    assert left == [".draft", ".lock"]
    data = fashion_mnist.load(source=str(idx_folder), cache=str(cache), validation=0)
    assert len(data.train) == 60
    assert not list(cache.glob("*.draft"))


def test_what_is_there_is_not_prepared_again(tmp_path):
    assert prepare(tmp_path, lambda folder: pytest.fail("built again")) == tmp_path


@pytest.mark.parametrize("below", [".", "deeper/still"])
def test_a_cache_that_cannot_be_written_is_refused(idx_folder, tmp_path, below):
    (tmp_path / "file").touch()
    cache = tmp_path / "file" / below
    with pytest.raises(
        ValueError, match=r"cache: .* must be writable, but: .*cache=/path"
    ) as error:
        fashion_mnist.load(source=str(idx_folder), cache=str(cache), validation=0)
    assert "\n" not in str(error.value)


def test_a_full_disk_gives_one_line(tmp_path):
    with (
        pytest.raises(ValueError, match="but: No space left on device"),
        writing(tmp_path),
        open("/dev/full", "w") as full,
    ):
        full.write("much")
