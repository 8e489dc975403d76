from functools import partial

import pytest

from smallnets.varying import Varying, VaryingInt, assign, declared


class Map:
    def __init__(self, d_in: int, *, weight: Varying = 0.1, size: int = 3):
        self.d_in, self.weight, self.size = d_in, weight, size


def run(*, seed: VaryingInt, maps: list, plain: float = 1.0):
    return seed, [make(4) for make in maps], plain


TREE = partial(run, seed=1, maps=[partial(Map, size=2), partial(Map, weight=0.5)])


def test_numbers_are_declared_where_they_are_taken():
    assert dict(declared(TREE)) == {"seed": int, "maps.0.weight": float, "maps.1.weight": float}


@pytest.mark.parametrize(("path", "value"), [("seed", 7), ("maps.1.weight", 0.25)])
def test_a_value_is_put_at_its_path_and_the_tree_is_kept(path, value):
    seed, maps, plain = assign(TREE, path, value)()
    found = {"seed": seed, "maps.1.weight": maps[1].weight}
    assert found[path] == value
    assert (maps[0].weight, maps[0].size, plain) == (0.1, 2, 1.0)
    before = TREE()
    assert (before[0], before[1][1].weight) == (1, 0.5)
