"""The tables of the report, and how it names columns, numbers and what was done."""

from html import escape

import numpy as np
import polars as pl

from smallnets.analysis.compare import ALL_PAIRS, Claims
from smallnets.analysis.intervals import intervals
from smallnets.analysis.laws import ASYMPTOTE
from smallnets.analysis.ranking import axes, mismatch
from smallnets.analysis.study import Curve, Study, means
from smallnets.analysis.table import some

SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"))


def label(column: str) -> str:
    """A column's name as an axis title: the last part of a dotted one, in words."""
    return column.rsplit(".", 1)[-1].replace("_", " ")


def number(value: float) -> str:
    """A size or cost: 1,014 in full, from a million on three digits, as 1.5 M, 70 B, 112 T."""
    for unit, suffix in SUFFIXES:
        if abs(value) >= unit * 0.9995:
            return f"{float(f'{value / unit:.3g}'):,.10g} {suffix}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def objective(delta: float) -> str:
    """The fitting objective in words."""
    if delta == 0:
        return "least absolute deviation of the log score"
    if np.isinf(delta):
        return "least squares on the log score"
    return f"the sum of Huber's loss of the log score, delta = {delta:g}"


def counts(study: Study) -> str:
    """How many families, sizes and seeds the figure shows."""
    found = [
        (points["size"].n_unique(), int(points["runs"].max()))  # type: ignore[arg-type]
        for points in (means(curve, study.columns) for curve in study.curves)
        if len(points)
    ]
    if not found:
        return "No run finished."
    sizes, seeds = (_between(values) for values in zip(*found, strict=True))
    text = f"{sizes} sizes \N{MULTIPLICATION SIGN} {seeds} seed{'' if seeds == '1' else 's'}"
    return f"{len(found)} families, {text} each." if len(found) > 1 else f"{text}."


def runs_shown(study: Study, *, most: int) -> str:
    """What stands for the runs."""
    return "Dots: runs" if len(study.runs) <= most else "Bars: lowest to highest run of a size"


def bands_shown(study: Study) -> str:
    """Which band is which, where a law has one."""
    if not any(curve.choice and curve.choice.best.identifiable for curve in study.curves):
        return "No bands: too few sizes. "
    return f"Dark band: {study.level:.0%} for the mean; light band: for one further run. "


def folded(study: Study, shown: list[str]) -> str:
    """Which families have colours, where not all do."""
    rest = len(study.curves) - len(shown)
    if rest <= 0:
        return ""
    return (
        f"In colour the family that is compared with and the best {len(shown) - 1} of the others; "
        f"the other {rest} are grey or left out."
    )


def _between(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"


LINES = 40
NOTES = 8


def subtitle(study: Study) -> str:
    """How many runs, of what, where."""
    count = len(study.curves)
    parts = [f"{len(study.table):,} runs, {count} famil{'y' if count == 1 else 'ies'}"]
    for column in ("task", "device", "commit"):
        if column in study.table.columns:
            values = study.table[column].drop_nulls().unique(maintain_order=True).to_list()
            parts.append(f"{column} {', '.join(str(value) for value in values[:4])}")
    return " \N{MIDDLE DOT} ".join(parts)


def notes(study: Study, compared: Claims) -> str:
    """What a reader must be told before anything else, as a list; what is long is folded."""
    refused = [f"{reason}." for reason in compared.refused]
    lines = [f"<li>{escape(line)}</li>" for line in [*all_notes(study), *refused]]
    if not lines:
        return ""
    first, rest = lines[:NOTES], lines[NOTES:]
    more = (
        f"<li><details><summary>{len(rest)} more</summary><ul>{''.join(rest)}</ul></details></li>"
    )
    return f'<ul class="notes">{"".join(first)}{more if rest else ""}</ul>'


def all_notes(study: Study) -> list[str]:
    """What a reader must be told, of the whole study and then of families, equal notes as one."""
    families: dict[str, list[str]] = {}
    for curve in study.curves:
        for note in curve.notes:
            families.setdefault(note, []).append(curve.family)
    return [*study.notes, *(f"{some(names)}: {note}." for note, names in families.items())]


def law_lines(study: Study, shown: list[str], *, only: bool = False) -> pl.DataFrame:
    """A line for each parameter of each family's law, with its interval.

    The families ``shown`` come first, and alone if ``only`` they are wanted.
    """
    lines = []
    first = [curve for curve in study.curves if curve.family in shown]
    rest = [curve for curve in study.curves if curve.family not in shown]
    for curve in first if only else first + rest:
        if curve.choice is None:
            continue
        best = curve.choice.best
        for place, interval in enumerate(curve.intervals):
            lines.append(
                {
                    "family": curve.family if place == 0 else "",
                    "law": best.law.formula if place == 0 else "",
                    "parameter": interval.parameter,
                    "estimate": f"{interval.estimate:.4g}",
                    f"{study.level:.0%} interval": str(interval),
                    "lack of fit": _lack(curve) if place == 0 else "",
                    "other laws": _others(curve) if place == 0 else "",
                    "hold-out": _percent(curve.choice.hold_out[0]) if place == 0 else "",
                }
            )
    return pl.DataFrame(lines)


def asymptote_lines(study: Study) -> pl.DataFrame:
    """The law with asymptote of each family that has sizes enough for it, chosen or not."""
    lines = []
    for curve in study.curves:
        if curve.choice is None:
            continue
        for fitted, difference in zip(curve.choice.fits, curve.choice.differences, strict=True):
            if fitted.law.name == ASYMPTOTE.name:
                line = {"family": curve.family, "AICc": f"+{difference:.1f}"}
                for interval in intervals(fitted, level=study.level):
                    name = interval.parameter
                    line[name] = f"{interval.estimate:.3g}"
                    line[f"{name}, {study.level:.0%} interval"] = str(interval)
                lines.append(line)
    return pl.DataFrame(lines)


def _asymptotes(study: Study) -> str:
    table = asymptote_lines(study)
    if table.is_empty():
        return ""
    text = (
        f"The law with asymptote, {ASYMPTOTE.formula}, for every family that has the sizes for "
        "it, whether it was chosen or not (AICc over the chosen law). E is the score that no size "
        "would reach; an interval that begins at 0 says that the data show no such limit. "
        "Intervals as above."
    )
    return f'{html(table)}<p class="caption">{escape(text)}</p>'


def _others(curve: Curve) -> str:
    choice = curve.choice
    if choice is None:
        return ""
    texts = [
        f"{fitted.law.formula} (AICc {difference:+.1f})"
        for fitted, difference in zip(choice.fits[1:], choice.differences[1:], strict=True)
        if any(fitted is other for other in choice.alternatives)
    ]
    return "; ".join(texts)


def _percent(log_ratio: float) -> str:
    return "" if log_ratio != log_ratio else f"{100 * log_ratio:+.1f} %"


def laws(study: Study, shown: list[str]) -> str:
    """The laws with their intervals, and how they came about; of many families ``shown`` first."""
    table = law_lines(study, shown)
    if table.is_empty():
        return "<p>No law was fitted.</p>"
    text = (
        "Intervals: profile likelihood with an F threshold, on size means. All families have one "
        "law, that of the lowest summed AICc; other laws within 4 of it are named, because the "
        "family's data don't exclude them. Lack of fit: whether more than seeds moves the means "
        "off the law. Hold-out: how far the mean score at the largest size "
        "lies from the law fitted without it. "
        f"Objective: {objective(study.delta)}."
    )
    return f'{html(table)}<p class="caption">{escape(text)}</p>{_asymptotes(study)}'


def comparisons(study: Study, compared: Claims) -> str:
    """Pairs of families at one score."""
    pairs = compared.comparisons
    if not pairs:
        return ""
    leading = "interpolation" if study.shape.questioned else "the laws"
    text = (
        f"p: against 1, by what leads, {leading}; Holm: p-values that hold for all {len(pairs)} "
        "pairs together. Detectable: what as many runs would tell from 1 in four of five studies. "
        f"Of more than {ALL_PAIRS} families only pairs with the reference are compared."
    )
    level = f"{study.level:.0%} interval"
    lines = [
        {
            "family": pair.family,
            "against": pair.other,
            "at " + label(study.columns.score): "" if pair.refusal else f"{pair.score:.4g}",
            f"times fewer, {level}": pair.refusal or _said(*pair.answer[:3]),
            "p": "" if pair.refusal else f"{pair.answer[3]:.2g}",
            "p (Holm)": "" if pair.refusal else f"{pair.p_adjusted:.2g}",
            "by the laws": pair.reason or _said(pair.value, pair.low, pair.high),
            "by interpolation": pair.interpolated.reason
            or _said(pair.interpolated.value, pair.interpolated.low, pair.interpolated.high),
            "detectable": "" if pair.reason else f"{pair.detectable:.3g}",
        }
        for pair in sorted(pairs, key=lambda pair: bool(pair.refusal))
    ]
    return f'{html(pl.DataFrame(lines))}<p class="caption">{escape(text)}</p>'


def _said(value: float, low: float, high: float) -> str:
    return f"{value:.3g}, {low:.3g} to {high:.3g}"


def _lack(curve: Curve) -> str:
    return "" if curve.lack_of_fit is None else str(curve.lack_of_fit)


def budgets(study: Study, compared: Claims, shown: list[str]) -> str:
    """The families at three equal budgets, best first, and how stable their order is."""
    lines = []
    for cut in compared.slices:
        listed = [place for place, name in enumerate(cut.families) if name in shown]
        for place in listed:
            lines.append(
                {
                    label(study.columns.size): number(cut.cost) if place == listed[0] else "",
                    "family": cut.families[place],
                    label(study.columns.score): f"{cut.score[place]:.4g}",
                    f"{study.level:.0%} band of the mean": f"{cut.low[place]:.4g} to "
                    f"{cut.high[place]:.4g}",
                }
            )
    if not lines:
        return ""
    text = "The laws at equal budgets, best first."
    if reasons := sorted({reason for cut in compared.slices for reason in cut.reasons}):
        text += f" Not shown: {some(reasons)}."
    if compared.ranks is not None:
        first = compared.ranks.probability[:, 0]
        order = first.argsort(kind="stable")[::-1]
        wins = [f"{compared.ranks.families[i]} {first[i]:.0%}" for i in order if first[i] > 0]
        text += (
            f" At the middle one, over {compared.ranks.seeds} seeds: first by seed "
            f"{some(wins)}; agreement of the orders W = {compared.ranks.agreement:.2f} "
            "(Kendall; 1 is the same order in every seed)."
        )
    return f"<h2>At equal {escape(label(study.columns.size))}</h2>{html(pl.DataFrame(lines))}" + (
        f'<p class="caption">{escape(text)}</p>'
    )


def costs(study: Study, reference: str) -> str:
    """What each size costs by every axis of the rows, and over the reference at the same size."""
    table = mismatch(study, reference)
    if table.is_empty():
        return ""
    names = [name for name in axes(study.runs) if name != study.columns.size]
    lines = [
        {
            "family": line[study.columns.family],
            label(study.columns.size): number(line[study.columns.size]),
            **{label(name): _cost(line[name], line[f"{name} ratio"]) for name in names},
        }
        for line in table.iter_rows(named=True)
    ]
    text = (
        f"In brackets: times {reference} at the size nearest to it, where that is within 5 %. What "
        "is far from 1 there was not matched, and a comparison at equal size is none along it."
    )
    return f'{html(pl.DataFrame(lines))}<p class="caption">{escape(text)}</p>'


def _cost(cost: float | None, ratio: float | None) -> str:
    if cost is None:
        return ""
    times = "\N{MULTIPLICATION SIGN}"
    return number(cost) if ratio is None else f"{number(cost)} ({times}{ratio:.3g})"


def html(table: pl.DataFrame) -> str:
    """A plain HTML table; what lies beyond 40 lines is folded."""
    if len(table) > LINES:
        rest = html_lines(table[LINES:])
        more = f"<details><summary>{len(table) - LINES:,} more lines</summary>{rest}</details>"
        return html_lines(table[:LINES]) + more
    return html_lines(table)


def html_lines(table: pl.DataFrame) -> str:
    """A plain HTML table of every line."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join(
        "<tr>" + "".join(_cell(str(value)) for value in line) + "</tr>"
        for line in table.iter_rows()
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _cell(text: str) -> str:
    kind = ' class="long"' if len(text) > 36 else ""
    return f"<td{kind}>{escape(text)}</td>"


def scores(study: Study) -> str:
    """Means over seeds at each size."""
    size = label(study.columns.size)
    size = f"{size} (size)" if size in ("family", "runs", "mean", "lowest", "highest") else size
    frames = [
        means(curve, study.columns).select(
            pl.lit(curve.family).alias("family"),
            pl.col("size").map_elements(number, pl.String).alias(size),
            "runs",
            *(pl.col(name).round_sig_figs(4) for name in ("mean", "lowest", "highest")),
        )
        for curve in study.curves
        if len(curve.runs)
    ]
    return html(pl.concat(frames)) if frames else ""


def configuration(table: pl.DataFrame) -> str:
    """The resolved configuration: what all runs share, and what varied."""
    names = [name for name in table.columns if name.startswith("config.")]
    if not names:
        return ""
    common, varying = [], []
    for name in names:
        values = table[name].unique(maintain_order=True).to_list()
        key = name.removeprefix("config.")
        if len(values) == 1:
            common.append(f"{key}: {values[0]}")
        else:
            shown = ", ".join(str(value) for value in values[:12])
            varying.append(f"{key}: {shown}" + (", ..." if len(values) > 12 else ""))
    return (
        f"<p>The same in every run:</p><pre>{escape(chr(10).join(common))}</pre>"
        f"<p>Varied:</p><pre>{escape(chr(10).join(varying))}</pre>"
    )


def versions(table: pl.DataFrame) -> str:
    """What ran where."""
    lines = []
    for name in table.columns:
        if name.startswith("versions.") or name in ("commit", "device", "execution"):
            values = table[name].drop_nulls().unique(maintain_order=True).to_list()
            lines.append(f"{name.removeprefix('versions.')}: {', '.join(map(str, values))}")
    return f"<pre>{escape(chr(10).join(lines))}</pre>" if lines else ""
