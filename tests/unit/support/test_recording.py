"""The SVG of a recording, as a browser would read it; and whether the README's shows the current quickstart."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from support.recording import COLUMNS, COMMAND, LONGEST_PAUSE, PICTURE, ROOT, ROWS, Line, drawn

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture: str) -> list[str]:
    """The lines in a picture that are not empty."""
    return [element.text or "" for element in ET.fromstring(picture).iter(f"{SVG}text")]


def moves(picture: str, name: str) -> list[tuple[float, int]]:
    """The percentages of the time at which a part is moved, each with the number of pixels."""
    frames = picture.partition(f"@keyframes {name} {{")[2].partition("}\n}")[0]
    return [(float(at), int(by)) for at, by in re.findall(r"^([\d.]+)% .*\((-?\d+)px", frames, re.MULTILINE)]


def test_every_line_is_in_the_picture_as_it_was_printed() -> None:
    printed = ["$ a <b> & 'c'", "", "  indented  ", "[1/9] a step", "ü" * (COLUMNS + 1)]
    shown = texts(drawn([Line(number, text) for number, text in enumerate(printed)]))
    assert shown == ["$ a <b> & 'c'", "  indented  ", "[1/9] a step", "ü" * (COLUMNS - 1) + "…"]


def test_lines_appear_one_by_one_and_the_terminal_scrolls_once_it_is_full() -> None:
    picture = drawn([Line(number, f"{number}") for number in range(ROWS + 3)])
    appeared, scrolled = moves(picture, "unprinted"), moves(picture, "output")
    height = appeared[0][1]
    assert [by // height for _at, by in appeared] == [*range(1, ROWS + 1), ROWS]
    assert [by // height for _at, by in scrolled] == [0, -1, -2, -3, -3]
    assert [at for at, _by in appeared] == sorted(at for at, _by in appeared)
    assert scrolled[1][0] > appeared[ROWS - 1][0]


def test_a_long_pause_is_cut_and_a_short_one_is_not() -> None:
    picture = drawn([Line(0, "a"), Line(LONGEST_PAUSE / 2, "b"), Line(100, "c")])
    first, second, third, _end = (at for at, _by in moves(picture, "unprinted"))
    assert round((third - second) / (second - first), 2) == 2


def test_the_readmes_recording_has_the_steps_of_the_quickstart_and_no_path_of_the_machine_it_was_made_on() -> None:
    script = (ROOT / "playbooks" / "quickstart.sh").read_text()
    steps = [first or second for first, second in re.findall(r"^    step (?:'(.*)'|\"(.*)\")$", script, re.MULTILINE)]
    shown = texts(PICTURE.read_text(encoding="utf-8"))
    assert shown[0] == f"$ {COMMAND}"
    assert [line for line in shown if re.match(r"\[\d", line)] == [
        f"[{number}/{len(steps)}] {step}" for number, step in enumerate(steps, 1)
    ]
    assert not [line for line in shown if re.search(r"/(work|root|tmp|var)/|root@", line)]
