"""Pictures for the run and the asset pages: small PNGs inside Markdown, which Dagster's UI shows as they are.

Each function takes plain numbers and returns Markdown. Colours are one quiet palette, so that candidate, baseline and
limit look the same on every page.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CANDIDATE, BASELINE, LIMIT = "#4f43dd", "#8a8fa3", "#d0422b"


def loss_curve(points: Sequence[Sequence[float]], title: str) -> str:
    """`points` are (step, training loss)."""
    figure, axes = _axes(title, "step", "loss")
    axes.plot([p[0] for p in points], [p[1] for p in points], color=CANDIDATE, linewidth=1.5)
    axes.set_yscale("log")
    return _markdown(figure, title)


def latency_histogram(latencies_seconds: Sequence[float], limit_seconds: float, title: str) -> str:
    """One bar chart of request latencies with the limit they are held to."""
    figure, axes = _axes(title, "latency in milliseconds", "requests")
    axes.hist([seconds * 1000 for seconds in latencies_seconds], bins=40, color=CANDIDATE)
    shown = limit_seconds <= 2 * max(latencies_seconds, default=0)  # a limit far away would squeeze the bars into one
    limit = f"limit {limit_seconds * 1000:.0f} ms" + ("" if shown else ", far to the right")
    axes.axvline(limit_seconds * 1000 if shown else math.nan, color=LIMIT, linestyle="--", label=limit)
    axes.legend(frameon=False)
    return _markdown(figure, title)


def evaluation_bars(rows: Sequence[Mapping[str, object]], title: str) -> str:
    """Rows of {suite, value, low, high, minimum, baseline}: a point with its interval beside the one it must beat."""
    figure, axes = _axes(title, "share of correct answers", "")
    for index, row in enumerate(rows):
        value, low, high = (_number(row[key]) for key in ("value", "low", "high"))
        axes.errorbar(value, index, xerr=[[value - low], [high - value]], fmt="o", color=CANDIDATE, capsize=4)
        axes.plot([_number(row["minimum"])], [index], marker="|", markersize=22, color=LIMIT)
        if row.get("baseline") is not None:
            axes.plot([_number(row["baseline"])], [index], marker="D", color=BASELINE)
    axes.set_yticks(range(len(rows)), [str(row["suite"]) for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    return _markdown(figure, title)


def canary_chart(ticks: Sequence[Mapping[str, object]], title: str) -> str:
    """Ticks of {seconds, weight_percent, requests, failures}: weight given and requests answered over time."""
    figure, axes = _axes(title, "seconds since the canary began", "weight in percent")
    seconds = [_number(tick["seconds"]) for tick in ticks]
    axes.step(seconds, [_number(t["weight_percent"]) for t in ticks], where="post", color=CANDIDATE)
    axes.set_ylim(0, 105)
    requests = axes.twinx()
    requests.plot(seconds, [_number(t["requests"]) for t in ticks], color=BASELINE, label="candidate's requests")
    requests.plot(seconds, [_number(t["failures"]) for t in ticks], color=LIMIT, label="of these failed")
    requests.set_ylim(bottom=0)
    requests.plot([], [], color=CANDIDATE, label="candidate's weight")
    requests.legend(frameon=False, loc="upper left")
    return _markdown(figure, title)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; pipes and line breaks in cells cannot break out of it."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _number(value: object) -> float:
    if not isinstance(value, (int, float)):
        raise TypeError(f"a chart needs numbers, found {value!r}")
    return float(value)


def _axes(title: str, x: str, y: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _markdown(figure: "Figure", title: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return f"![{title}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"
