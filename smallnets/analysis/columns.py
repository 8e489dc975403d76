"""The columns that a study is read from."""

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of the columns that a study is read from; ``data`` and ``weights`` may be empty.

    ``data`` is the second variable of a law in two, such as the tokens seen.
    """

    size: str
    score: str
    family: str
    seed: str
    data: str = ""
    weights: str = ""

    @property
    def variables(self) -> list[str]:
        """The columns that the law is of."""
        return [self.size, self.data] if self.data else [self.size]


def present(table: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """The table sorted, with the families as texts; raises one line if a column is missing."""
    wanted = (*columns.variables, columns.score, columns.family, columns.seed, columns.weights)
    missing = [name for name in wanted if name and name not in table.columns]
    if missing:
        raise ValueError(
            f"no column {', '.join(missing)}; there are {', '.join(table.columns[:20])}"
        )
    for name in (columns.family, columns.seed):
        if count := table[name].null_count():
            raise ValueError(f"column {name} is missing in {count} of {len(table)} runs: name it")
    table = table.with_columns(pl.col(columns.family).cast(pl.String))
    return table.sort(columns.family, columns.size, columns.seed, maintain_order=True)


def one_task(table: pl.DataFrame, task: str | None) -> pl.DataFrame:
    """The runs of ``task``, which may be left out where there is one."""
    if "task" not in table.columns:
        return table
    tasks = table["task"].unique(maintain_order=True).to_list()
    if task is None and len(tasks) > 1:
        raise ValueError(f"a curve is of one task, there are {', '.join(tasks)}: name one")
    if task is not None and task not in tasks:
        raise ValueError(f"no task {task}, there are {', '.join(tasks)}")
    return table if task is None else table.filter(pl.col("task") == task)
