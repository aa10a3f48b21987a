"""Pictures that nobody would see: behind a link, broken, or with their lines outside of the frame."""

import math
import re
from collections.abc import Callable
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.charts import canary_chart, evaluation_bars, latency_histogram, loss_curve, table
from llmops_assets.picture import HEIGHT, SHOWN_BELOW, WIDTH

number = st.floats(0, 1e6, allow_nan=False)
share = st.floats(0, 1)


def _picture(markdown: str) -> ElementTree.Element:
    found = re.fullmatch(r"!\[[^\]]+\]\(<data:image/svg\+xml,([^<>\n]*)>\)", markdown)
    assert found and "&" not in found[1], markdown  # Markdown reads entities in an address
    return ElementTree.fromstring(unquote(found[1]))


def _places(picture: ElementTree.Element) -> list[float]:
    return [float(n) for d in (e.get("d") or "" for e in picture.iter()) for n in re.findall(r"-?\d+\.?\d*", d)]


def _row(suite: str, value: float) -> dict[str, object]:
    return {"suite": suite, "value": value, "low": value - 0.01, "high": 1.0, "minimum": 0.95, "baseline": 0.97}


def _tick(index: int) -> dict[str, object]:
    weight = (10, 25, 50)[min(index // 100, 2)]
    return {"seconds": float(index), "weight_percent": weight, "requests": 13 * index, "failures": index // 40}


USUAL: dict[str, Callable[[], str]] = {
    "loss": lambda: loss_curve([(step, 8 * math.exp(-step / 60) + 0.1) for step in range(400)], "loss"),
    "latency": lambda: latency_histogram(
        [0.001 * (1 + index % 211) for index in range(800)], 0.3, "latency under load"
    ),
    "evaluation": lambda: evaluation_bars([_row("new_facts", 0.98), _row("base_facts", 0.96)], "candidate and minimum"),
    "canary": lambda: canary_chart([_tick(index) for index in range(300)], "canary"),
}


@pytest.mark.parametrize("name", USUAL)
def test_a_picture_was_hidden_behind_a_link(name: str) -> None:
    markdown = USUAL[name]()
    assert len(markdown) < SHOWN_BELOW
    places = _places(_picture(markdown))
    assert len(places) > 15 and min(places) >= 0 and max(places) <= max(WIDTH, HEIGHT)


@given(st.lists(st.tuples(number, number), max_size=70))
def test_a_loss_curve_broke(points: list[tuple[float, float]]) -> None:
    places = _places(_picture(loss_curve(sorted(points), "loss")))
    assert all(0 <= place <= WIDTH for place in places)


@given(st.lists(st.floats(0, 100), max_size=50), st.floats(0.001, 100))
def test_a_histogram_broke(latencies: list[float], limit: float) -> None:
    assert all(0 <= place <= WIDTH for place in _places(_picture(latency_histogram(latencies, limit, "latency"))))


@given(st.lists(st.tuples(st.text(max_size=20), share, share, share, share, st.none() | share), max_size=12))
def test_bars_broke(rows: list[tuple[str, float, float, float, float, float | None]]) -> None:
    keys = ("suite", "value", "low", "high", "minimum", "baseline")
    shown = [dict(zip(keys, (_printable(name), *rest), strict=True)) for name, *rest in rows]
    picture = _picture(evaluation_bars(shown, "answers"))
    assert all(-1 <= place <= WIDTH for place in _places(picture))
    assert {row["suite"] for row in shown} <= {element.text or "" for element in picture.iter()} | {""}


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=90))
def test_a_canary_s_picture_broke(ticks: list[tuple[int, int, int]]) -> None:
    keys = ("weight_percent", "requests", "failures")
    shown = [{"seconds": float(at), **dict(zip(keys, tick, strict=True))} for at, tick in enumerate(ticks)]
    assert all(0 <= place <= WIDTH for place in _places(_picture(canary_chart(shown, "canary"))))


def test_a_cell_broke_out_of_its_table() -> None:
    assert table(["a"], [["x | y\n<b>"]]) == "| a |\n| --- |\n| x \\| y &lt;b> |"
    with pytest.raises(TypeError, match="needs numbers"):
        canary_chart([{"seconds": "soon", "weight_percent": 1, "requests": 1, "failures": 0}], "canary")


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())
