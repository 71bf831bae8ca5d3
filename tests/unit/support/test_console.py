"""The commands of a page, and which part of their output is missing when they are run again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.console import Command, commands, missing, run

PAGE = """\
```console
$ deploy --ref main
business  bde607fe55 "A page"  (ann@controller, main)

FAILED after 6 s: server1
$ ls
```

```yaml
$ no: command
```

```console
$ cat colour
green
```
"""
SHOWN = ('server3  active  bde607fe55 2026-11-29 08:14:22 proved in step 1, 2.60 s after "A page"',)


def test_the_commands_of_a_page_come_with_what_it_shows_of_their_output(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    failed, listed, green = commands(tmp_path / "page.md")
    assert failed == Command(
        "deploy --ref main",
        ('business  bde607fe55 "A page"  (ann@controller, main)', "FAILED after 6 s: server1"),
    )
    assert (listed, green) == (Command("ls", ()), Command("cat colour", ("green",)))
    assert [one.succeeds for one in (failed, listed, green)] == [False, True, True]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('server1 active 0123456789  2027-01-02 03:04:05 proved in step 1, 11 s after "A page"', []),
        ('  server1 active 0123456789 2027-01-02T03:04:05+00:00 proved in step 1, 11 s after "A page"  ', []),
        ('server3  waiting bde607fe55 2026-11-29 08:14:22 proved in step 1, 2.60 s after "A page"', list(SHOWN)),
        ('server3  active  bde607fe55 2026-11-29 08:14:22 proved in step 2, 2.60 s after "A page"', list(SHOWN)),
        ("", list(SHOWN)),
    ],
)
def test_a_shown_line_is_missing_unless_it_differs_only_in_what_differs_from_run_to_run(
    output: str, expected: list[str]
) -> None:
    assert missing(SHOWN, f"TASK [Publish]\n{output}\n") == expected


def test_a_subject_and_its_publisher_may_differ() -> None:
    shown = ('business  bde607fe55 "A page" -> 22d277b21b "Another"  (ann@controller, main)',)
    assert missing(shown, 'business  0123456789 "x" -> 9876543210 "y z"  (root@vm, main)') == []
    assert missing(shown, 'business  0123456789 "x" -> 9876543210 "y z"  (root@vm, next)') == list(shown)


def test_a_command_is_run_in_its_directory_and_both_outputs_are_one(tmp_path: Path) -> None:
    done = run("pwd; echo $NAME >&2; exit 3", tmp_path, {"NAME": "ann"}, 10)
    assert isinstance(done, subprocess.CompletedProcess)
    assert (done.returncode, done.stdout) == (3, f"{tmp_path}\nann\n")
