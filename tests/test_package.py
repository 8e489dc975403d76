"""A package of one's own, as ``smallnets new`` writes it: allowed by name, found in every verb, and
trained, kept and loaded as ours are."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import TINY, folders
from command import smallnets as command

import smallnets
from smallnets import new, rows
from smallnets.allowed import OURS, locate

NAME = "layers_of_mine"
CHOSEN = ["task=shifts", "model/linear=circulant", "model.width=8", f"allow=[{NAME}]", *TINY]
FAMILY = f"residual dense linear={NAME}.layers.Circulant"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages") / NAME
    new.write(folder)
    return folder


@pytest.fixture
def conf(package: Path, monkeypatch) -> Iterator[Path]:
    """The package's configs; it is found as if its folder were where the command is typed."""
    monkeypatch.syspath_prepend(package)
    yield package / "conf"
    for name in [each for each in sys.modules if each.partition(".")[0] == NAME]:
        del sys.modules[name]


def refused(capsys, *words: object) -> str:
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as ended:
        command(*words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    return said


@pytest.mark.slow
def test_the_package_s_own_tests_pass_without_installing_it(tmp_path: Path, cache: Path):
    smallnets_ = [sys.executable, "-m", "smallnets"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": ":".join(sys.path)}
    made = [*smallnets_, "new", "another_of_mine"]
    subprocess.run(made, cwd=tmp_path, env=environment, check=True, capture_output=True)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "another_of_mine",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout


def test_a_folder_that_is_not_empty_is_left_as_it_is(package: Path, capsys):
    before = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    assert "there already and not empty" in refused(capsys, "new", package)
    assert {path: path.stat().st_mtime_ns for path in package.rglob("*")} == before


@pytest.mark.parametrize("name", ["my-layers", "class", "json", "tests"])
def test_a_name_that_no_package_can_have(name: str, tmp_path: Path, capsys):
    assert name in refused(capsys, "new", tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_it_is_described_by_either_way_to_its_configs(conf: Path, cache: Path, capsys):
    found = []
    for way in (["--config-dir", conf], [f"hydra.searchpath=[file://{conf}]"]):
        command("describe", "--json", *way, *CHOSEN, f"cache={cache}")
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    (said,) = found[0]
    assert (said["family"], said["task"]) == (FAMILY, "shifts")
    transform = 2.5 * 16 * 4  # of each example two in each of four layers, and one of each kernel
    assert said["whole"]["flops"] == 2 * 2 * 16 * 8 + 4 * (2 + 1 / 16) * transform
    assert said["flops_not_counted"] is None


@pytest.mark.slow  # two programs; the package's own tests are quick
def test_it_is_trained_and_kept_by_each_door(conf: Path, cache: Path, tmp_path: Path):
    command("-m", "--config-dir", conf, *CHOSEN, "seed=0,1", *folders(cache, tmp_path / "out"))
    found = {row.key: row for row in rows.load(tmp_path / "out")}
    assert {row.family for row in found.values()} == {FAMILY}
    plan = smallnets.plan(*CHOSEN, "seed=0,1", f"cache={cache}", config_dir=conf)
    assert sorted(plan.programs[0].keys) == sorted(found)
    folder = tmp_path / "out" / plan.programs[0].keys[0]
    with pytest.raises(ValueError, match=rf"allow=\('{NAME}',\)"):
        smallnets.load(folder)
    data = plan.programs[0].data
    score = smallnets.load(folder, allow=(NAME,)).evaluate(data.test)
    assert score["error"] == pytest.approx(found[folder.name].metrics["test_error"], abs=1e-6)


@pytest.mark.slow
def test_flops_without_a_rule_cost_the_flops_alone(conf: Path, cache: Path, capsys, monkeypatch):
    from layers_of_mine.layers import Circulant  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(Circulant, "flop_rules", {})
    words = ["--config-dir", conf, *CHOSEN, f"cache={cache}"]
    command("describe", *words)
    said = capsys.readouterr().out
    assert said.count("FLOPs are not") == 1
    assert "FLOPs are not counted: no rule says how many FLOPs the operation 'fft'" in said
    sized = [word for word in words if word != "model.width=8"]
    assert "no rule says" in refused(capsys, "describe", *sized, "budget.flops=10_000")


@pytest.mark.slow
def test_what_is_not_allowed_is_refused_before_it_is_imported(conf: Path, cache: Path, capsys):
    words = [word for word in CHOSEN if not word.startswith("allow")]
    said = refused(capsys, "--config-dir", conf, *words, f"cache={cache}")
    assert "task._target_ names layers_of_mine.tasks.shifts, but only smallnets, optax" in said
    assert f"allow=[{NAME}]" in said
    assert NAME not in sys.modules
    assert "allow must list" in refused(capsys, "describe", "allow=mine", f"cache={cache}")


@pytest.mark.slow
def test_configs_of_others_that_are_not_allowed_are_no_hindrance(
    conf: Path, cache: Path, tmp_path: Path
):
    """A label compares a network with all that the configs offer."""
    (tmp_path / "model").mkdir()
    for name in ("another", "zebra"):
        (tmp_path / "model" / f"{name}.yaml").write_text("_target_: not_there.Network\n")
    places = f"hydra.searchpath=[file://{conf},file://{tmp_path}]"
    (program,) = smallnets.plan(places, *CHOSEN, f"cache={cache}").programs
    assert program.label == FAMILY


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "smallnets.cli.os.system",
        "smallnets.cli.Path",
        "smallnets.nn.Dense.__subclasses__",
        "smallnetsx.Dense",
    ],
)
def test_what_lies_outside_is_not_reached_through_ours(name: str):
    with pytest.raises(ValueError, match="only smallnets, optax are imported"):
        locate(name, (), said_by="a test", fix="{}")


def test_what_is_allowed_is_found():
    assert locate("smallnets.nn.Dense", (), said_by="a test", fix="{}") is smallnets.nn.Dense
    assert locate("json.dumps", ("json",), said_by="a test", fix="{}") is json.dumps
    assert OURS == ("smallnets", "optax")
    with pytest.raises(ValueError, match=r"names smallnets.nn.Nothing, which is not there"):
        locate("smallnets.nn.Nothing", (), said_by="a test", fix="{}")


def test_the_version_is_ours(capsys):
    command("--version")
    assert capsys.readouterr().out == f"smallnets {smallnets.__version__}\n"
