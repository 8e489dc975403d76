from functools import partial

import pytest

from smallnets.traced import Traced, TracedInt, assign, declared


class Map:
    def __init__(self, d_in: int, *, weight: Traced = 0.1, size: int = 3):
        self.d_in, self.weight, self.size = d_in, weight, size


def run(*, seed: TracedInt, maps: dict, plain: float = 1.0):
    return seed, {name: make(4) for name, make in maps.items()}, plain


TREE = partial(run, seed=1, maps={"a": partial(Map, size=2), "b": partial(Map, weight=0.5)})


def test_numbers_are_declared_where_they_are_taken():
    assert dict(declared(TREE)) == {"seed": int, "maps.a.weight": float, "maps.b.weight": float}


@pytest.mark.parametrize(("path", "value"), [("seed", 7), ("maps.b.weight", 0.25)])
def test_a_value_is_put_at_its_path_and_the_tree_is_kept(path, value):
    seed, maps, plain = assign(TREE, path, value)()
    found = {"seed": seed, "maps.b.weight": maps["b"].weight}
    assert found[path] == value
    assert (maps["a"].weight, maps["a"].size, plain) == (0.1, 2, 1.0)
    before = TREE()
    assert (before[0], before[1]["b"].weight) == (1, 0.5)
