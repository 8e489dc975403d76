"""The tables of the report."""

from html import escape

import polars as pl

from smallnets.analysis.claims import Claims
from smallnets.analysis.costs import axes, mismatch
from smallnets.analysis.drawing import label, means, number, objective
from smallnets.analysis.intervals import intervals
from smallnets.analysis.laws import ASYMPTOTE
from smallnets.analysis.multiplier import Comparison
from smallnets.analysis.study import Curve, Study


def subtitle(study: Study) -> str:
    """How many runs, of what, where."""
    parts = [f"{len(study.table):,} runs, {len(study.curves)} families"]
    for column in ("task", "device", "commit"):
        if column in study.table.columns:
            values = study.table[column].drop_nulls().unique(maintain_order=True).to_list()
            parts.append(f"{column} {', '.join(str(value) for value in values[:4])}")
    return " \N{MIDDLE DOT} ".join(parts)


def notes(study: Study, compared: Claims) -> str:
    """What a reader must be told before anything else, as a list."""
    lines = [*all_notes(study), *(f"{reason}." for reason in compared.refused)]
    if not lines:
        return ""
    return '<ul class="notes">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def all_notes(study: Study) -> list[str]:
    """What a reader must be told, of the whole study and then of families, equal notes as one."""
    families: dict[str, list[str]] = {}
    for curve in study.curves:
        for note in curve.notes:
            families.setdefault(note, []).append(curve.family)
    return [*study.notes, *(f"{', '.join(names)}: {note}." for note, names in families.items())]


def law_lines(study: Study) -> pl.DataFrame:
    """One line for each parameter of each family's law, with its interval."""
    lines = []
    for curve in study.curves:
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
        f"{fitted.law.formula} (AICc +{difference:.1f})"
        for fitted, difference in zip(choice.fits[1:], choice.differences[1:], strict=True)
        if any(fitted is other for other in choice.alternatives)
    ]
    return "; ".join(texts)


def _percent(log_ratio: float) -> str:
    return "" if log_ratio != log_ratio else f"{100 * log_ratio:+.1f} %"


def laws(study: Study) -> str:
    """The laws with their intervals, and how they came about."""
    table = law_lines(study)
    if table.is_empty():
        return "<p>No law was fitted.</p>"
    text = (
        "Intervals: profile likelihood with an F threshold, on size means. All families have one "
        "law, that of the lowest summed AICc; other laws within 4 of it are named, because the "
        "family's data don't exclude them. Hold-out: how far the mean score at the largest size "
        "lies from the law fitted without it. "
        f"Objective: {objective(study.delta)}."
    )
    return f'{html(table)}<p class="caption">{escape(text)}</p>{_asymptotes(study)}'


def comparisons(study: Study, compared: Claims) -> str:
    """Every pair of families at the middle of the scores that both reached."""
    lines = []
    for pair in compared.comparisons:
        lines.append(
            {
                "family": pair.family,
                "against": pair.other,
                "at score": "" if pair.reason else f"{pair.score:.4g}",
                "times fewer": "" if pair.reason else f"{pair.value:.3g}",
                f"{study.level:.0%} interval": pair.reason or f"{pair.low:.3g} to {pair.high:.3g}",
                "p against 1": "" if pair.reason else f"{pair.p_value:.2g}",
                "p (Holm)": "" if pair.reason else f"{pair.p_adjusted:.2g}",
                "by interpolation": _interpolated(pair),
                "detectable": "" if pair.reason else f"{pair.detectable:.3g}",
            }
        )
    if not lines:
        return ""
    text = (
        "All pairs, at the geometric middle of the scores that both reached. Holm: p-values that "
        "hold for all pairs together, and are of what leads: the laws, or interpolation where "
        "their shape is questioned. Detectable: what as many runs would tell from 1 in four of "
        "five studies."
    )
    return f'{html(pl.DataFrame(lines))}<p class="caption">{escape(text)}</p>'


def _interpolated(pair: Comparison) -> str:
    beside = pair.interpolated
    return beside.reason or f"{beside.value:.3g}, {beside.low:.3g} to {beside.high:.3g}"


def _lack(curve: Curve) -> str:
    return "" if curve.lack_of_fit is None else str(curve.lack_of_fit)


def budgets(study: Study, compared: Claims) -> str:
    """The families at three equal budgets, best first, and how stable their order is."""
    lines = []
    for cut in compared.slices:
        for place, family in enumerate(cut.families):
            lines.append(
                {
                    label(study.columns.size): number(cut.cost) if place == 0 else "",
                    "family": family,
                    label(study.columns.score): f"{cut.score[place]:.4g}",
                    f"{study.level:.0%} band of the mean": f"{cut.low[place]:.4g} to "
                    f"{cut.high[place]:.4g}",
                }
            )
    if not lines:
        return ""
    text = "The laws at equal budgets, best first."
    reasons = sorted({reason for cut in compared.slices for reason in cut.reasons})
    text += "".join(f" Not shown: {reason}." for reason in reasons)
    if compared.ranks is not None:
        first = compared.ranks.probability[:, 0]
        order = first.argsort(kind="stable")[::-1]
        wins = [f"{compared.ranks.families[i]} {first[i]:.0%}" for i in order if first[i] > 0]
        text += (
            f" At the middle one, over {compared.ranks.seeds} seeds: first by seed "
            f"{', '.join(wins)}; agreement of the orders W = {compared.ranks.agreement:.2f} "
            "(Kendall; 1 is the same order in every seed)."
        )
    return f"<h2>At equal {label(study.columns.size)}</h2>{html(pl.DataFrame(lines))}" + (
        f'<p class="caption">{escape(text)}</p>'
    )


def costs(study: Study, reference: str) -> str:
    """What each size costs by every axis of the rows, and over the reference at the same size."""
    table = mismatch(study, reference)
    if table.is_empty():
        return ""
    lines = [
        {
            "family": line[study.columns.family],
            label(study.columns.size): number(line[study.columns.size]),
            **{
                label(name): _cost(line[name], line[f"{name} ratio"])
                for name in axes(study.runs)
                if f"{name} ratio" in table.columns
            },
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
    """A plain HTML table."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in line) + "</tr>"
        for line in table.iter_rows()
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def scores(study: Study) -> str:
    """Means over seeds at each size."""
    frames = [
        means(curve, study.columns).select(
            pl.lit(curve.family).alias("family"),
            pl.col("size").map_elements(number, pl.String).alias(label(study.columns.size)),
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
