"""Students of one run or of an ensemble of runs: what they learn from, and what is refused."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import TINY, folders
from flax import nnx

import smallnets as library
from smallnets.nn import Dense, Ensemble
from smallnets.sweep.teachers import Question, teaching

SMALL = ["model=perceptron", "model.widths=[4]", "task=mnist1d", *TINY]


@pytest.mark.slow
def test_an_ensemble_answers_with_the_mean_of_probabilities():
    networks = [Dense(3, 4, rngs=nnx.Rngs(seed)) for seed in range(3)]
    x = jnp.ones((2, 3))
    each = np.stack([jax.nn.softmax(network(x)) for network in networks])
    found = jax.nn.softmax(Ensemble(networks)(x))
    np.testing.assert_allclose(found, each.mean(axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match="3 have 2: name runs that differ in their seeds"):
        Ensemble([*networks[:2], Dense(3, 5, rngs=nnx.Rngs(0))])


@pytest.mark.slow  # trains
def test_a_list_of_runs_teaches_as_one_and_a_perfect_teacher_at_one_is_said(
    cache: Path, tmp_path: Path, capsys
):
    out = folders(cache, tmp_path / "teachers")
    teachers = library.train(library.plan(*SMALL, "seed=0,1", *out))
    words = [*SMALL, "+distil=logits", "distil.temperature=1,4", "distil.share=0.9"]
    words += folders(cache, tmp_path / "students")
    two = f"distil.teacher=[{','.join(str(each.folder) for each in teachers)}]"
    plan = library.plan(*words, two)
    (program,) = plan.programs  # the temperature varies inside it
    (long,) = library.plan(*words, two, "steps=2000").programs  # sees each example often
    (with_answers,) = teaching([long], 2**32)
    taught = with_answers.taught.answers  # once for both runs
    assert taught.shape == (1, len(program.data.train), 10)
    x = program.data.train.inputs
    mean = np.mean([jax.nn.softmax(library.load(t.folder).network(x)) for t in teachers], axis=0)
    np.testing.assert_allclose(jax.nn.softmax(taught[0]), mean, rtol=1e-3, atol=1e-6)
    assert "warning" not in capsys.readouterr().err
    runs = library.train(plan)
    assert all(t.row.key in runs[0].row.teacher for t in teachers)
    folder = library.plan(*words, f"distil.teacher=[{tmp_path / 'teachers'}]").programs[0]
    assert [job.teacher and job.teacher.key for job in folder.group.jobs] == [
        runs[0].row.teacher
    ] * 2
    perfect = np.eye(10, dtype=np.float32)[program.data.train.labels] * 9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Question, "answers", lambda self, first=None: perfect[None, :first])
        teaching([program], 2**32)
    assert "hardly more than its labels: raise it" in capsys.readouterr().err
    with pytest.raises(ValueError, match="holds no run"):
        library.plan(*words, f"distil.teacher=[{tmp_path / 'nowhere'}]")


def test_students_of_other_sizes_and_families_are_other_runs(cache: Path, tmp_path: Path):
    """A second size in one folder is trained, not found, and so is a second kind of layer."""
    (teacher,) = library.train(
        library.plan(*SMALL, "seed=0", *folders(cache, tmp_path / "teacher"))
    )
    words = [*SMALL, "+distil=logits", f"distil.teacher={teacher.folder}"]
    words += folders(cache, tmp_path / "students")
    kinds = (["model.widths=[4]"], ["model.widths=[8]"], ["family=low_rank", "model.widths=[8]"])
    runs = [run for kind in kinds for run in library.train(library.plan(*words, *kind))]
    assert len({run.row.key for run in runs}) == len({run.row.parameters for run in runs}) == 3
    by_budget = ["model=residual", "budget.at_most=true"]
    words = [word for word in words if not word.startswith("model")]
    sizes = [
        library.plan(*words, *by_budget, f"budget.file_bytes={size}").programs[0]
        for size in (8_000, 16_000)
    ]
    assert sizes[0].keys != sizes[1].keys
