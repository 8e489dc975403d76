import numpy as np
import pytest

from smallnets.analysis.simulation import CELLS, COVERAGES, Cell, Counts, simulate


def test_a_study_is_drawn_about_its_truth_and_the_same_each_time():
    cell = Cell(sizes=6, seeds=5)
    table = cell.draw(np.random.default_rng(0))
    assert len(table) == 3 * 6 * 5
    third = table.filter(family="third")
    ratio = third["test_error"].to_numpy() / cell.truth(third["parameters"].to_numpy(), "third")
    assert np.log(ratio).std() == pytest.approx(0.02, rel=0.3)
    more = cell.multiplier
    assert cell.truth(5e3 * more, "third") == pytest.approx(cell.truth(5e3, "first"))
    assert simulate(cell, 1) == simulate(cell, 1)


@pytest.mark.long
@pytest.mark.slow
def test_what_is_printed_holds_as_often_as_it_says():
    """200 studies a cell, pooled .93 to .97 of nominal .95; false positives at most .06."""
    pooled, within = Counts(), []
    for cell in CELLS:
        counts = simulate(cell, 200)
        pooled.join(counts)
        within.append(counts)
    for name in COVERAGES[:-1]:
        assert 0.93 <= pooled.share(name) <= 0.97, name
        # .92 to .985 at 1,000 studies a cell; at 200 the noise of a share is larger.
        assert all(0.88 <= counts.share(name) <= 1 for counts in within), name
    assert pooled.share("copies differ") <= 0.06
    assert pooled.share("shape questioned") <= 0.06
    assert pooled.share("by interpolation") >= 0.93
