"""What does a study take beside its arithmetic, and beside the ways to do without this library?

    python experiments/benchmarks/study.py        about 5 minutes on two cores
    python experiments/benchmarks/study.py --widths 100 --rates 1e-3 --seeds 1000 --without basic
    python experiments/benchmarks/study.py --experiment mnist1d        the default study, 17 minutes

Three sizes of the MLP on MNIST-1D by three rates by three seeds, 27 runs of 3 programs, trained by
each as a process of its own, one after another:

- ours cold, with nothing compiled, and warm, with the programs in the cache; and how long it takes
  to plan alone, which is to compose every job;
- JAX as written by hand: one jitted program a size, vmap over rates and seeds, a scan over steps;
  and with nothing but its products, run after run, which is how near to the floor XLA comes here;
- a plain PyTorch loop, if torch is there (``pip install ".[parity]"``): fused AdamW, one run at a
  time in each of two processes;
- Hydra's basic launcher, which trains each job alone.

All draw their batches from the same data with AdamW and a cosine. The floor is the training's
floating-point operations, 6 a parameter and example, at the rate of a matrix product of width 1,024
here. Printed are seconds, what multiple of the floor's they are, CPU-seconds, which other processes
disturb less, and the mean test error, which says that all train alike. With --experiment that study
is trained cold and warm, and its floor is found from its rows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from smallnets import plan, rows
from smallnets.analysis.break_even import training_flops

BATCH = 64
OURS = """
import sys
from smallnets.cli import main
main()
"""
PLANNED = """
import sys, smallnets
print(smallnets.plan(*sys.argv[1:]).runs)
"""
COMMON = """
import sys, numpy as np
source, steps = sys.argv[1], int(sys.argv[2])
data = np.load(source)
x, y, tx, ty = (data[name] for name in ("x", "y", "tx", "ty"))
x, tx = (each.reshape(len(each), -1) for each in (x, tx))
WIDTHS, RATES, SEEDS, BATCH = {widths}, {rates}, {seeds}, {batch}
"""
BY_HAND = """
import jax, jax.numpy as jnp, optax, itertools
x, y, tx, ty = map(jnp.asarray, (x, y, tx, ty))
def forward(p, x):
    for w, b in p[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ p[-1][0] + p[-1][1]
def loss(p, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(forward(p, x), y).mean()
def one(rate, seed, x, y, tx, ty, sizes):
    key = jax.random.key(seed)
    keys = jax.random.split(key, len(sizes))
    p = [(jax.random.normal(k, (a, b)) / a**0.5, jnp.zeros(b))
         for k, a, b in zip(keys, sizes, sizes[1:])]
    rule = optax.adamw(optax.cosine_decay_schedule(1.0, steps), weight_decay=0.01)
    order = jax.random.randint(keys[-1], (steps, BATCH), 0, len(x))
    def step(carry, index):
        p, state = carry
        value, g = jax.value_and_grad(loss)(p, x[index], y[index])
        u, state = rule.update(g, state, p)
        return (optax.apply_updates(p, jax.tree.map(lambda a: rate * a, u)), state), value
    (p, _), _ = jax.lax.scan(step, (p, rule.init(p)), order)
    return (forward(p, tx).argmax(-1) != ty).mean()
rates, seeds = map(jnp.asarray, zip(*itertools.product(RATES, range(SEEDS))))
errors = []
for width in WIDTHS:
    sizes = (x.shape[1], width, width, 10)
    train = jax.jit(jax.vmap(lambda r, s: one(r, s, x, y, tx, ty, sizes)))
    errors += train(rates, seeds).tolist()
print(np.mean(errors))
"""
# The same with nothing but its products: no activation, no optimiser's state, one run at a time.
PRODUCTS = (
    BY_HAND.replace("jax.nn.relu(x @ w + b)", "x @ w")
    .replace("p[-1][0] + p[-1][1]", "p[-1][0]")
    .replace("rule = optax.adamw(optax.cosine_decay_schedule(1.0, steps), weight_decay=0.01)",
             "rule = optax.sgd(1e-3)")
    .replace("jax.vmap(lambda r, s: one(r, s, x, y, tx, ty, sizes))",
             "lambda *each: jax.lax.map(lambda rs: one(*rs, x, y, tx, ty, sizes), each)")
)  # fmt: skip
IN_TORCH = """
import torch, itertools, concurrent.futures as futures
def one(job):
    torch.set_num_threads(1)
    width, rate, seed = job
    torch.manual_seed(seed)
    tensors = [torch.from_numpy(each) for each in (x, y, tx, ty)]
    net = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], width), torch.nn.ReLU(),
        torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
    rule = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(rule, steps)
    for _ in range(steps):
        index = torch.randint(len(x), (BATCH,))
        rule.zero_grad()
        torch.nn.functional.cross_entropy(net(tensors[0][index]), tensors[1][index]).backward()
        rule.step()
        schedule.step()
    return (net(tensors[2]).argmax(-1) != tensors[3]).float().mean().item()
with futures.ProcessPoolExecutor(2) as pool:
    print(np.mean(list(pool.map(one, itertools.product(WIDTHS, RATES, range(SEEDS))))))
"""


def rate_of_products() -> float:
    """Floating-point operations a second of a matrix product of width 1,024, the best of 20."""
    product, seconds = jax.jit(lambda a: a @ a), []
    a = jax.random.normal(jax.random.key(0), (1024, 1024))
    for _ in range(21):
        started = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * 1024**3 / min(seconds[1:])


class Took(NamedTuple):
    """The wall and CPU seconds of a process, and the last line that it printed."""

    wall: float
    cpu: float
    last: str


def timed(words: list[str]) -> Took:
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - started, os.times()
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return Took(wall, cpu, done.stdout.strip().splitlines()[-1])


def report(operations: float, found: dict[str, tuple[Took, float]]) -> None:
    """Print what each way took, and its mean test error, beside the floor of so many operations."""
    floor = operations / rate_of_products()
    title = f"{operations:.2e} operations, {floor:.2f} s at the rate of products"
    table = Table("way", "seconds", "over floor", "CPU-seconds", "test error", title=title)
    for name, (took, error) in found.items():
        said = "" if np.isnan(error) else f"{error:.3f}"
        table.add_row(name, f"{took.wall:.1f}", f"{took.wall / floor:.1f}", f"{took.cpu:.1f}", said)
    Console().print(table)


def error_of(folder: Path) -> float:
    return float(np.mean([row.metrics["test_error"] for row in rows.load(folder)]))


def of_experiment(name: str, here: Path) -> None:
    """One of our own experiments, cold and warm, over the floor of its training."""
    found = {}
    for way in ("cold", "warm"):
        words = [
            "-m",
            f"+experiment={name}",
            f"cache={here}/cache",
            f"hydra.sweep.dir={here}/{way}",
        ]
        found[f"ours, {way}"] = timed([sys.executable, "-c", OURS, *words]), error_of(here / way)
    report(sum(map(training_flops, rows.load(here / "cold"))), found)


def beside_others(asked: argparse.Namespace, here: Path) -> None:
    """The grid by each way."""
    widths, rates = (json.loads(f"[{each}]") for each in (asked.widths, asked.rates))
    data = plan(f"cache={here}/data", "model=logistic").programs[0].data
    arrays = {"x": data.train.inputs, "y": data.train.labels.astype(np.int64)}
    arrays |= {"tx": data.test.inputs, "ty": data.test.labels.astype(np.int64)}
    np.savez(here / "data.npz", **arrays)
    grid = ",".join(f"[{width},{width}]" for width in widths)
    words = ["model=perceptron", f"model.widths={grid}", f"seed=range({asked.seeds})"]
    words += [f"optimizer.learning_rate={asked.rates}", f"steps={asked.steps}", "evaluations=1"]
    words += [f"batch_size={BATCH}", f"task.cache={here}/data"]

    def ours(cache: str, out: str, *more: str) -> list[str]:
        folders = [f"cache={here}/{cache}", f"hydra.sweep.dir={here}/{out}"]
        said = ["-m", *words, "~hydra.callbacks.report", *folders, *more]
        return [sys.executable, "-c", OURS, *said]

    def script(text: str) -> list[str]:
        common = COMMON.format(widths=widths, rates=rates, seeds=asked.seeds, batch=BATCH)
        return [sys.executable, "-c", common + text, str(here / "data.npz"), str(asked.steps)]

    ways = {
        "cold": ("ours, cold", ours("cache", "cold")),
        "warm": ("ours, warm", ours("cache", "warm")),
        "plan": ("ours, to plan", [sys.executable, "-c", PLANNED, *words]),
        "jax": ("JAX by hand", script(BY_HAND)),
        "products": ("its products alone", script(PRODUCTS)),
        "torch": ("PyTorch, two processes", script(IN_TORCH)),
        "basic": ("Hydra's basic launcher", ours("other", "basic", "hydra/launcher=basic")),
    }
    if unknown := {*asked.without} - {*ways}:
        sys.exit(f"the ways are {', '.join(ways)}, not {', '.join(sorted(unknown))}")
    left_out = {*asked.without} | ({"torch"} if find_spec("torch") is None else set())
    found = {}
    for way, (name, command) in ways.items():
        if way not in left_out:
            took, own = timed(command), (here / way).is_dir()
            none = way in ("plan", "products")
            error = error_of(here / way) if own else np.nan if none else float(took.last)
            found[name] = took, error
    inputs = data.train.inputs[0].size
    parameters = sum(inputs * width + width * width + 10 * width for width in widths)  # of products
    report(6 * parameters * BATCH * asked.steps * len(rates) * asked.seeds, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--widths", default="50,100,200")
    parser.add_argument("--rates", default="1e-3,3e-3,1e-2")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--without", nargs="*", default=(), metavar="WAY")
    parser.add_argument("--experiment", help="one of ours, instead of the grid")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if asked.experiment:
            of_experiment(asked.experiment, Path(place))
        else:
            beside_others(asked, Path(place))
