from functools import partial

import pytest

from smallnets.nn import Dense
from smallnets.traced import Traced, TracedInt, assign, calls, declared, public_name


class Layer:
    def __init__(self, d_in: int, *, weight: Traced = 0.1, size: int = 3):
        self.d_in, self.weight, self.size = d_in, weight, size


def run(*, seed: TracedInt, layers: dict, plain: float = 1.0):
    return seed, {name: make(4) for name, make in layers.items()}, plain


TREE = partial(run, seed=1, layers={"a": partial(Layer, size=2), "b": partial(Layer, weight=0.5)})


def test_numbers_are_declared_where_they_are_taken():
    assert dict(declared(TREE)) == {"seed": int, "layers.a.weight": float, "layers.b.weight": float}


@pytest.mark.parametrize(("path", "value"), [("seed", 7), ("layers.b.weight", 0.25)])
def test_a_value_is_put_at_its_path_and_the_tree_is_kept(path, value):
    seed, layers, plain = assign(TREE, path, value)()
    found = {"seed": seed, "layers.b.weight": layers["b"].weight}
    assert found[path] == value
    assert (layers["a"].weight, layers["a"].size, plain) == (0.1, 2, 1.0)
    before = TREE()
    assert (before[0], before[1]["b"].weight) == (1, 0.5)


def test_calls_are_the_same_however_they_were_written():
    shorter = partial(run, seed=1, layers={"a": partial(Layer, size=2), "b": Layer})
    longer = partial(
        run,
        plain=1.0,
        layers={"b": partial(Layer, size=3), "a": partial(Layer, weight=0.1, size=2)},
        seed=1,
    )
    assert dict(calls(shorter)) == dict(calls(longer))
    said = dict(calls(shorter, "root"))
    assert said["root"] is run
    assert said["root.layers.b"] is Layer
    assert (said["root.layers.a.size"], said["root.layers.b.size"]) == (2, 3)
    assert dict(calls(TREE)) != dict(calls(shorter))


def test_a_public_name_is_the_shortest_path_to_import_it_by():
    assert public_name(Dense) == "smallnets.nn.Dense"
    assert public_name(Layer) == f"{__name__}.Layer"
