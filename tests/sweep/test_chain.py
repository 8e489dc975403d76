"""A chain of passes, from the command to the last model: what is found, shared, and refused."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from command import TINY, folders, smallnets

import smallnets as library
from smallnets import models, rows
from smallnets.nn import LowRank, Quantised
from smallnets.sweep import plan_file

MODEL = ["model.width=16", "model.depth=2"]
FEW = ["calibration=64", *TINY]


@pytest.fixture(scope="module")
def parents(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parents") / "study"
    library.train(library.plan(*MODEL, "seed=0,1", *TINY, *folders(cache, folder)))
    return folder


def routes(folder: Path) -> dict[str, list[rows.Row]]:
    found: dict[str, list[rows.Row]] = {}
    for row in rows.load(folder):
        found.setdefault(row.route, []).append(row)
    return found


@pytest.mark.slow
def test_a_chain_from_the_command_to_its_last_model(
    parents: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = next(parents.glob("*/row.json")).parent
    before = (run / models.NAME).read_bytes()
    words = [f"start={run}", "compress=[factorise,quantise]", "compress.quantise.group=0", *FEW]
    out = folders(cache, tmp_path / "out")
    smallnets(*words, *out)
    said = capsys.readouterr().out
    found = routes(tmp_path / "out")
    first, last = "factorise ratio=0.5", "factorise ratio=0.5 > quantise group=0"
    assert set(found) == {first, last}
    (one,), (two,) = found[first], found[last]
    assert one.parent == f"{rows.read(run).key}-last"
    assert two.parent == f"{one.key}-last"
    assert one.config["steps"] == two.config["steps"] == 0
    for row in (one, two):
        file = tmp_path / "out" / row.key / models.NAME
        assert file.stat().st_size == row.costs["file_bytes"]
        assert row.costs["latency_ms"] > 0
        assert row.energy["joules"] is None or row.energy["joules"] > 0
    network = library.load(tmp_path / "out" / two.key).network
    assert isinstance(network.stack.blocks.layer.up, LowRank)
    assert isinstance(network.stack.blocks.layer.up.down, Quantised)
    assert f"{len(before):,} -> {int(two.costs['file_bytes']):,}" in " ".join(said.split())
    assert (run / models.NAME).read_bytes() == before

    smallnets(*words, *out)  # the same twice: all is found
    assert "2 of them there before" in " ".join(capsys.readouterr().out.split())
    sizes = ["compress=[factorise,quantise]", "budget.file_bytes=3_200", "budget.at_most=true"]
    plan = library.plan(f"start={run}", *sizes, *FEW, *folders(cache, tmp_path / "sized"))
    assert 3_000 < plan.programs[-1].costs["file_bytes"] <= 3_200
    # whole units: near a share of 1 the pass would remove none, and refuses
    sizes = ["compress=[units,quantise]", "budget.file_bytes=3_200"]
    plan = library.plan(
        f"start={run}", *sizes, "budget.at_most=true", *FEW, *folders(cache, tmp_path / "sized")
    )
    assert 2_900 < plan.programs[-1].costs["file_bytes"] <= 3_200
    with pytest.raises(
        ValueError, match=r"nearest files are [\d,]+ \(at compress.units.keep=.*: set one"
    ):
        library.plan(
            f"start={run}", *sizes, "budget.tolerance=0", *FEW, *folders(cache, tmp_path / "sized")
        )


@pytest.mark.slow
def test_equal_prefixes_train_once_and_seeds_are_one_program(
    parents: Path, cache: Path, tmp_path: Path
):
    out = folders(cache, tmp_path / "out")
    words = [f"start={parents}", "seed=0,1", *FEW, *out]
    chain = ["compress=[factorise,finetune,quantise]", "compress.quantise.code=int8,ternary"]
    plan = library.plan(*words, *chain)
    found = library.train(plan)
    counts = {route: len(rows) for route, rows in routes(tmp_path / "out").items()}
    assert sorted(counts.values()) == [2] * 4  # two seeds of factorise, finetune, and either code
    assert len(found) == 4
    assert {run.row.route.split(" > ")[-1] for run in found} == {
        "quantise code=int8",
        "quantise code=ternary",
    }
    aware = ["compress=[factorise,quantisation_aware]"]
    aware += ["+distil=logits", f"distil.teacher={parents}"]
    (run, _) = library.train(library.plan(*words, *aware))
    assert run.row.teacher.endswith("-last")
    kernel = library.load(run.folder).network.head.kernel
    assert isinstance(kernel, Quantised)
    assert rows.missing(tmp_path / "out") == []


@pytest.mark.slow
def test_workers_share_chains_that_have_no_stage_in_common(
    parents: Path, cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    words = [f"start={parents}", "seed=0,1", "compress=[factorise,quantise]", *FEW]
    words += ["compress.factorise.ratio=.5,.25", "compress.quantise.code=int8,ternary"]
    smallnets("plan", *words, *folders(cache, out))
    (path,) = out.glob(plan_file.PATTERN)
    lines = list(plan_file.read(path).lines())
    assert [len(line.keys) for line in lines] == [6, 6]  # of a ratio, two seeds and three stages
    assert [len(line.jobs) for line in lines] == [4, 4]
    smallnets("work", path, "--shard", "0/2")
    capfd.readouterr()
    with pytest.raises(SystemExit):
        smallnets("collect", path)
    assert "6 finished, 0 diverged, 0 failed, 6 missing" in capfd.readouterr().out
    smallnets("work", path, "--shard", "1/2")
    smallnets("collect", path)
    assert "12 finished, 0 diverged, 0 failed, 0 missing" in capfd.readouterr().out
    assert rows.missing(out) == []
    for row in list(rows.load(out))[::5]:
        smallnets("reproduce", out / row.key)
        assert capfd.readouterr().out.startswith("bit-equal: "), row.route
    smallnets(
        "-m", *words, *folders(cache, out)
    )  # finds all, a shared stage for each of its chains
    assert "16 of them there before" in " ".join(capfd.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "chain",
    ["units,quantise", "project,quantise", "tie,quantise", "zeros,finetune", "heads", "experts"],
)
def test_a_new_process_gives_what_a_chain_made(chain: str, cache: Path, tmp_path: Path):
    network = {
        "heads": ["model=encoder", "model.width=16", "model.depth=1"],
        "experts": ["family=mixture", *MODEL],
    }.get(chain, MODEL)
    out = folders(cache, tmp_path / "parent")
    (parent,) = library.train(library.plan(*network, *TINY, *out))
    words = [f"start={parent.folder}", f"compress=[{chain}]", *FEW]
    if "project" in chain:
        words.append("compress.project.blocks=4")
    (run,) = library.train(library.plan(*words, *folders(cache, tmp_path / "out")))
    x = np.random.default_rng(0).normal(size=(3, 40, 1)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, jax, numpy as np, smallnets\n"
        "model = smallnets.load(sys.argv[1])\n"
        "x = np.load(sys.argv[2])\n"
        "np.save(sys.argv[3], jax.jit(lambda model, x: model(x))(model, x))\n"
    )
    answers = tmp_path / "answers.npy"
    command = [sys.executable, "-c", code, str(run.folder), str(tmp_path / "x.npy"), str(answers)]
    subprocess.run(command, check=True)
    model = library.load(run.folder)
    expected = jax.jit(lambda model, x: model(x))(model, x)
    np.testing.assert_array_equal(np.load(answers), expected)


@pytest.mark.slow
def test_what_is_refused(parents: Path, cache: Path, tmp_path: Path):
    run = next(parents.glob("*/row.json")).parent
    out = folders(cache, tmp_path / "out")
    start = f"start={run}"
    for words, said in (
        (["compress=[factorise]"], "names none: add start=RUN"),
        ([start, "compress=[]"], "has none: name one"),
        ([start, "compress=[quantise,quantise]"], "names each stage once, but quantise"),
        ([start, "compress=[heads]"], "heads finds no Attention"),
        ([start, "compress=[experts]"], "experts finds no Mixture"),
        ([start, "compress=[factorise]", "compress.factorise.ratio=0"], "above 0 and up to 1"),
        (
            [start, "compress=[factorise]", "+compress.factorise.rank=16",
             "compress.factorise.ratio=null"],
            "finds no Linear that it would make smaller",
        ),
        ([start, "compress=[zeros]", "compress.zeros.share=1"], "share must lie between 0 and 1"),
        ([start, "compress=[quantise,factorise]"], "quantise is the last pass"),
        ([start, "compress=[quantise]", "compress.quantise.code=int5"], "code must be one of"),
        ([start, "compress=[finetune]", "+compress.finetune.width=3"], "but not width"),
        ([start, "compress=[finetune]", "save=none"], "keeps the model of each stage"),
        ([start, "compress=[quantise]", "budget.file_bytes=900"], "needs a pass with a share"),
        ([start, "compress=[units]", "budget.params=900"], "budget.file_bytes alone"),
        ([start, "compress=[units]", "task=sparse_parity"], "residual dense"),
        ([start, "+distil=logits"], "distil.teacher must be given: add distil.teacher="),
        (["start=/nowhere", "compress=[units]"], "holds no run for seed=0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said) as error:
            library.plan(*words, *FEW, *out)
        assert "\n" not in str(error.value), words
    assert not (tmp_path / "out").exists()
    assert json.loads((run / "row.json").read_text())["key"] == run.name
