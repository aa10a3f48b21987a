"""Pictures and tables for the run and the asset pages, as Markdown, which Dagster's UI shows.

Each function takes plain numbers. Colours are one quiet palette, so that candidate, baseline and limit look the same on
every page.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import floor, log10

from llmops_assets.picture import BOTTOM, Point, across, ends, line, markdown, path, text, thinned, upwards

_DOT = " stroke-width='7' stroke-linecap='round'"
CANDIDATE, BASELINE, LIMIT = "#4f43dd", "#8a8fa3", "#d0422b"
LINE_POINTS, BARS, CANARY_POINTS = 50, 40, 16


def loss_curve(points: Sequence[Sequence[float]], title: str) -> str:
    """`points` are (step, training loss). The height is logarithmic; a loss that is not positive has no place in it."""
    shown = thinned([(step, log10(loss)) for step, loss in points if loss > 0], LINE_POINTS)
    steps, logarithms = [step for step, _ in shown] or [0.0], [loss for _, loss in shown] or [0.0]
    low, high = min(logarithms), max(logarithms)
    words = ends("0", f"step {steps[-1]:g}") + ends(f"{10**low:.2g}", f"{10**high:.2g}", of_height=True)
    return markdown(title, line(shown, across(0, steps[-1]), upwards(low, high), CANDIDATE), words)


def latency_histogram(latencies_seconds: Sequence[float], limit_seconds: float, title: str) -> str:
    """How many requests took how long, and the limit they are held to, where it is near enough to be drawn."""
    longest, limit = max(latencies_seconds, default=0.0), f"limit {limit_seconds * 1000:.0f} ms"
    near = limit_seconds <= 2 * longest
    end = max(longest, limit_seconds if near else 0.0)
    counts = Counter(min(floor(BARS * seconds / end), BARS - 1) if end else 0 for seconds in latencies_seconds)
    x, y = across(0, BARS), upwards(0, max(counts.values(), default=1))
    bars = "M".join(f"{x(bar + 0.5)} {BOTTOM}V{y(count)}" for bar, count in sorted(counts.items()))
    shapes = path(bars, CANDIDATE, " stroke-width='5'") if bars else ""
    if near:
        shapes += path(f"{across(0, end)(limit_seconds)} {BOTTOM}V8", LIMIT)
    words = ends("0", f"{end * 1000:.0f} ms") + text(110, 102, limit, f" fill='{LIMIT}'")
    return markdown(title, shapes, words + ends("0", f"{y.high:g}", of_height=True))


def evaluation_bars(rows: Sequence[Mapping[str, object]], title: str) -> str:
    """Rows of {suite, value, low, high, minimum, baseline}: a point with its interval beside the one it must beat."""
    every = [_number(row[key]) for row in rows for key in ("low", "minimum", "baseline") if row.get(key) is not None]
    x = across(floor(10 * min(every, default=0.0)) / 10, 1.0)
    step = 70 // max(len(rows), 1)
    intervals, values, minimums, baselines, words = [], [], [], [], ""
    for index, row in enumerate(rows):
        y = 16 + step // 2 + index * step
        intervals.append(f"{x(_number(row['low']))} {y}H{x(_number(row['high']))}")
        values.append(f"{x(_number(row['value']))} {y}h0")
        minimums.append(f"{x(_number(row['minimum']))} {y - 6}v12")
        if row.get("baseline") is not None:
            baselines.append(f"{x(_number(row['baseline']))} {y}h0")
        words += text(44, y - 7, str(row["suite"]))
    drawn = ((intervals, CANDIDATE, ""), (values, CANDIDATE, _DOT), (baselines, BASELINE, _DOT), (minimums, LIMIT, ""))
    shapes = "".join(path("M".join(moves), colour, more) for moves, colour, more in drawn if moves)
    words += text(110, 102, "minimum", f" fill='{LIMIT}'") + text(165, 102, "production", f" fill='{BASELINE}'")
    return markdown(title, shapes, words + ends(f"{x.low:.0%} right", "100%"))


def canary_chart(ticks: Sequence[Mapping[str, object]], title: str) -> str:
    """Ticks of {seconds, weight_percent, requests, failures}: weight given and requests answered over time."""
    weights, requests, failures = (
        [(_number(tick["seconds"]), _number(tick[key])) for tick in ticks]
        for key in ("weight_percent", "requests", "failures")
    )
    held = [point for (_, kept), (until, new) in pairwise(weights) for point in ((until, kept), (until, new))]
    last, most = weights[-1][0] if weights else 0.0, max((count for _, count in requests), default=0.0)
    x, counts = across(0, last), upwards(0, most)
    shapes = line(thinned(_corners(requests), CANARY_POINTS), x, counts, BASELINE)
    shapes += line(thinned(_corners(failures), CANARY_POINTS), x, counts, LIMIT)
    shapes += line(thinned(_corners([*weights[:1], *held]), CANARY_POINTS), x, upwards(0, 100), CANDIDATE)
    words = ends("0", f"{last:.0f} s") + ends("0", "100 %", of_height=True)
    legend = ((60, "weight", CANDIDATE), (105, f"{most:g} requests", BASELINE), (190, "failed", LIMIT))
    return markdown(title, shapes, words + "".join(text(at, 102, said, f" fill='{c}'") for at, said, c in legend))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; pipes and line breaks in cells cannot break out of it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return shown.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _corners(points: Sequence[Point]) -> list[Point]:
    """Without the points in the middle of a level stretch."""
    inner = [b for a, b, c in zip(points, points[1:], points[2:], strict=False) if not a[1] == b[1] == c[1]]
    return [*points[:1], *inner, *points[1:][-1:]]


def _number(value: object) -> float:
    if not isinstance(value, (int, float)):
        raise TypeError(f"a chart needs numbers, found {value!r}")
    return float(value)
