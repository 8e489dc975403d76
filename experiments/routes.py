"""Is it better to train small, to train large and compress, or to distil?

    python experiments/routes.py [FOLDER] [--families dense,monarch] [WORDS]

Six families, each with a large network. At each size of file: a small one trained on labels; the
same in int4; the large one factorised and trained on in int4; the small one distilled from the
large one of its seed; that in int4. All take as many steps after what they start or learn from;
beside them stands the small one trained, at its rate, for the FLOPs that distilling it took with
the large one. Else each cell takes that of RATES with the lowest validation error on two other
seeds. Prints errors, less those of small by seed, and how many times fewer bytes and milliseconds.
"""

import argparse
from itertools import product
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import polars as pl

import smallnets
from smallnets import models
from smallnets.analysis import command
from smallnets.analysis.break_even import made_of, training_flops
from smallnets.analysis.paired import paired
from smallnets.measure.latency import latencies
from smallnets.sweep.execute import Run

STACKS = ("dense", "low_rank", "monarch", "shared", "mixture")
FAMILIES = {each: f"family={each}" for each in STACKS} | {"attention": "model=encoder"}
LARGE, SIZES = 1_000_000, "16_000,28_000,50_000,90_000,160_000"  # bytes of files
TUNING, RATES = 2, (1e-3, 3e-3, 1e-2)
CODE = "view={_target_:smallnets.compress.quantisation_aware,_partial_:true,code:int4,group:32}"
CHAIN = "compress=[factorise,quantisation_aware]"
PLAIN = {"small": [], "small, int4": [CODE], "compressed, int4": [CHAIN]}
TAUGHT = {"distilled": [], "distilled, int4": [CODE]}
KEYS = {"size": "budget.file_bytes", "rate": "optimizer.learning_rate"}


def trained(folder: Path, words: list[str], **grid: list | tuple | range) -> list[Run]:
    """The runs of a grid, the last of its keys the fastest."""
    said = [f"{KEYS.get(key, key)}={','.join(map(str, each))}" for key, each in grid.items()]
    said += [f"hydra.sweep.dir={folder}"]
    return smallnets.train(smallnets.plan("evaluations=2", "budget.at_most=true", *words, *said))


def by_rule(folder: Path, words: list[str], seeds: int, size: int) -> float:
    """The rate of the lowest mean validation error on seeds of their own."""
    tried = trained(folder, words, size=[size], rate=RATES, seed=range(seeds, seeds + TUNING))
    found = np.nan_to_num([run.row.metrics["validation_error"] for run in tried], nan=1)
    return RATES[int(found.reshape(len(RATES), TUNING).mean(axis=-1).argmin())]


def cells(folder: Path, own: list[str], words: list[str], seeds: int, sizes: list[int]) -> dict:
    """The runs of each route at each size."""
    found, large, rate = {}, folder / "large", by_rule(folder / "large_rates", own, seeds, LARGE)
    first = trained(large, own, size=[LARGE], rate=[rate], seed=range(seeds + TUNING))[0].row
    taught = ["+distil=logits", f"distil.teacher={large}"]
    routes = PLAIN | {name: [*route, *taught] for name, route in TAUGHT.items()}
    for (name, route), size in product(routes.items(), sizes):
        place = folder / name.replace(", ", "_")
        chosen = [*([f"start={large}", *words] if CHAIN in route else own), *route]
        try:
            grid = {"size": [size], "rate": [by_rule(place, chosen, seeds, size)]}
        except ValueError as error:  # such as a file that no share of the large one fits into
            print(f"{name} at {size:,} bytes is left out: {error}")
            continue
        grid |= {"seed": range(seeds)}
        found[name, size] = trained(place, chosen, **grid)
        if name == "small":
            times = 1 + training_flops(first) / training_flops(found[name, size][0].row)
            grid["steps"] = [2 * round(times * first.config["steps"] / 2)]
            found["small, long", size] = trained(folder / "long", own, **grid)
    return found


def lines(family: str, found: dict, inputs: np.ndarray) -> pl.DataFrame:
    """Each run as a line of the table; a cell's milliseconds are of an example in a batch."""
    forms = {str(cell): smallnets.load(runs[0].folder).network for cell, runs in found.items()}
    timed = latencies(forms, jnp.asarray(inputs), batch_sizes=(len(inputs),))
    times = {each.form: 1e3 * each.median_seconds / len(inputs) for each in timed}
    table = []
    for cell, (folder, row) in ((cell, run) for cell, runs in found.items() for run in runs):
        joules = [each.energy["joules"] or np.nan for each in made_of(row, folder).values()]
        own = {"network": family, "route": cell[0], "budget": cell[1], "seed": row.seed}
        own |= {"file_bytes": (folder / models.NAME).stat().st_size, "flops": row.costs["flops"]}
        own |= {"milliseconds": times[str(cell)], "making_joules": sum(joules), "key": row.key}
        table.append(own | {name: row.metrics[name] for name in ("validation_error", "test_error")})
    return pl.DataFrame(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path("multirun/routes"))
    for name, each in {"families": ",".join(FAMILIES), "sizes": SIZES, "seeds": "5"}.items():
        parser.add_argument(f"--{name}", default=each)
    (said, words), table = parser.parse_known_args(), pl.DataFrame()
    pl.Config.set_tbl_formatting("ASCII_MARKDOWN").set_tbl_width_chars(160)
    for family in said.families.split(","):
        own, sizes = ["model.depth=4", FAMILIES[family], *words], map(int, said.sizes.split(","))
        found = cells(said.folder / family, own, words, int(said.seeds), list(sizes))
        new = lines(family, found, smallnets.plan(*own).programs[0].data.test.inputs[:256])
        table = pl.concat([table, new], how="diagonal")
        table.write_csv(csv := f"{said.folder}/routes.csv")
        for (budget,), cell in new.group_by("budget", maintain_order=True):
            told = paired(cell, group="route", reference="small", score="test_error")
            print(f"\n{family}, at most {budget:,} bytes", told.drop("runs"), sep="\n")
        of = ["--family", "route", "--reference", "small", "--where", f"network = '{family}'"]
        for size in ("file_bytes", "milliseconds"):
            command.main([csv, *of, "--size", size, "--out", f"{said.folder}/{family}-{size}"])
