"""Drawings of the bench."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bench.chart import MARKS, Axis, Panel, Series, draw, ticks

SVG = "{http://www.w3.org/2000/svg}"
POSITIVE = st.floats(min_value=1e-6, max_value=1e9)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 200], [1, 10, 100, 1000]),
        ([3, 70], [2, 5, 10, 20, 50, 100]),
        ([0.012, 0.4], [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]),
        ([10, 100_000], [10, 100, 1_000, 10_000, 100_000]),
        ([5, 5], [5, 10]),
        ([1, 1], [1, 2]),
    ],
)
def test_an_axis_has_round_numbers_around_its_values(values: list[float], expected: list[float]) -> None:
    assert ticks(values) == pytest.approx(expected)


@example([999999999.9999999])
@example([1000.0000000000001])
@given(st.lists(POSITIVE, min_size=1, max_size=20))
def test_every_value_is_between_the_first_tick_and_the_last(values: list[float]) -> None:
    found = ticks(values)
    assert found == sorted(set(found))
    assert len(found) >= 2
    assert found[0] <= min(values)
    assert max(values) <= found[-1]


def test_a_factor_is_the_same_distance_everywhere_on_an_axis() -> None:
    axis = Axis([1, 10, 100], 0, 200)
    assert [axis.place(value) for value in (1, 10, 100)] == pytest.approx([0, 100, 200])
    upward = Axis([1, 10], 300, 100)
    assert upward.place(10**0.5) == pytest.approx(200)


def _drawn() -> str:
    series = [Series("ours & theirs", [(1, 0.5), (100, 2)]), Series("static <file>", [(1, 1), (100, 30)])]
    return draw("Time & memory", "hosts", [Panel("seconds", series), Panel("MB", series[:1])])


def test_a_drawing_is_well_formed_and_says_what_it_shows() -> None:
    root = ET.fromstring(_drawn())
    assert root.findtext(f"{SVG}title") == "Time & memory"
    assert root.findtext(f"{SVG}desc") == "By hosts: seconds: ours & theirs, static <file>; MB: ours & theirs"
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"seconds", "MB", "hosts", "ours & theirs", "static <file>", "100"} <= set(texts)


def test_each_series_is_a_line_with_a_mark_for_its_name_and_for_every_point() -> None:
    root = ET.fromstring(_drawn())
    paths = [path.attrib for path in root.iter(f"{SVG}path")]
    assert [path["class"] for path in paths if path["class"].startswith("series")] == [
        "series s0",
        "series s1",
        "series s0",
    ]
    assert [path["class"] for path in paths].count("m0") == 6
    assert {path["d"] for path in paths if path["class"] == "m1"} == {MARKS[1]}


def test_everything_is_within_the_drawing() -> None:
    root = ET.fromstring(_drawn())
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    places = [(float(text.attrib["x"]), float(text.attrib["y"])) for text in root.iter(f"{SVG}text")]
    for path in root.iter(f"{SVG}path"):
        if path.attrib["class"].startswith("series"):
            numbers = list(map(float, re.findall(r"[\d.]+", path.attrib["d"])))
            places.extend(zip(numbers[::2], numbers[1::2]))
    assert all(0 < x < width and 0 < y < height for x, y in places)


def test_every_colour_differs_in_dark_mode() -> None:
    style = ET.fromstring(_drawn()).findtext(f"{SVG}style") or ""
    light, _query, dark = style.partition("@media (prefers-color-scheme: dark)")
    rules = [dict(re.findall(r"\.(\w+) {[^}]*(#\w{6})", part)) for part in (light, dark)]
    assert rules[0].keys() == rules[1].keys() >= {"paper", "title", "text", "grid", "s0", "m3"}
    assert all(rules[0][name] != rules[1][name] for name in rules[0])
