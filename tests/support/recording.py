"""The README's recording of the quickstart: the timed output of a real run, as an animated SVG.

    PYTHONPATH=tests .venv/bin/python -m support.recording

writes it. The run is shown as that of a fresh clone at `~/zoo.deploy`, with pauses cut to two seconds.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "images" / "quickstart.svg"
COMMAND = "bash playbooks/quickstart.sh"
COLUMNS, ROWS = 116, 28
"""The visible part; longer lines end in an ellipsis."""
WIDTH, HEIGHT, MARGIN, FIRST = 7.3, 18, 16, 44
"""A character's width, a line's height, the margin at each side, and the first line's baseline, in pixels."""
LONGEST_PAUSE = 2.0
LAST = 6.0
"""Seconds for which the end is shown before the recording repeats."""
STEP = re.compile(r"\[\d/\d\] ")
STYLE = """\
.screen { fill: #151b23 }
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
text { fill: #d1d7e0; white-space: pre }
.step { fill: #478be6; font-weight: bold }
.command { fill: #57ab5a }
.warning { fill: #c69026 }
.aside { fill: #9198a1 }
"""


@dataclass(frozen=True)
class Line:
    """A line of output, with the seconds since the run began."""

    seconds: float
    text: str


def drawn(lines: Sequence[Line]) -> str:
    """The SVG of a terminal in which each line appears at its time, repeated after the last."""
    lines = _hastened(lines)
    total = lines[-1].seconds + LAST
    width, height = round(COLUMNS * WIDTH) + 2 * MARGIN, FIRST + ROWS * HEIGHT
    texts = "\n".join(
        f'<text x="{MARGIN}" y="{FIRST + number * HEIGHT}"{_class(line.text)}>{escape(_shortened(line.text))}</text>'
        for number, line in enumerate(lines)
        if line.text
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"
 role="img" aria-labelledby="title">
<title id="title">A recording of {COMMAND}</title>
<style>
{STYLE}\
{_animation("output", [max(0, number - ROWS) for number in range(1, len(lines) + 1)], lines, total, -HEIGHT)}
{_animation("unprinted", [min(number, ROWS) for number in range(1, len(lines) + 1)], lines, total, HEIGHT)}
@media (prefers-reduced-motion) {{ .output, .unprinted {{ animation: none }} }}
</style>
<clipPath id="seen"><rect y="{FIRST - HEIGHT + 6}" width="{width}" height="{ROWS * HEIGHT}"/></clipPath>
<rect class="screen" width="{width}" height="{height}" rx="8"/>
<g fill="#3d444d"><circle cx="18" cy="14" r="5"/><circle cx="36" cy="14" r="5"/><circle cx="54" cy="14" r="5"/></g>
<g clip-path="url(#seen)">
<g class="output">
{texts}
</g>
<rect class="screen unprinted" y="{FIRST - HEIGHT + 6}" width="{width}" height="{height}"/>
</g>
</svg>
"""


def _animation(name: str, rows: Sequence[int], lines: Sequence[Line], total: float, height: int) -> str:
    """The CSS rule that moves a part by so many rows as each line appears; without animation, by the last value."""
    frames = "\n".join(
        f"{100 * line.seconds / total:.3f}% {{ transform: translateY({height * row}px) }}"
        for before, row, line in zip((None, *rows), rows, lines)
        if row != before
    )
    end = f"transform: translateY({height * rows[-1]}px)"
    return f"""\
.{name} {{ {end}; animation: {name} {total:.1f}s step-end infinite }}
@keyframes {name} {{
{frames}
100% {{ {end} }}
}}"""


def _hastened(lines: Sequence[Line]) -> list[Line]:
    """The lines, with each pause between them limited to `LONGEST_PAUSE`."""
    hastened: list[Line] = []
    before = now = 0.0
    for line in lines:
        now += min(line.seconds - before, LONGEST_PAUSE)
        before = line.seconds
        hastened.append(Line(now, line.text))
    return hastened


def _shortened(text: str) -> str:
    return text if len(text) <= COLUMNS else f"{text[: COLUMNS - 1]}…"


def _class(text: str) -> str:
    name = _kind(text)
    return f' class="{name}"' if name else ""


def _kind(text: str) -> str | None:
    if STEP.match(text):
        return "step"
    if text.lstrip().startswith("$ "):
        return "command"
    if "[WARNING]" in text:
        return "warning"
    return "aside" if text.lstrip().startswith("done in ") else None


def recorded(clone: Path) -> Iterator[Line]:
    """The output of a clone's quickstart, line by line, as if the clone were `~/zoo.deploy`."""
    began = time.monotonic()
    yield Line(0.0, f"$ {COMMAND}")
    with subprocess.Popen(
        COMMAND.split(),
        cwd=clone,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        for text in process.stdout:
            yield Line(time.monotonic() - began, _placed(text.rstrip("\n"), clone))
    assert process.returncode == 0, "the quickstart failed"


def _placed(text: str, clone: Path) -> str:
    host = f"{getpass.getuser()}@{os.uname().nodename}"
    places = {f"file://{clone}": "file:///home/ann/zoo.deploy", str(clone): "~/zoo.deploy", host: "ann@laptop"}
    for here, there in places.items():
        text = text.replace(here, there)
    return text


def main() -> None:
    """Record a run, and take it down."""
    with tempfile.TemporaryDirectory(prefix="zoo-recording-") as directory:
        clone = Path(directory, "zoo.deploy")
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        try:
            PICTURE.write_text(drawn(list(recorded(clone))), encoding="utf-8")
        finally:
            subprocess.run([*COMMAND.split(), "down"], cwd=clone, check=True)


if __name__ == "__main__":
    main()
