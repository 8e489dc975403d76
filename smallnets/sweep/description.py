"""What the network of a config costs, part by part: the verb ``describe``."""

import json
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.table import Table

from smallnets.measure import flops
from smallnets.measure.budget import format_number
from smallnets.measure.by_module import Part, parts
from smallnets.measure.costs import AXES
from smallnets.measure.energy import Energy, format_energy, thousand_inferences
from smallnets.measure.latency import latencies
from smallnets.measure.memory import memory
from smallnets.measure.meter import find_meter
from smallnets.measure.parameters import parameters
from smallnets.nn.linear import merged
from smallnets.sweep.plan import Program, plan
from smallnets.tasks.data import Data
from smallnets.training.fit import Arrays
from smallnets.training.trainer import Trainer

BATCH_SIZES = (1, 64, 1024)
WIDE = 10_000  # columns of text: a table takes what it needs, and a terminal breaks its lines


def describe(program: Program, *, measured: bool = False) -> dict[str, Any]:
    """What a program of a plan trains, as plain values that JSON can hold.

    ``parts`` and their sum, ``whole``, have ``parameters``, ``active``, ``bytes`` and ``flops`` (of
    the products of a forward pass, per example); ``budget`` says for each axis how it is met, by
    the ``sizes`` that were found; ``training_step`` has the FLOPs of a batch. Where FLOPs can't be
    counted they are None and ``flops_not_counted`` says why. With ``measured`` the network is also
    compiled and run, for its latency, memory and energy.
    """
    network, trainer, data = program.network, program.trainer, program.data
    batch = Arrays(trainer.batch(data), trainer.batch_labels(data))
    found, examples, step, why = parts(network), None, None, None
    try:
        found, examples = parts(network, batch.inputs), trainer.batch_size
        counted = flops.training_step(partial(trainer.loss, data), network, batch)
        step = {"examples": trainer.batch_size, **asdict(counted)}
    except ValueError as error:
        why = str(error)
    named = {name or "(no parameters)": _costs(part, examples) for name, part in found.items()}
    budget = {}
    for axis, target in trainer.budget().targets.items():
        amount = AXES[axis](network, batch.inputs).amount
        budget[axis] = {"target": target, "found": amount, "off": amount / target - 1}
    return {
        "family": program.label,
        "task": program.task,
        "shape": list(data.train.inputs.shape[1:]),
        "kind": data.kind,
        "outputs": data.outputs,
        "parts": named,
        "whole": _costs(sum(found.values(), start=Part()), examples),
        "sizes": program.sizes,
        "budget": budget,
        "training_step": step,
        "flops_not_counted": why,
        "measured": _measured(network, trainer, data) if measured else None,
    }


def main(words: list[str]) -> None:
    """The verb: the config's words, and how to look at it. Raises ValueError for what is wrong."""
    parser = ArgumentParser(
        prog="smallnets describe", description="What the network of a config costs, part by part."
    )
    parser.add_argument(
        "overrides", nargs="*", help="as of smallnets: family=monarch budget.params=20_000"
    )
    parser.add_argument(
        "--measured", action="store_true", help="run it, too: its latency, memory and energy"
    )
    parser.add_argument("--json", action="store_true", help="a list of all programs, as JSON")
    parser.add_argument("--config-dir", "-cd", help="a folder with YAMLs of one's own")
    given = parser.parse_intermixed_args(words)
    programs = plan(*given.overrides, config_dir=given.config_dir).programs
    described = (describe(program, measured=given.measured) for program in programs)
    if given.json:
        print(json.dumps([*described], indent=1))
        return
    console = Console(width=WIDE)
    for each in described:
        for shown in _shown(each):
            console.print(shown, highlight=False, markup=False, soft_wrap=isinstance(shown, str))


def _costs(part: Part, examples: int | None) -> dict[str, float | None]:
    each = None if examples is None else part.products / examples
    counts = {"parameters": part.stored, "active": part.active, "bytes": part.bytes}
    return {**counts, "flops": each}


def _shown(said: dict[str, Any]) -> Iterator[Table | str]:
    """A description for people."""
    counted = said["whole"]["flops"] is not None
    title = f"{said['family']}: {said['shape']} to {said['outputs']} {said['kind']}"
    yield f"{title}, FLOPs per example" if counted else title
    names = ["parameters", "active", "bytes", *(["flops"] if counted else [])]
    table = _table("part", [name.replace("flops", "FLOPs forward") for name in names])
    for name, costs in said["parts"].items():
        table.add_row(name, *(f"{costs[each]:,.0f}" for each in names))
    table.add_section()
    table.add_row("whole", *(f"{said['whole'][each]:,.0f}" for each in names), style="bold")
    yield table
    chosen = ", ".join(f"{name}={value}" for name, value in said["sizes"].items())
    for axis, each in said["budget"].items():
        found = f"{format_number(each['found'])} ({each['off']:+.2%}) at {chosen}"
        yield f"budget.{axis}={format_number(each['target'])}: {found}"
    step = said["training_step"]
    yield (
        f"training step of {step['examples']} examples: {step['products']:,.0f} FLOPs in matrix "
        f"products, {step['elementwise']:,.0f} elementwise, without the optimiser's"
        if step
        else f"FLOPs are not counted: {said['flops_not_counted']}"
    )
    if said["measured"]:
        yield from _shown_measured(said["measured"])


def _shown_measured(said: dict[str, Any]) -> Iterator[Table | str]:
    yield f"a forward pass in ms, its memory in bytes, on {said['device']}"
    names = ("lower quartile", "median", "upper quartile", "of it the call")
    table = _table("form", ["batch", *names, "memory"])
    for each in said["forward"]:
        times = [f"{each[name.replace(' ', '_') + '_ms']:.3g}" for name in names]
        table.add_row(each["form"], f"{each['batch']}", *times, f"{each['memory_bytes']:,}")
    yield table
    if said["not_merged"]:
        yield f"merged into matrices it is not timed: {said['not_merged']}"
    for each in said["inferences"]:
        energy = format_energy([Energy(**each["energy"])])
        yield f"1,000 inferences in batches of {each['batch']:,}: {energy}"


def _table(first: str, others: Iterable[str]) -> Table:
    table = Table()
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _measured(network: nnx.Module, trainer: Trainer, data: Data) -> dict[str, Any]:
    """Latency, memory and energy of inference on this device, of parameters that are all zero.

    Factorised maps are timed in the form that they have and merged into their matrices.
    """
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), network)
    batch = trainer.batch(data)
    inputs = jnp.zeros((max(BATCH_SIZES), *batch.shape[1:]), batch.dtype)
    forms, why = {"as it is": zeros}, None
    try:
        dense = merged(zeros)
        if parameters(dense) != parameters(zeros):
            forms["merged"] = dense
    except ValueError as error:
        why = str(error)
    found = latencies(forms, inputs, batch_sizes=BATCH_SIZES)
    forward = []
    for each in found:
        compiled = _compiled(forms[each.form], inputs[: each.batch_size])
        forward.append(
            {
                "form": each.form,
                "batch": each.batch_size,
                "lower_quartile_ms": 1e3 * each.lower_quartile_seconds,
                "median_ms": 1e3 * each.median_seconds,
                "upper_quartile_ms": 1e3 * each.upper_quartile_seconds,
                "of_it_the_call_ms": 1e3 * each.dispatch_seconds,
                "memory_bytes": memory(compiled).peak_bytes,
            }
        )
    inferences, meter = [], find_meter()
    for size in (min(BATCH_SIZES), max(BATCH_SIZES)):
        program = partial(_compiled(zeros, inputs[:size]), zeros, inputs[:size])
        energy = thousand_inferences(program, batch_size=size, meter=meter, seconds=1.0)
        inferences.append({"batch": size, "energy": asdict(energy)})
    return {
        "device": found[0].device,
        "forward": forward,
        "not_merged": why,
        "inferences": inferences,
    }


def _compiled(model: Any, inputs: jax.Array) -> jax.stages.Compiled:
    return jax.jit(lambda model, x: model(x)).lower(model, inputs).compile()
