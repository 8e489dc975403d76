"""The tables that queries ask: frozen rows, what the analysis finds in them, and the ledger."""

import inspect
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from smallnets.analysis import report
from smallnets.analysis.compare import Claims, claims
from smallnets.analysis.paired import paired
from smallnets.analysis.study import Study, analyse
from smallnets.analysis.table import digest, read
from smallnets.paper import frozen
from smallnets.paper.queries import Paired, Queries, Query

OPTIONS = {*inspect.signature(analyse).parameters} - {"frame", "laws", "pins"}
COMPARING = {"reference", "at"}  # options of claims()


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What was found in the study ``rows``: as objects, and as ``analysis.json`` has it."""

    name: str
    rows: str
    study: Study
    compared: Claims
    record: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A table, and the studies whose rows it is of or rests on."""

    table: pl.DataFrame
    studies: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Everything that a paper's queries ask, by the tables' names."""

    studies: dict[str, frozen.Frozen]
    analyses: dict[str, Analysis]
    pairs: list[Paired]
    tables: dict[str, Source]

    def answer(self, query: Query, select: str) -> pl.DataFrame:
        """The lines of a query; raises ValueError where it can't be asked or has none."""
        source = self.source(query)
        text = f"SELECT {select} FROM asked" + _condition(query)
        text += f" GROUP BY {query.group}" if query.group else ""
        text += f" ORDER BY {query.order}" if query.order else ""
        found = _asked(source.table, text, query)
        if found.is_empty() or not len(self.lines(query)):
            raise ValueError(
                f"query {query.name} finds no line in {query.source}"
                + (f" where {query.where}" if query.where else "")
                + ": change it, or freeze the rows that it asks for"
            )
        return found

    def lines(self, query: Query) -> pl.DataFrame:
        """The lines of the table that a query rests on."""
        return _asked(self.source(query).table, f"SELECT * FROM asked{_condition(query)}", query)

    def source(self, query: Query) -> Source:
        """The table that a query asks; raises ValueError where there is none of that name."""
        if query.source not in self.tables:
            raise ValueError(
                f"query {query.name} asks {query.source}, and there is no such table, only "
                f"{', '.join(sorted(self.tables))}"
            )
        return self.tables[query.source]

    def provenance(self, query: Query) -> dict[str, Any]:
        """Which rows a query rests on: their keys, or of all of a study how many; their commits."""
        studies = self.source(query).studies
        found: dict[str, Any] = {"studies": list(studies)}
        lines = self.lines(query)
        total = sum(sum(self.studies[name].status.values()) for name in studies)
        if "key" in lines.columns and len(lines) < total:
            found["keys"] = sorted(lines["key"].to_list())
            found["commits"] = sorted(set(lines["commit"].to_list()))
        else:
            found["keys"] = f"all {total}"
            found["commits"] = sorted({c for name in studies for c in self.studies[name].commits})
        return found


def gather(paper: Path, queries: Queries) -> Sources:
    """Thaw and analyse what the queries name.

    Raises ValueError where a study is not frozen or was changed, where studies are of several
    ``NUMERICS``, and where an analysis can't be made.
    """
    index = frozen.index(paper)
    if not index:
        raise ValueError(
            f"{paper} holds no frozen study: smallnets paper freeze {paper} FOLDER freezes one"
        )
    if len({study.numerics for study in index.values()}) > 1:
        said = ", ".join(f"{name} ({study.numerics})" for name, study in index.items())
        raise ValueError(f"{paper}: its studies are of several NUMERICS: {said}")
    tables = {"ledger": Source(table=_ledger(paper), studies=tuple(index))}
    frames, inputs = {}, {}
    for name in index:
        with frozen.thawed(paper, name) as folder:
            frames[name], inputs[name] = read(folder), digest(folder)
        tables[f"{name}.rows"] = Source(table=frames[name], studies=(name,))
    analyses = {}
    for name, options in queries.analyses.items():
        if options["rows"] not in frames:
            frozen.verified(paper, options["rows"])  # raises, and says what there is
        analyses[name] = found = _analysed(name, options, frames, inputs)
        for key, table in _tables(found).items():
            tables[f"{name}.{key}"] = Source(table=table, studies=(found.rows,))
    found = Sources(studies=index, analyses=analyses, pairs=queries.pairs, tables=tables)
    for asked in queries.pairs:
        tables[f"{asked.name}.pairs"] = _paired(found, asked)
    return found


def _analysed(name: str, options: dict[str, Any], frames: dict, inputs: dict) -> Analysis:
    given = {key: value for key, value in options.items() if key != "rows"}
    if unknown := sorted(given.keys() - OPTIONS - COMPARING):
        raise ValueError(f"[analysis.{name}]: analyse() has no {unknown[0]}")
    rows = options["rows"]
    try:
        study = analyse(frames[rows], **{k: v for k, v in given.items() if k in OPTIONS})
        compared = claims(study, **{k: v for k, v in given.items() if k in COMPARING})
    except TypeError as error:
        raise ValueError(f"[analysis.{name}]: {error}") from None
    except ValueError as error:
        raise ValueError(f"[analysis.{name}]: {error}") from None
    as_json = report.as_dict(study, compared, source=inputs[rows])
    return Analysis(name=name, rows=rows, study=study, compared=compared, record=as_json)


def _tables(found: Analysis) -> dict[str, pl.DataFrame]:
    """What an analysis found, as tables."""
    stored = found.record
    notes = [{"family": "", "note": note} for note in stored["notes"]]
    budgets = [
        {"budget": number, "size": budget["size"], "place": place, **line}
        for number, budget in enumerate(stored["budgets"], start=1)
        for place, line in enumerate(budget["families"], start=1)
    ]
    families = [
        {
            "family": line["family"],
            "runs": line["runs"],
            "sizes": len(line["sizes"]),
            "law": line["law"] and line["law"]["name"],
            "lack_of_fit_p": line["law"] and line["law"]["lack_of_fit_p"],
            "hold_out": line["law"] and line["law"]["hold_out"],
        }
        for line in stored["families"]
    ]
    comparisons = [
        {key: value for key, value in line.items() if not isinstance(value, list)}
        for line in stored["comparisons"]
    ]
    answers = [
        {"place": place, "sentence": sentence}
        for place, sentence in enumerate(stored["answer"], start=1)
    ]
    plain = {"families": families, "comparisons": comparisons, "budgets": budgets}
    plain |= {"notes": notes, "answer": answers}
    selection = found.study.selection
    chosen = {} if selection is None else {"chosen": selection.sweep.filter("chosen")}
    return {
        "runs": found.study.runs,
        **chosen,
        "curves": report.curves(found.study),
        "laws": report.laws(found.study),
        "multipliers": report.multipliers(found.compared),
        "pareto": found.compared.points,
        **{name: pl.DataFrame(lines, infer_schema_length=None) for name, lines in plain.items()},
    }


def _paired(sources: Sources, asked: Paired) -> Source:
    """The lines of a pairing, with what is selected of each group beside."""
    query = Query(name=asked.name, source=asked.source, where=asked.where)
    group = f"CAST({asked.group} AS VARCHAR) AS pair"
    lines = sources.answer(query, f"{group}, {asked.seed} AS seed, {asked.score} AS score")
    try:
        found = paired(lines, group="pair", reference=asked.reference, score="score")
    except ValueError as error:
        raise ValueError(f"[paired.{asked.name}]: {error}") from None
    if asked.select:
        beside = sources.answer(replace(query, group="pair"), f"{group}, {asked.select}")
        beside = beside.rename({"pair": "group"})
        found = found.join(beside, on="group", how="left", maintain_order="left")
    return Source(table=found, studies=sources.source(query).studies)


def _ledger(paper: Path) -> pl.DataFrame:
    lines = frozen.ledger(paper / frozen.ROWS / frozen.LEDGER)
    flat = [line | {"command": " ".join(line["command"])} for line in lines]
    return pl.DataFrame(flat, infer_schema_length=None)


def _condition(query: Query) -> str:
    return f" WHERE {query.where}" if query.where else ""


def _asked(table: pl.DataFrame, text: str, query: Query) -> pl.DataFrame:
    try:
        return pl.SQLContext({"asked": table}).execute(text, eager=True)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"query {query.name}, {text}: {reason}") from None
