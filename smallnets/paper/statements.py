"""What a reader asks of any study, told from its rows: claims, settings, costs, limits.

Each function gives a file of LaTeX, with a label to point to.
"""

from collections.abc import Iterable

import polars as pl

from smallnets.analysis.tables import all_notes
from smallnets.paper.latex import HEADER, breakable, cell, escaped, floating, tabular
from smallnets.paper.queries import Data, Table
from smallnets.paper.sources import Analysis, Sources

MOST = 8  # values of a setting that are listed


def table(sources: Sources, asked: Table) -> str:
    """A table of ``queries.toml``; its source says the commands that make its rows."""
    select = ", ".join(f"{what} AS c{place}" for place, (_, what, _) in enumerate(asked.columns))
    found = sources.answer(asked, select)
    forms = [form for _, _, form in asked.columns]
    try:
        lines = [
            [cell(value, form) for value, form in zip(line, forms, strict=True)]
            for line in found.iter_rows()
        ]
    except (ValueError, TypeError) as error:
        raise ValueError(f"table {asked.name}: a value does not fit its format ({error})") from None
    titles = [escaped(title) for title, _, _ in asked.columns]
    body = tabular(titles, lines, [kind.is_numeric() for kind in found.dtypes])
    commands = [c for name in sources.source(asked).studies for c in sources.studies[name].commands]
    return floating("table", asked.name, body, asked.caption, commands=commands)


def claims(sources: Sources) -> str:
    """Every comparison: estimate, interval, seeds, test, p after Holm, what could be told."""
    lines, questioned = [], []
    for analysis in sources.analyses.values():
        seeds = seeds_of(analysis)
        if analysis.study.shape.questioned:
            questioned.append(analysis.name)
        for pair in analysis.record["comparisons"]:
            if pair["reason"]:
                told = [rf"\multicolumn{{6}}{{l}}{{{escaped(pair['reason'])}}}"]
            else:
                told = [
                    cell(pair["times_fewer"], ".3g"),
                    f"{cell(pair['low'], '.3g')} to {cell(pair['high'], '.3g')}",
                    seeds,
                    pair["leads"],
                    cell(pair["p_holm"], ".2g"),
                    cell(pair["detectable"], ".3g"),
                ]
            lines.append([escaped(analysis.name), _pair(pair), *told])
    beside = f"\n{_paired(sources)}" if sources.pairs else ""
    if not lines:
        none = f"{HEADER}\\phantomsection\\label{{tab:claims}}No two families are compared.\n"
        return none + beside
    levels = {f"{analysis.study.level:.0%}" for analysis in sources.analyses.values()}
    caption = (
        "Every comparison that was made: how many times fewer the first family needs at the score "
        f"in the middle of what both reached, with its {escaped(', '.join(sorted(levels)))} "
        "interval over seeds and sizes; by what (the laws, or interpolation where their shape is "
        "questioned"
        + (f", as in {escaped(', '.join(questioned))}" if questioned else "")
        + "); the p-value against a factor of one after Holm's correction for all pairs of an "
        "analysis; and the smallest factor that as many runs would tell from one in four of five "
        "studies."
    )
    titles = [
        "analysis",
        "pair",
        "times fewer",
        "interval",
        "seeds",
        "by",
        "p (Holm)",
        "detectable",
    ]
    body = tabular(titles, lines, [False, False, True, True, True, False, True, True])
    wide = (
        f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n{body}}}"
    )
    return floating("table", "claims", wide, caption) + beside


def _paired(sources: Sources) -> str:
    """Every difference by seed: mean, interval, seeds, p after Holm."""
    lines = []
    for asked in sources.pairs:
        for line in sources.tables[f"{asked.name}.pairs"].table.iter_rows(named=True):
            if line["group"] == asked.reference:
                continue
            named = [escaped(asked.name), escaped(f"{line['group']} - {asked.reference}")]
            numbers = [cell(line[name], ".3g") for name in ("difference", "low", "high")]
            interval = f"{numbers[1]} to {numbers[2]}"
            told = [numbers[0], interval, str(line["runs"]), cell(line["p_holm"], ".2g")]
            lines.append([*named, *told])
    caption = (
        "Every difference of groups of runs, the second taken from the first of the same seed: the "
        "mean with its interval by Student's t, over so many seeds, and the p-value against none "
        "after Holm's correction for all of a comparison."
    )
    titles = ["comparison", "groups", "difference", "interval", "seeds", "p (Holm)"]
    body = tabular(titles, lines, [False, False, True, True, True, True])
    return floating("table", "paired", body, caption)


def _pair(pair: dict) -> str:
    return escaped(f"{pair['family']} / {pair['against']}")


def seeds_of(analysis: Analysis) -> str:
    """How many seeds a size has, as "5" or "3 to 5"."""
    columns = analysis.study.columns
    counts = analysis.study.runs.group_by(columns.family, columns.size).agg(
        pl.col(columns.seed).n_unique().alias("seeds")
    )["seeds"]
    low, high = counts.min(), counts.max()
    return str(low) if low == high else f"{low} to {high}"


def limitations(sources: Sources) -> str:
    """What the analyses warn of, as lists; said where there is nothing."""
    parts = [HEADER, "\\phantomsection\\label{lim:warnings}"]
    for analysis in sources.analyses.values():
        notes = [*all_notes(analysis.study), *analysis.compared.refused]
        if notes:
            items = "\n".join(rf"\item {escaped(note)}" for note in notes)
            title = rf"\paragraph{{{escaped(analysis.name)}}}"
            parts.append(f"{title}~\n\\begin{{itemize}}\n{items}\n\\end{{itemize}}")
    if len(parts) == 2:
        parts.append("The analyses warn of nothing.")
    return "\n".join(parts) + "\n"


def studies(sources: Sources, data: dict[str, Data]) -> str:
    """The studies: runs by their status, time, joules, commit; commands; data; all that was run."""
    lines = []
    for name, study in sources.studies.items():
        counts = study.status
        lines.append(
            [
                escaped(name),
                *(f"{counts.get(each, 0):,}" for each in ("finished", "diverged", "failed")),
                f"{study.seconds / 60:.1f}",
                "--" if study.joules is None else f"{study.joules / 1000:.3g}",
                escaped(", ".join(commit[:7] for commit in study.commits)),
                escaped(study.last or "--"),
            ]
        )
    titles = ["study", "finished", "diverged", "failed", "minutes", "kJ", "commit", "day"]
    body = tabular(titles, lines, [False, *[True] * 5, False, False])
    caption = "The frozen studies: their runs, what training them took, and the code that did it."
    parts = [floating("table", "studies", body, caption), r"\begin{itemize}"]
    for name, study in sources.studies.items():
        said = "; ".join(rf"\texttt{{{breakable(command)}}}" for command in study.commands)
        parts.append(rf"\item {escaped(name)}: {said or 'the command is not known'}")
    parts += [r"\end{itemize}", spent(sources), ""]
    known = [each for each in data.values() if each.name in tasks(sources)]
    if known:
        lines = [
            [escaped(x) for x in (d.title, d.version, d.licence)] + [breakable(d.source)]
            for d in known
        ]
        titles = ["data", "version", "licence", "source"]
        body = tabular(titles, lines, [False] * 4).replace("{llll}", r"{lllp{0.45\linewidth}}")
        parts.append(
            floating("table", "data", body, "The data, and on what terms they may be used.")
        )
    return "\n".join(parts)


def spent(sources: Sources) -> str:
    """What the whole project took by its ledger, failed and preliminary sweeps included."""
    sweeps = sources.tables["ledger"].table.to_dicts()
    if not sweeps:
        return "\\phantomsection\\label{par:ledger}There is no ledger of what the project ran."
    unfinished = sum(sweep["status"] != "finished" for sweep in sweeps)
    joules = [sweep["joules"] for sweep in sweeps if sweep["joules"] is not None]
    lacking = len(sweeps) - len(joules)
    lacks = f" (without {lacking} sweeps, of which they are not known)" if lacking else ""
    text = (
        f"The whole project, by the ledger that counts every sweep since {since(sources)}: "
        f"{len(sweeps):,} sweeps, of which {unfinished} did not finish, "
        f"{sum(sweep['trained'] for sweep in sweeps):,} runs trained and "
        f"{sum(sweep['failed'] for sweep in sweeps):,} failed, {hours(sources):.2f} hours, "
        f"{sum(joules) / 1000:.1f} kJ{lacks}."
    )
    return f"\\phantomsection\\label{{par:ledger}}{escaped(text)}"


def since(sources: Sources) -> str:
    """The day from which on the ledger counts; empty where there is none."""
    return min(
        (line["started"][:10] for line in sources.tables["ledger"].table.to_dicts()), default=""
    )


def hours(sources: Sources) -> float:
    """What all sweeps of the ledger took."""
    return sum(line["seconds"] for line in sources.tables["ledger"].table.to_dicts()) / 3600


def settings(sources: Sources) -> str:
    """What was tried, how it was chosen, and what was chosen, study by study."""
    lines = []
    for name in sources.studies:
        for column, values in tried(sources.tables[f"{name}.rows"].table):
            lines.append([escaped(name), breakable(column), escaped(_listed(values))])
    body = tabular(["study", "setting", "values"], lines, [False] * 3)
    body = body.replace("{lll}", r"{llp{0.5\linewidth}}")
    caption = (
        "Everything that varies among the runs of a study, which is everything that was tried."
    )
    parts = [floating("table", "settings", body, caption)]
    chosen = []
    for analysis in sources.analyses.values():
        selection, columns = analysis.study.selection, analysis.study.columns
        if selection is None:
            continue
        picked = selection.sweep.filter("chosen")
        for (family,), part in picked.group_by(columns.family, maintain_order=True):
            values = [
                _listed([line[s] for s in selection.settings])
                for line in part.sort(columns.size).iter_rows(named=True)
            ]
            chosen.append(
                [
                    escaped(analysis.name),
                    escaped(str(family)),
                    escaped("; ".join(values)),
                    str(int((part["edge"] != "").sum())),
                ]
            )
    if chosen:
        titles = [
            "analysis",
            "family",
            "chosen, from the smallest size to the largest",
            "at an edge",
        ]
        caption = (
            "What was chosen for each family and size, by the mean validation score over seeds; "
            "test scores play no part. The last column counts choices at an edge of what was tried."
        )
        body = tabular(titles, chosen, [False, False, False, True])
        parts.append(floating("table", "chosen", body, caption))
    return "\n".join(parts)


def tried(rows: pl.DataFrame) -> list[tuple[str, list]]:
    """The columns of the configuration that vary, with their values; the seed first."""
    names = [name for name in rows.columns if name.startswith("config.")]
    varied = [(name, rows[name].unique().drop_nulls().sort().to_list()) for name in names]
    found = [(name.removeprefix("config."), values) for name, values in varied if len(values) > 1]
    return sorted(found, key=lambda each: (each[0] != "seed", each[0]))


def tasks(sources: Sources) -> list[str]:
    """The tasks of all studies, without what differs from a task's own settings."""
    labels = {
        label for name in sources.studies for label in sources.tables[f"{name}.rows"].table["task"]
    }
    return sorted({label.partition(" ")[0] for label in labels})


def _listed(values: Iterable) -> str:
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    if len(texts) > MOST:
        return f"{texts[0]} to {texts[-1]}, {len(texts)} values"
    return ", ".join(texts)
