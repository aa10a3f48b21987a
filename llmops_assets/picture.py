"""Pictures that stand on the asset's page itself, and not behind a link.

Dagster's pages show Markdown as it is when it has less than a thousand characters (its MetadataEntry.tsx), and open it
by a click otherwise. A PNG has ten thousand, so pictures are SVG inside the Markdown: whole pixels, lines of as many
points as the width can show, numbers at the ends of the axes alone. What does not fit all the same waits for the click.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

SHOWN_BELOW = 1000  # characters
WIDTH, HEIGHT = 300, 110
LEFT, RIGHT, TOP, BOTTOM = 40, 290, 8, 88  # of the axes
GREY = "#888"
_KEPT = " '/:=,;!*-_.~()@"  # may stand in the address of a picture in Markdown, between < and >

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` as whole pixels from `first` to `last`; what is outside goes to the nearer end."""

    low: float
    high: float
    first: int
    last: int

    def __call__(self, value: float) -> int:
        if not self.high > self.low:
            return self.first
        share = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return round(self.first + share * (self.last - self.first))


def across(low: float, high: float) -> Scale:
    return Scale(low, high, LEFT, RIGHT)


def upwards(low: float, high: float) -> Scale:
    return Scale(low, high, BOTTOM, TOP)


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most this many of the points, evenly chosen, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[math.floor(index * (len(points) - 1) / (most - 1))] for index in range(most)]


def line(points: Sequence[Point], x: Scale, y: Scale, colour: str) -> str:
    return path("L".join(f"{x(a)} {y(b)}" for a, b in points), colour) if points else ""


def path(moves: str, colour: str, more: str = "") -> str:
    """SVG's path commands after the first M."""
    return f"<path stroke='{colour}'{more} d='M{moves}'/>"


def text(x: int, y: int, said: str, more: str = "") -> str:
    return f"<text x='{x}' y='{y}'{more}>{html.escape(said, quote=False)}</text>"


def ends(low: str, high: str, *, of_height: bool = False) -> str:
    """What the two ends of an axis mean."""
    if of_height:
        return text(0, BOTTOM, low) + text(0, TOP + 8, high)
    return text(LEFT, HEIGHT - 8, low) + text(RIGHT, HEIGHT - 8, high, " text-anchor='end'")


def markdown(title: str, shapes: str, words: str) -> str:
    """`shapes` are drawn as lines, `words` are texts; both inside a frame of two axes."""
    axes = path(f"{LEFT} {TOP}V{BOTTOM}H{RIGHT}", "#bbb")
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{HEIGHT}' fill='none'>{axes}{shapes}"
        f"<g fill='{GREY}' font-size='10' font-family='sans-serif'>{words}</g></svg>"
    )
    return f"![{title}](<data:image/svg+xml,{quote(svg, safe=_KEPT)}>)"
