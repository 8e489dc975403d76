"""What does a study take beside its arithmetic, and beside the ways to do without this library?

    python experiments/benchmarks/study.py [--steps 500]        about 5 minutes on two cores

Three sizes of the MLP on MNIST-1D by three rates by three seeds, 27 runs of 3 programs, trained by
each as a process of its own, one after another:

- ours cold, with nothing compiled, and warm, with the programs in the cache;
- JAX as written by hand: one jitted program a size, vmap over rates and seeds, a scan over steps;
- a plain PyTorch loop, if torch is there (``pip install ".[parity]"``): fused AdamW, a run at a time
  in two processes;
- Hydra's basic launcher, which trains each job alone.

All draw their batches from the same data with AdamW and a cosine. The floor is the training's
floating-point operations, 6 a parameter and example, at the rate of a matrix product of width 1,024
here. Printed are seconds, as CPU-seconds too, which other processes disturb less, both over the
floor's, and the mean test error, which says that all train alike.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

WIDTHS, RATES, SEEDS, BATCH = [50, 100, 200], [1e-3, 3e-3, 1e-2], 3, 64

OURS = """
import sys
from smallnets.cli import main
main()
"""
COMMON = """
import sys, numpy as np
source, steps = sys.argv[1], int(sys.argv[2])
data = np.load(source)
x, y, tx, ty = (data[name] for name in ("x", "y", "tx", "ty"))
WIDTHS, RATES, SEEDS, BATCH = {widths}, {rates}, {seeds}, {batch}
"""
BY_HAND = """
import jax, jax.numpy as jnp, optax, itertools
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


def timed(words: list[str]) -> tuple[float, float, str]:
    """Wall and CPU seconds of a process, and the last line that it printed."""
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - started, os.times()
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return wall, cpu, done.stdout.strip().splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    steps = parser.parse_args().steps
    from smallnets import plan, rows

    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        data = plan(f"cache={here}/data", "model=logistic").programs[0].data
        arrays = {"x": data.train.inputs, "y": data.train.labels.astype(np.int64)}
        arrays |= {"tx": data.test.inputs, "ty": data.test.labels.astype(np.int64)}
        np.savez(here / "data.npz", **arrays)
        widths = ",".join(f"[{width},{width}]" for width in WIDTHS)
        rates = ",".join(map(str, RATES))
        words = ["-m", "model=perceptron", f"model.widths={widths}", f"seed=range({SEEDS})"]
        words += [f"optimizer.learning_rate={rates}", f"steps={steps}", "evaluations=1"]
        words += [f"batch_size={BATCH}", f"task.cache={here}/data", "~hydra.callbacks.report"]

        def ours(cache: str, out: str, *more: str) -> list[str]:
            folders = [f"cache={here}/{cache}", f"hydra.sweep.dir={here}/{out}"]
            return [sys.executable, "-c", OURS, *words, *folders, *more]

        def script(text: str) -> list[str]:
            common = COMMON.format(widths=WIDTHS, rates=RATES, seeds=SEEDS, batch=BATCH)
            return [sys.executable, "-c", common + text, str(here / "data.npz"), str(steps)]

        ways = {
            "ours, cold": ours("cache", "cold"),
            "ours, warm": ours("cache", "warm"),
            "JAX by hand": script(BY_HAND),
            "PyTorch, two processes": script(IN_TORCH),
            "Hydra's basic launcher": ours("other", "basic", "hydra/launcher=basic"),
        }
        if importlib.util.find_spec("torch") is None:
            del ways["PyTorch, two processes"]
        found = {name: timed(command) for name, command in ways.items()}
        inputs = data.train.inputs.shape[1]
        parameters = [inputs * w + w * w + 10 * w for w in WIDTHS]  # of products
        operations = 6 * sum(parameters) * BATCH * steps * len(RATES) * SEEDS
        floor = operations / rate_of_products()
        title = f"{operations:.2e} operations, {floor:.2f} s at the rate of products"
        table = Table("way", "seconds", "over floor", "CPU-seconds", "test error", title=title)
        for name, (wall, cpu, last) in found.items():
            folder = {"ours, cold": "cold", "ours, warm": "warm"}.get(name, "basic")
            own = "ours" in name or "basic" in name
            errors = [row.metrics["test_error"] for row in rows.load(here / folder)] if own else []
            error = np.mean(errors) if own else float(last)
            cells = f"{wall:.1f}", f"{wall / floor:.1f}", f"{cpu:.1f}", f"{error:.3f}"
            table.add_row(name, *cells)
        Console().print(table)


if __name__ == "__main__":
    main()
