"""The verb ``pays``: after how many answers a small model has paid for its making."""

import argparse
import glob
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from smallnets import models, rows
from smallnets.analysis.break_even import BreakEven, break_even, made_of, training_flops
from smallnets.hybrid.command import data_of
from smallnets.measure.energy import BUSY_CORE, JOULES_PER_KWH, measure
from smallnets.measure.machine import device_name
from smallnets.measure.meter import Meter, find_meter
from smallnets.models import Model
from smallnets.rows import Row

SIZES = (1, 256)  # answers a call
ROUNDS = 15
CALLS = 64  # at most so many calls a turn, of one answer
METERED_SECONDS = 1.0  # a meter's turn is no shorter


class Member(NamedTuple):
    """A run: its folder, its row, and all runs that led to it."""

    folder: Path
    row: Row
    made_of: dict[str, Row]


class Answer(NamedTuple):
    """Joules of an answer of the small one and of the large one, ``[seeds, rounds]``, so many a
    call; whether they were read from a ``meter`` or come from a ``model``."""

    small: np.ndarray
    large: np.ndarray
    size: int
    source: str


def main(arguments: list[str]) -> None:
    """The verb: measures both in turns, and prints when the small one has paid."""
    parser = argparse.ArgumentParser(
        "smallnets pays",
        description="After how many answers a small model has paid, in joules, for its training, "
        "its teachers', its parents' and its compression, against answering with a large one.",
    )
    parser.add_argument("small", help="a run, or a folder or pattern of runs of several seeds")
    parser.add_argument("large", help="a run, or runs of the same seeds")
    parser.add_argument("--price", type=float, help="of a kilowatt-hour, such as .30")
    parser.add_argument("--carbon", type=float, help="grams of CO2 of a kilowatt-hour, such as 400")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap's draws (0)")
    parser.add_argument("--allow", action="append", default=[], help="a package of their configs")
    said = parser.parse_args(arguments)
    for name in ("price", "carbon"):
        value = getattr(said, name)
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"--{name} is a number of at least 0, but is {value}: give one")
    pairs = paired(_members(said.small), _members(said.large))
    bills = {
        "beside": [sum(map(_joules, _beside(small, large))) for small, large in pairs],
        "alone": [sum(map(_joules, small.made_of.values())) for small, _ in pairs],
    }
    answers = measured(pairs, said.allow)
    found = {
        "small": [str(small.folder) for small, _ in pairs],
        "large": [str(large.folder) for _, large in pairs],
        "device": device_name(jax.devices()[0]),
        "bills_joules": {name: float(np.mean(each)) for name, each in bills.items()},
        "training_sources": sorted(
            {str(row.energy["source"]) for small, _ in pairs for row in small.made_of.values()}
        ),
        "answers": [_paid(answer, bills, said.seed) for answer in answers],
        "by_flops": _by_flops(pairs),
    }
    if said.json:
        print(json.dumps(_plain(found), indent=1))
        return
    for line in sentences(found, price=said.price, carbon=said.carbon):
        print(line)


def _members(place: str) -> list[Member]:
    """The runs of a place: of a folder of chains the last of each, of any other all."""
    if (Path(place) / rows.NAME).is_file():
        found = [(Path(place), rows.read(Path(place)))]
    else:
        found = [run for each in sorted(glob.glob(place)) for run in rows.found(Path(each))]
    inner = {row.parent.rpartition("-")[0] for _, row in found}
    found = [(folder, row) for folder, row in found if row.key not in inner]
    if not found:
        raise ValueError(f"{place} holds no run: name the folder of a run, or of runs by seed")
    seeds: dict[int, Path] = {}
    for folder, row in found:
        if row.seed in seeds:
            raise ValueError(
                f"{place} must hold one run for each seed, but for seed={row.seed} there are "
                f"{seeds[row.seed]}, {folder}: name one, or a pattern that matches one"
            )
        seeds[row.seed] = folder
    return [Member(folder, row, made_of(row, folder)) for folder, row in found]


def paired(small: list[Member], large: list[Member]) -> list[tuple[Member, Member]]:
    """Runs of equal seeds; one large run stands beside every small one.

    Raises ValueError where a seed has no partner, and where both are one run.
    """
    by_seed = {each.row.seed: each for each in large}
    if len(large) == 1:
        by_seed = dict.fromkeys((each.row.seed for each in small), large[0])
    for each in small:
        if each.row.seed in by_seed and each.row.key == by_seed[each.row.seed].row.key:
            raise ValueError(
                f"a small run is compared with a large one, but {each.folder} is named as both: "
                "name two"
            )
        if each.row.seed not in by_seed:
            raise ValueError(
                f"runs are paired by their seeds, but of the large ones none has seed="
                f"{each.row.seed} as {each.folder}: name runs of the same seeds, or one large run"
            )
    return [(each, by_seed[each.row.seed]) for each in small]


def _beside(small: Member, large: Member) -> list[Row]:
    """The runs that led to the small one and not to the large one."""
    return [row for key, row in small.made_of.items() if key not in large.made_of]


def _joules(row: Row) -> float:
    joules = row.energy.get("joules")
    if joules is None:
        raise ValueError(
            f"the joules of the run {row.key}'s training are not known "
            f"({row.energy.get('covers', 'its row says none')}): train it where they are"
        )
    return joules


def measured(pairs: Sequence[tuple[Member, Member]], allow: Sequence[str]) -> list[Answer]:
    """Joules of an answer of each member, one a call and many a call, taken in turns.

    Raises ValueError where the members are of several tasks, and where joules can't be said.
    """
    members = [member for pair in pairs for member in pair]
    data = data_of([m.row for m in members], [m.folder for m in members], allow)
    loaded = [models.load(member.folder, allow=tuple(allow)) for member in members]
    meter, programs = find_meter(), {}
    found = []
    for size in (min(size, len(data.test)) for size in SIZES):
        x = data.test.inputs[:size]
        calls = [_call(model, x, programs, raw=data.raw) for model in loaded]
        taken = [[_turn(call, size, meter) for call in calls] for _ in range(ROUNDS + 1)]
        joules = np.array([[joules for joules, _ in turn] for turn in taken[1:]]).T
        source = taken[-1][0][1]
        found.append(Answer(joules[::2], joules[1::2], size, source))
    return found


def _call(model: Model, x: Any, programs: dict[str, Any], *, raw: bool) -> Any:
    """One call of a model's network on examples, by a program that those of its shapes share."""
    x = model.inputs(x) if raw else jax.numpy.asarray(x)
    leaves, tree = jax.tree.flatten(model.network)
    shapes = f"{tree} {[(leaf.shape, leaf.dtype) for leaf in leaves]} {x.shape}"
    if shapes not in programs:
        program = jax.jit(lambda leaves, x: tree.unflatten(leaves)(x), keep_unused=True)
        programs[shapes] = program.lower(leaves, x).compile()
    return lambda: programs[shapes](leaves, x)


def _turn(call: Any, size: int, meter: Meter | None) -> tuple[float, str]:
    """Joules of an answer in some calls, and where the number comes from."""
    calls = 0

    def repeated() -> None:
        nonlocal calls
        end = METERED_SECONDS if meter else 0.0
        while calls < max(1, CALLS // size) or time.perf_counter() - start < end:
            jax.block_until_ready(call())
            calls += 1

    start = time.perf_counter()
    _, energy = measure(repeated, meter=meter)
    if energy.joules is None:
        raise ValueError(
            f"the joules of an answer can't be told on this device: {energy.covers}; measure where "
            "a meter can be read, or on a processor"
        )
    return energy.joules / (calls * size), str(energy.source)


def _paid(answer: Answer, bills: dict[str, list[float]], seed: int) -> dict[str, Any]:
    saved = answer.large - answer.small
    return {
        "size": answer.size,
        "source": answer.source,
        "small_joules": float(np.median(answer.small, axis=-1).mean()),
        "large_joules": float(np.median(answer.large, axis=-1).mean()),
        **{name: break_even(bill, saved, seed=seed) for name, bill in bills.items()},
    }


def _by_flops(pairs: Sequence[tuple[Member, Member]]) -> BreakEven | None:
    """The same of counted products alone, the large one trained anyway; None without counts."""
    bills = [sum(map(training_flops, _beside(small, large))) for small, large in pairs]
    one, other = (
        np.array([member.row.costs.get("flops", math.nan) for member in members])
        for members in zip(*pairs, strict=True)
    )
    saved = (other - one)[:, None]
    return break_even(bills, saved) if np.isfinite([*bills, *saved[:, 0]]).all() else None


def sentences(
    found: dict[str, Any], *, price: float | None = None, carbon: float | None = None
) -> list[str]:
    """What to say of when the small one has paid, a line each."""
    beside, alone = (found["bills_joules"][name] for name in ("beside", "alone"))
    seeds, lines = len(found["small"]), []
    for each in found["answers"]:
        how = "one at a time" if each["size"] == 1 else f"in calls of {each['size']:,}"
        watched = "metered" if each["source"] == "meter" else "modelled from CPU-seconds"
        lines.append(
            f"answering {how}, the small one takes {1e3 * each['small_joules']:.3g} mJ an answer, "
            f"the large one {1e3 * each['large_joules']:.3g} ({watched}). It has paid for its own "
            f"making {each['beside']}"
            + (", where the large one is trained anyway" if beside != alone else "")
        )
        if beside != alone:
            lines.append(
                "  and where the large one was trained for it alone, with all that it needed, "
                f"{each['alone']}"
            )
    if found["by_flops"] is not None:
        lines.append(
            "of counted products alone, a step as three forward passes and a pass as none: "
            f"{found['by_flops']}"
        )
    lines.append(
        f"its making took {_amounts(beside, price, carbon)}"
        + (f"; with all that it needed {_amounts(alone, price, carbon)}" if beside != alone else "")
    )
    for each in found["answers"]:
        saved = 1e6 * (each["large_joules"] - each["small_joules"])
        what = "saved" if saved > 0 else "spent more"
        lines.append(
            f"a million answers in calls of {each['size']:,}: "
            f"{_amounts(abs(saved), price, carbon)} {what}"
        )
    over = f"{seeds} seeds and the rounds" if seeds > 1 else "the rounds"
    lines.append(
        f"intervals are of a bootstrap over {over} of the measurement, not over machines"
        + ("" if seeds > 1 else "; one seed says nothing of other seeds")
    )
    lines.append("runs that were tried and not chosen are not counted")
    sources = {*found["training_sources"], *(each["source"] for each in found["answers"])}
    if sources == {"model"}:
        lines.append(
            f"joules are modelled at {BUSY_CORE.middle_watts} W a busy core "
            f"({BUSY_CORE.low_watts} to {BUSY_CORE.high_watts}): amounts scale with it, and in the "
            "numbers of answers it cancels"
        )
    elif len(sources) > 1:
        lines.append("joules of training and of answers have different sources: take care")
    return lines


def _amounts(joules: float, price: float | None, carbon: float | None) -> str:
    """Joules, and what they are in money and grams where that was given."""
    kwh = joules / JOULES_PER_KWH
    said = [f"{joules:,.3g} J"]
    said += [f"{kwh * price:.2g} in money"] if price is not None else []
    said += [f"{kwh * carbon:.2g} g of CO2"] if carbon is not None else []
    return said[0] + (f" ({', '.join(said[1:])})" if said[1:] else "")


def _plain(value: Any) -> Any:
    if isinstance(value, BreakEven):
        value = value._asdict()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
