"""An artefact from its command: what is in it, that it proves itself, and that damage is named."""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from command import TINY, folders, smallnets

from smallnets import rows
from smallnets.deploy import artefact, card, environment, proof
from smallnets.deploy.artefact import require_integer

KINDS = {  # one of each network that is trained; the words of its run
    "dense": ["family=dense"],
    "monarch": ["family=monarch"],
    "shared": ["family=shared", "model.depth=4"],
    "mixture": ["family=mixture"],
    "convolutional": ["model=convolutional"],
    "encoder": ["model=encoder", "model.width=16"],
    "transformer": ["task=austen", "task.length=32", "model=transformer", "model.width=16"],
}


def trained(kind: str, cache: Path, out: Path) -> Path:
    smallnets(*KINDS[kind], *TINY, *folders(cache, out))
    (row,) = out.glob("*/row.json")
    return row.parent


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a card, of files that are none."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"program")
    (folder / "model.safetensors").write_bytes(b"weights")
    card.write({"task": "mnist1d", "files": {"model.onnx": {"batch": 1}}}, folder)
    return folder


def test_a_card_says_what_every_file_is(small: Path):
    found = card.read(small)
    assert found["files"]["model.onnx"]["batch"] == 1
    assert found["files"]["model.safetensors"]["bytes"] == 7


def test_a_flipped_byte_in_any_file_is_refused_by_name(small: Path):
    for path in sorted(small.iterdir()):
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(ValueError, match=path.name):
                card.read(small)
        path.write_bytes(whole)
    card.read(small)


def test_files_come_and_go_only_with_the_card(small: Path):
    (small / "more.py").write_text("print()")
    with pytest.raises(ValueError, match=r"more\.py is not on the card"):
        card.read(small)
    (small / "more.py").unlink()
    (small / "model.onnx").unlink()
    with pytest.raises(ValueError, match=r"model\.onnx is on the card but not there"):
        card.read(small)
    with pytest.raises(ValueError, match="is no artefact"):
        card.read(small.parent)


def test_a_rounding_that_rounds_little_is_refused():
    few = {"integer": 2, "of_weights": 18, "of_activations": 4}
    with pytest.raises(ValueError, match="2 of 18 products with weights take integers"):
        require_integer("model.int8.onnx", few, False)
    require_integer("model.int8.onnx", few, True)
    require_integer("model.int8.onnx", {**few, "integer": 17}, False)


def test_a_missing_environment_names_the_command_that_builds_it(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"\.venv-onnx, which is not here: build it with make de"):
        environment.interpreter("onnx")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs", "--to", "tensorrt"], "routes are stablehlo, onnx, litert"),
        (["runs", "--to", "stablehlo", "--int8"], "int8 is for onnx and litert"),
        (["runs", "--to", "onnx", "--int4"], "int4 is for litert"),
        (["runs", "--to", ""], "names no route"),
        (["runs"], "no model is kept there"),
        (["--check", "."], "is no artefact"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], said: str, tmp_path: Path, capsys):
    more = [] if "--check" in words else ["--out", tmp_path / "out"]
    (tmp_path / "runs").mkdir()
    words = [str(tmp_path / word) if word in ("runs", ".") else word for word in words]
    with pytest.raises(SystemExit) as ended:
        smallnets("export", *words, *more)
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "out").exists()


def test_scores_of_answers_are_those_of_the_row():
    answers = np.asarray([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]], np.float32)
    found = proof.Examples(answers, np.asarray([0, 0, 0], np.int32), answers, None)
    model: Any = SimpleNamespace(kind="classes", targets=None)
    assert found.scores(model, answers)["error"] == pytest.approx(1 / 3)


def python_of(route: str) -> str:
    try:
        return environment.interpreter(route)
    except ValueError as missing:
        pytest.skip(str(missing))


@pytest.mark.slow
@pytest.mark.users_options
def test_stablehlo_needs_no_environment_but_ours(cache: Path, tmp_path: Path, capsys):
    run = trained("dense", cache, tmp_path / "runs")
    out = tmp_path / "out"
    smallnets("export", run, "--to", "stablehlo", "--out", out)
    smallnets("export", "--check", out)
    assert "model.stablehlo: at batch 1, 7, 64 within" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        smallnets("export", run, "--to", "stablehlo", "--out", out)
    assert "is there already" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.users_options
@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_network_comes_out_right_by_every_route(kind: str, cache: Path, tmp_path: Path):
    """From the command to the folder, its check, and the script in environments without JAX."""
    pythons = [python_of(route) for route in ("onnx", "litert")]
    run, out = trained(kind, cache, tmp_path / "runs"), tmp_path / "out"
    smallnets("export", run, "--int8", "--partial", "--out", out)
    found = card.read(out)
    recorded = rows.read(run).metrics
    for name in ("model.stablehlo", "model.onnx", "model.tflite"):
        entry = found["files"][name]
        assert max(entry["parity"].values()) <= 5e-5
        assert min(entry["agreement"].values()) == 1
        if kind != "transformer":  # of text a part of the split is scored
            assert entry["scores"]["1"]["error"] == pytest.approx(recorded["test_error"], abs=1e-3)
    assert set(found["files"]["model.onnx"]["parity"]) == {"1", "7", "64"}
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    smallnets("export", "--check", out)
    for python in pythons:
        said = subprocess.run(
            [python, "-I", out / "run.py"], capture_output=True, text=True, check=True
        )
        assert float(said.stdout.split(":")[1]) <= 5e-5
    if kind == "shared":
        size = found["files"]["model.onnx"]["bytes"]
        assert size <= 1.15 * (out / "model.safetensors").stat().st_size or size < 30_000
    spoiled = tmp_path / "spoiled"
    for name in found["files"]:
        shutil.copytree(out, spoiled)
        whole = bytearray((spoiled / name).read_bytes())
        whole[len(whole) // 2] ^= 1
        (spoiled / name).write_bytes(whole)
        with pytest.raises(ValueError, match=name):
            card.read(spoiled)
        shutil.rmtree(spoiled)


def test_the_script_of_an_artefact_is_short():
    lines = Path(artefact.__file__).with_name("run.py").read_text().splitlines()
    assert len(lines) <= 45
    assert not [line for line in lines if "pickle" in line or "smallnets" in line]
