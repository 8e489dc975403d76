"""Students from the command to their rows: every way to learn, kept answers and answers asked."""

from pathlib import Path

import jax
import numpy as np
import pytest
from command import TINY, folders, smallnets

import smallnets as library
from smallnets import rows
from smallnets.rows import Row

DECODER = ["model=transformer", "++model.attention.head_dim=4", "model.depth=2"]
STUDENT = [*DECODER, "model.width=8"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words of a task of text in characters."""
    book = tmp_path_factory.mktemp("text") / "book.txt"
    draw = np.random.default_rng(0)
    book.write_text("\n".join(" ".join(draw.choice(["ab", "cde", "f"], 8)) for _ in range(200)))
    return ["task=text", f"task.source={book}", "task.vocabulary=characters", "task.length=16"]


@pytest.fixture(scope="module")
def teacher(text: list[str], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = folders(cache, tmp_path_factory.mktemp("teacher") / "study")
    (run,) = library.train(library.plan(*text, *DECODER, "model.width=16", *TINY, *out))
    return run.folder


def of(folder: Path) -> list[Row]:
    return sorted(rows.load(folder), key=lambda row: row.seed)


@pytest.mark.slow  # compiles two decoders and a teacher
def test_a_decoder_is_distilled_from_the_command_and_kept_answers_are_those_of_each_step(
    text: list[str], teacher: Path, cache: Path, tmp_path: Path
):
    words = [*text, *STUDENT, *TINY, "+distil=logits", f"distil.teacher={teacher}"]
    found = {}
    for name, memory in (("kept", 0.1), ("asked", 0)):
        smallnets(*words, f"distil.memory={memory}", *folders(cache, tmp_path / name))
        (found[name],) = of(tmp_path / name)
    kept, asked = found["kept"], found["asked"]
    assert kept.key == asked.key  # where answers come from is no other run
    assert kept.teacher == f"{rows.read(teacher).key}-last"
    for name, curve in kept.curves.items():
        np.testing.assert_allclose(curve, asked.curves[name], rtol=1e-5)
    models = [library.load(tmp_path / name / kept.key) for name in found]
    for one, other in zip(*map(jax.tree.leaves, models), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    # asked of 20 batches of 16, or once of all windows
    data = library.plan(*words, *folders(cache, tmp_path / "x")).programs[0].data
    forward = rows.read(teacher).costs["flops"]
    assert asked.costs["teacher_flops"] == pytest.approx(20 * 16 * forward)
    assert kept.costs["teacher_flops"] == pytest.approx(len(data.train) * forward)
    assert library.load(tmp_path / "kept" / kept.key)("ab cde").shape[0] == 6


WAYS = {
    "features": ["distil.layer=1", "distil.teacher_layer=2"],
    "attention": ["distil.relation_heads=2"],
    "relations": [],
    "sequences": ["distil.prompt=4"],
    "on_policy": ["distil.prompt=4", "distil.every=2"],
}


@pytest.mark.slow  # compiles a decoder for each
@pytest.mark.parametrize("way", WAYS)
def test_each_way_trains_a_decoder_of_another_width_and_keeps_it_alone(
    way: str, text: list[str], teacher: Path, cache: Path, tmp_path: Path
):
    words = [*text, *STUDENT, *TINY, f"+distil={way}", f"distil.teacher={teacher}", *WAYS[way]]
    plan = library.plan(*words, "seed=0,1", *folders(cache, tmp_path / "out"))
    (program,) = plan.programs
    runs = library.train(plan)
    for run in runs:
        assert run.row.status == "finished"
        losses = run.row.curves["train_loss"]
        assert losses[-1] < losses[0]
        network = library.load(run.folder).network
        assert jax.tree.structure(network) == jax.tree.structure(program.network)
    assert runs[0].row.costs["teacher_flops"] > 0
    first = rows.read(runs[0].folder)
    # what trains it is no other network, and the first step of two seeds is another
    assert first.parameters == program.parameters
    assert first.metrics != runs[1].row.metrics
