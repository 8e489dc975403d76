"""The command ``smallnets-describe``: what the network of a config costs, part by part."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from smallnets.budget import AXES, Sizes, spelled
from smallnets.launch.build import build, check, load
from smallnets.launch.compose import resolve
from smallnets.launch.resize import resize
from smallnets.launch.usage import UsageError
from smallnets.measure import flops
from smallnets.measure.count import parameters
from smallnets.measure.energy import thousand_inferences
from smallnets.measure.footprint import spelled as spelled_energy
from smallnets.measure.latency import latencies
from smallnets.measure.memory import memory
from smallnets.measure.meter import find_meter
from smallnets.measure.parts import WITHOUT_PARAMETERS, Part, parts
from smallnets.nn.merge import merged
from smallnets.run import CONF, quiet
from smallnets.tasks.data import Data
from smallnets.train.run import Run

BATCH_SIZES = (1, 64, 1024)


def describe(overrides: Sequence[str], *, measured: bool = False) -> Iterator[Table | str]:
    """What ``smallnets`` with these overrides would train, to be printed.

    A table of the network's parts with their parameters, bytes and FLOPs; how its budget is met;
    the FLOPs of a training step. With ``measured`` the network is also compiled and run, for its
    latency, memory and energy. Nothing else is computed or written, but a task that was never
    loaded before is prepared in the cache. Raises UsageError for what the user can mend.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", list(overrides), return_hydra_config=True)
    family = config.hydra.runtime.choices.model
    tree = build(resolve(config))
    _, data = load(tree)
    tree, sizes = resize(tree, data, family, overrides)
    run = tree()
    network = check(run, data, family)
    try:
        yield _parts(network, run, data, family)
        if sizes:
            yield from _budget(network, run, data, sizes)
        yield _training(network, run, data)
    except ValueError as error:  # an operation whose FLOPs have no rule
        raise UsageError(f"{family}: {error}") from error
    if measured:
        yield from _measured(network, data)


def main() -> None:
    """Console script: what a user can mend is one line on standard error, with status 2."""
    parser = ArgumentParser(
        prog="smallnets-describe", description="What the network of a config costs, part by part."
    )
    parser.add_argument(
        "overrides", nargs="*", help="as of smallnets: model=monarch budget.params=20_000"
    )
    parser.add_argument(
        "--measured", action="store_true", help="run it, too: its latency, memory and energy"
    )
    given = parser.parse_intermixed_args()
    quiet()
    console = Console()
    try:
        for shown in describe(given.overrides, measured=given.measured):
            console.print(shown, highlight=False, soft_wrap=isinstance(shown, str))
    except (HydraException, OmegaConfBaseException, UsageError) as error:
        print(f"smallnets-describe: {UsageError(error)}", file=sys.stderr)
        sys.exit(2)


def _parts(network: nnx.Module, run: Run, data: Data, family: str) -> Table:
    shape = data.train.inputs.shape[1:]
    table = Table(
        title=f"{family}: {list(shape)} to {data.classes} classes, FLOPs per example",
        title_justify="left",
    )
    table.add_column("part", no_wrap=True)
    for name in ("parameters", "active", "bytes", "FLOPs forward"):
        table.add_column(name, justify="right")
    found = parts(network, run.batch(data))
    for name, part in found.items():
        table.add_row(
            "(no parameters)" if name == WITHOUT_PARAMETERS else name, *_row(part, run.batch_size)
        )
    table.add_section()
    whole = sum(found.values(), start=Part())
    table.add_row("whole", *_row(whole, run.batch_size), style="bold")
    return table


def _row(part: Part, examples: int) -> list[str]:
    flops_each = part.products / examples
    return [f"{part.stored:,}", f"{part.active:,}", f"{part.bytes:,}", f"{flops_each:,.0f}"]


def _budget(network: nnx.Module, run: Run, data: Data, sizes: Sizes) -> Iterator[str]:
    chosen = ", ".join(f"{name}={value}" for name, value in sizes.items())
    for axis, asked in run.budget().asked.items():
        amount = AXES[axis](network, run.batch(data)).amount
        found = f"{spelled(amount)} ({amount / asked - 1:+.2%}) at {chosen}"
        yield f"budget.{axis}={spelled(asked)}: {found}"


def _training(network: nnx.Module, run: Run, data: Data) -> str:
    step = flops.training_step(
        lambda model, inputs, labels: run.loss(model(inputs), labels),
        network,
        run.batch(data),
        run.batch_labels(data),
    )
    return (
        f"training step of {run.batch_size} examples: {step.products:,.0f} FLOPs in matrix "
        f"products, {step.elementwise:,.0f} elementwise, without the optimiser's"
    )


def _measured(network: nnx.Module, data: Data) -> Iterator[Table | str]:
    """Latency, memory and energy of inference on this device, of parameters that are all zero.

    Factorised maps are timed in the form that they have and merged into their matrices.
    """
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), network)
    inputs = jnp.zeros((max(BATCH_SIZES), *data.train.inputs.shape[1:]), data.train.inputs.dtype)
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
        yield f"1,000 inferences in batches of {size:,}: {spelled_energy([energy])}"


def _compiled(model: Any, inputs: jax.Array) -> jax.stages.Compiled:
    return jax.jit(lambda model, x: model(x)).lower(model, inputs).compile()
