"""What does keeping every run's model cost?

    python experiments/benchmarks/saving.py [WORDS]        about 6 minutes on two cores

A fifth of the default study, 150 runs in 30 programs whose compiled form is in the cache, trained
in turns with ``save=last`` and with ``save=none``, each into an empty folder: prints the ratio of
their times, round by round. Compiling, which is most of a study's first run, is left out of both,
so that the share of keeping is at its largest.
"""

import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

import smallnets

WORDS = ["+experiment=mnist1d", "optimizer.learning_rate=3e-3", *sys.argv[1:]]

with tempfile.TemporaryDirectory() as folder:
    for round_ in range(4):  # the first fills the cache
        seconds = {}
        for save in ("last", "none"):
            out = Path(folder) / f"{save}{round_}"
            plan = smallnets.plan(*WORDS, f"save={save}", f"hydra.sweep.dir={out}")
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                runs = smallnets.train(plan)
            seconds[save] = time.perf_counter() - started
            kept = sum(path.stat().st_size for path in out.glob("*/model.safetensors"))
            print(f"save={save}: {len(runs)} runs in {seconds[save]:.1f} s, {kept:,} bytes kept")
        print(f"round {round_}: last / none {seconds['last'] / seconds['none']:.3f}", flush=True)
