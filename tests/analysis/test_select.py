import polars as pl
import pytest

from smallnets.analysis.select import best_rate, swept

RATE = "config.optimizer.learning_rate"


def sweep(values: dict[float, list], **more) -> pl.DataFrame:
    lines = [
        {"family": "dense", "parameters": 100, "seed": seed, RATE: rate, "validation_error": value}
        for rate, seeds in values.items()
        for seed, value in enumerate(seeds)
    ]
    return pl.DataFrame([line | more for line in lines])


def test_the_best_mean_is_chosen_with_all_its_seeds():
    table = sweep({0.1: [0.5, 0.5], 0.2: [0.1, 0.4], 0.3: [0.9, 0.05]})
    chosen = best_rate(table)
    assert chosen.runs[RATE].to_list() == [0.2, 0.2]
    assert chosen.at_edge.is_empty()


def test_the_test_split_is_refused():
    table = sweep({0.1: [0.5]}).with_columns(test_error=pl.lit(0.1))
    with pytest.raises(ValueError, match="validation split"):
        best_rate(table, score="test_error")


def test_a_diverged_seed_counts_as_worst():
    table = sweep({0.1: [0.5, 0.5], 0.2: [0.1, float("nan")]})
    assert best_rate(table).runs[RATE].unique().to_list() == [0.1]
    by_status = sweep({0.1: [0.5, 0.5], 0.2: [0.1, 0.1]}).with_columns(
        status=pl.when(pl.col(RATE) == 0.2).then(pl.lit("diverged")).otherwise(pl.lit("finished"))
    )
    assert best_rate(by_status).runs[RATE].unique().to_list() == [0.1]


def test_a_missing_score_counts_as_worst_and_not_as_absent():
    table = sweep({0.1: [0.5, 0.5], 0.2: [0.1, None]})
    assert best_rate(table).runs[RATE].unique().to_list() == [0.1]


def test_where_all_diverged_nothing_is_chosen_and_it_is_named():
    chosen = best_rate(sweep({0.1: [float("nan")], 0.2: [float("inf")]}))
    assert chosen.runs.is_empty()
    assert chosen.failed == ("dense at 100",)


def test_ties_go_to_the_smaller_whatever_the_order_of_rows():
    table = sweep({0.3: [0.5], 0.1: [0.5], 0.2: [0.5]})
    for order in (table, table.reverse(), table.sample(fraction=1, shuffle=True, seed=3)):
        assert best_rate(order).runs[RATE].to_list() == [0.1]


@pytest.mark.parametrize(
    ("best", "edge"), [(0.1, "lowest learning_rate"), (0.3, "highest learning_rate"), (0.2, "")]
)
def test_a_choice_at_the_edge_of_the_grid_is_said(best, edge):
    table = sweep({rate: [0.1 if rate == best else 0.5] for rate in (0.1, 0.2, 0.3)})
    chosen = best_rate(table).sweep.filter("chosen")
    assert chosen["edge"].to_list() == [edge]


def test_a_setting_with_fewer_seeds_is_not_chosen():
    table = sweep({0.1: [0.5, 0.5], 0.2: [0.1]})
    assert best_rate(table).runs[RATE].unique().to_list() == [0.1]


def test_any_setting_may_be_the_swept_one():
    table = sweep({1.0: [0.5], 2.0: [0.4]}).rename({RATE: "rank"})
    assert best_rate(table, setting="rank").runs["rank"].to_list() == [2.0]


DECAY = "config.optimizer.weight_decay"


def joint(score) -> pl.DataFrame:
    lines = [
        {RATE: rate, DECAY: decay, "seed": seed, "validation_error": score(rate, decay)}
        for rate in (0.1, 0.2, 0.3)
        for decay in (0.0, 1.0, 2.0)
        for seed in (0, 1)
    ]
    return pl.DataFrame([line | {"family": "dense", "parameters": 100} for line in lines])


def test_several_settings_are_found_and_chosen_jointly():
    table = joint(lambda rate, decay: abs(rate * 10 - 2) + abs(decay - 2 * (rate == 0.2)))
    table = table.with_columns(pl.col(RATE).alias("config.optimizer.copy"))  # moves with the rate
    settings = swept(table, ["family", "parameters", "seed"])
    assert settings == (RATE, DECAY)
    found = best_rate(table, setting=(RATE, DECAY))
    assert found.runs.select(RATE, DECAY).unique().rows() == [(0.2, 2.0)]
    assert len(found.runs) == 2
    assert found.at_edge["edge"].to_list() == ["highest weight_decay"]


def test_what_varies_with_the_size_alone_is_no_setting():
    table = joint(lambda rate, decay: 1.0).filter(pl.col(DECAY) == 0).unique(RATE)
    table = table.with_columns(parameters=pl.col(RATE) * 1000)
    assert swept(table, ["family", "parameters", "seed"]) == ()
