"""What the network of a config costs, part by part: the verb ``describe``."""

from argparse import ArgumentParser
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.table import Table

from smallnets.measure import flops
from smallnets.measure.budget import AXES, Sizes, format_number
from smallnets.measure.by_module import WITHOUT_PARAMETERS, Part, parts
from smallnets.measure.energy import format_energy, thousand_inferences
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


def describe(program: Program, *, measured: bool = False) -> Iterator[Table | str]:
    """What a program of a plan trains, to be printed.

    A table of the network's parts with their parameters, bytes and FLOPs; how its budget is met;
    the FLOPs of a training step. With ``measured`` the network is also compiled and run, for its
    latency, memory and energy. Where FLOPs can't be counted, a line says why.
    """
    network, trainer, data = program.network, program.trainer, program.data
    yield _parts(network, trainer, data, program.label)
    if program.sizes:
        yield from _budget(network, trainer, data, program.sizes)
    yield _training(network, trainer, data)
    if measured:
        yield from _measured(network, trainer, data)


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
    given = parser.parse_intermixed_args(words)
    console = Console(markup=False, emoji=False)  # labels and paths may hold brackets and colons
    for program in plan(*given.overrides).programs:
        for shown in describe(program, measured=given.measured):
            console.print(shown, highlight=False, soft_wrap=isinstance(shown, str))


def _parts(network: nnx.Module, trainer: Trainer, data: Data, label: str) -> Table:
    shape = data.train.inputs.shape[1:]
    title = f"{label}: {list(shape)} to {data.outputs} {data.kind}"
    columns = ["parameters", "active", "bytes"]
    try:
        found = parts(network, trainer.batch(data))
        title, columns = f"{title}, FLOPs per example", [*columns, "FLOPs forward"]
    except ValueError:  # an operation whose FLOPs have no rule: the line on training names it
        found = parts(network)
    table = Table(title=title, title_justify="left")
    table.add_column("part", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    for name, part in found.items():
        name = "(no parameters)" if name == WITHOUT_PARAMETERS else name
        table.add_row(name, *_row(part, trainer.batch_size)[: len(columns)])
    table.add_section()
    whole = sum(found.values(), start=Part())
    table.add_row("whole", *_row(whole, trainer.batch_size)[: len(columns)], style="bold")
    return table


def _row(part: Part, examples: int) -> list[str]:
    flops_each = part.products / examples
    return [f"{part.stored:,}", f"{part.active:,}", f"{part.bytes:,}", f"{flops_each:,.0f}"]


def _budget(network: nnx.Module, trainer: Trainer, data: Data, sizes: Sizes) -> Iterator[str]:
    chosen = ", ".join(f"{name}={value}" for name, value in sizes.items())
    for axis, target in trainer.budget().targets.items():
        amount = AXES[axis](network, trainer.batch(data)).amount
        found = f"{format_number(amount)} ({amount / target - 1:+.2%}) at {chosen}"
        yield f"budget.{axis}={format_number(target)}: {found}"


def _training(network: nnx.Module, trainer: Trainer, data: Data) -> str:
    batch = Arrays(trainer.batch(data), trainer.batch_labels(data))
    try:
        step = flops.training_step(partial(trainer.loss, data), network, batch)
    except ValueError as error:
        return f"FLOPs can't be counted: {error}"
    return (
        f"training step of {trainer.batch_size} examples: {step.products:,.0f} FLOPs in matrix "
        f"products, {step.elementwise:,.0f} elementwise, without the optimiser's"
    )


def _measured(network: nnx.Module, trainer: Trainer, data: Data) -> Iterator[Table | str]:
    """Latency, memory and energy of inference on this device, of parameters that are all zero.

    Factorised maps are timed in the form that they have and merged into their matrices.
    """
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), network)
    batch = trainer.batch(data)
    inputs = jnp.zeros((max(BATCH_SIZES), *batch.shape[1:]), batch.dtype)
    forms = {"as it is": zeros}
    dense = merged(zeros)
    if parameters(dense) != parameters(zeros):
        forms["merged"] = dense
    found = latencies(forms, inputs, batch_sizes=BATCH_SIZES)
    title = f"a forward pass in ms, its memory in bytes, on {found[0].device}"
    table = Table(title=title, title_justify="left")
    table.add_column("form", no_wrap=True)
    for name in ("batch", "lower quartile", "median", "upper quartile", "of it the call", "memory"):
        table.add_column(name, justify="right")
    for each in found:
        seconds = (
            each.lower_quartile_seconds,
            each.median_seconds,
            each.upper_quartile_seconds,
            each.dispatch_seconds,
        )
        times = [f"{1e3 * value:.3g}" for value in seconds]
        peak = memory(_compiled(forms[each.form], inputs[: each.batch_size])).peak_bytes
        table.add_row(each.form, str(each.batch_size), *times, f"{peak:,}")
    yield table
    meter = find_meter()
    for size in (min(BATCH_SIZES), max(BATCH_SIZES)):
        program = partial(_compiled(zeros, inputs[:size]), zeros, inputs[:size])
        energy = thousand_inferences(program, batch_size=size, meter=meter, seconds=1.0)
        yield f"1,000 inferences in batches of {size:,}: {format_energy([energy])}"


def _compiled(model: Any, inputs: jax.Array) -> jax.stages.Compiled:
    return jax.jit(lambda model, x: model(x)).lower(model, inputs).compile()
