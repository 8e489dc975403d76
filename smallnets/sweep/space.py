"""What a search draws networks from: choices, and intervals of numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override


class Interval(NamedTuple):
    """Numbers that are drawn uniformly, with ``log`` in the logarithm."""

    low: float
    high: float
    log: bool


Values = list[str] | Interval


class Space(NamedTuple):
    """What each key may be: always, and only where a word such as ``family=low_rank`` was drawn."""

    always: dict[str, Values]
    only: dict[str, dict[str, Values]]


def space(
    params: Mapping[str, str],
    params_of: Mapping[str, Mapping[str, str]],
    arguments: Sequence[str] = (),
) -> tuple[Space, list[str]]:
    """The space of a sweeper's ``params``, and the seeds, all of which each draw is trained by.

    Values are in Hydra's words: choices (``1,2,4``), each as likely, and intervals
    (``tag(log, interval(1e-3, 1e-1))``). ``arguments`` take the place of params, or add to them.
    Raises ValueError where nothing is left to be drawn.
    """
    parser = OverridesParser.create()

    def parsed(words: Mapping[str, str]) -> dict[str, Values]:
        found = parser.parse_overrides([f"{key}={value}" for key, value in words.items()])
        return {each.get_key_element(): _values(each) for each in found}

    said = {each.get_key_element(): _values(each) for each in parser.parse_overrides([*arguments])}
    only = {
        word: {key: said.get(key, values) for key, values in parsed(of).items()}
        for word, of in params_of.items()
    }
    conditional = {key for of in only.values() for key in of}
    always = parsed(params)
    always |= {key: each for key, each in said.items() if key in always or key not in conditional}
    seeds = always.pop("seed", ["seed=0"])
    if all(isinstance(values, list) and len(values) == 1 for values in always.values()):
        raise ValueError(
            "a search draws from choices and intervals, but none is given: set for example "
            "family=dense,low_rank"
        )
    if isinstance(seeds, Interval):
        raise ValueError("seeds are trained, not drawn: give them as seed=0,1")
    return Space(always, only), [each.removeprefix("seed=") for each in seeds]


def drawn(space: Space, *, networks: int, rates: int, seed: int) -> list[list[list[str]]]:
    """The words of ``networks`` draws of all choices, ``[networks, rates, words]``.

    Each stands there with ``rates`` draws of all intervals, whose numbers, such as a learning
    rate, vary inside a program. Raises ValueError for counts below 1.
    """
    check_counts(networks=networks, rates=rates)
    random = np.random.default_rng(seed)
    found = []
    for _ in range(networks):
        chosen = {key: _fixed(values, random) for key, values in space.always.items()}
        within = dict(space.always)
        for word in space.only.keys() & {*chosen.values()}:
            chosen |= {key: _fixed(values, random) for key, values in space.only[word].items()}
            within |= space.only[word]
        found.append(
            [
                [word or f"{key}={_number(within[key], random)}" for key, word in chosen.items()]
                for _ in range(rates)
            ]
        )
    return found


def check_counts(**counts: Any) -> None:
    """Raise ValueError for what is no whole number of at least 1."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"hydra.sweeper.search.{name} is a count of at least 1, not {count!r}")


def _values(override: Override) -> Values:
    """What a word of Hydra's may be: whole words for choices, an interval for the rest.

    Raises ValueError for a logarithm of what is not above 0, and for a sweep of another kind.
    """
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if override.is_discrete_sweep():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    sweep = override.value()
    assert isinstance(sweep, IntervalSweep)
    low, high, log = float(sweep.start or 0), float(sweep.end or 0), "log" in sweep.tags
    if not low < high or (log and low <= 0):
        raise ValueError(
            f"{key} is drawn from an interval, whose start lies below its end and with the tag "
            f"log above 0, but it is {low:g} to {high:g}: turn or raise them"
        )
    return Interval(low, high, log)


def _fixed(values: Values, random: np.random.Generator) -> str:
    """One of the choices; empty where numbers of an interval will be drawn."""
    return "" if isinstance(values, Interval) else values[random.integers(len(values))]


def _number(values: Values, random: np.random.Generator) -> str:
    assert isinstance(values, Interval)
    share, (low, high, log) = random.random(), values
    drawn = low * (high / low) ** share if log else low + (high - low) * share
    return f"{drawn:.3g}"
