"""How families look, in print and on screen: told apart without colour, by marker and by grey.

Colours are Okabe & Ito's (2008), safe for colour-blind readers, ordered so that neighbours differ
in lightness; the cycle of markers has another length, so that many families stay distinct.
"""

from dataclasses import dataclass

COLOURS = ("#0072B2", "#E69F00", "#000000", "#CC79A7", "#D55E00", "#56B4E9", "#009E73")
# Matplotlib's name and Plotly's name of one marker.
MARKERS = (
    ("o", "circle"),
    ("s", "square"),
    ("^", "triangle-up"),
    ("D", "diamond"),
    ("v", "triangle-down"),
    ("P", "cross"),
    ("X", "x"),
    ("*", "star"),
    ("p", "pentagon"),
    ("h", "hexagon"),
    ("<", "triangle-left"),
)


@dataclass(frozen=True, kw_only=True)
class Style:
    """The looks of one family."""

    colour: str
    marker: str
    symbol: str

    def tint(self, opacity: float) -> str:
        """The colour as CSS with ``opacity``."""
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red},{green},{blue},{opacity})"


def style(place: int) -> Style:
    """The looks of the family at ``place`` in the order of the study."""
    marker, symbol = MARKERS[place % len(MARKERS)]
    return Style(colour=COLOURS[place % len(COLOURS)], marker=marker, symbol=symbol)
