"""`status.yml` by agents, with a full history of releases, beside a playbook and a program that show the same."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial

from bench.curve import Point, curve, rounds
from bench.goals.status import create_fleet, playbook_side, program_side, same_file, same_table, status_side
from bench.harness import take_turns
from bench.workbench import Workbench
from zoo_watcher.wire.records import AppPaths

SIZES, QUICK = (10, 100, 1_000, 10_000), (10, 50)
HISTORY = 50
"""Releases in the history, as many as are kept."""


@curve("status", f"The state of a fleet, with a history of {HISTORY} releases", "hosts")
def status(bench: Workbench) -> Iterator[Point]:
    """The table, and the page with all hosts."""
    for size in QUICK if bench.quick else SIZES:
        app = AppPaths(f"/bench/status-{size}")
        create_fleet(bench, app, size, HISTORY)
        tables = {
            "status.yml, table": status_side(bench, app),
            "a module with raw reads, a template": playbook_side(bench, app),
            "the same, no Ansible": program_side(bench, app),
        }
        figures = take_turns(list(tables.values()), partial(same_table, size), rounds(bench))
        pages = [status_side(bench, app, "html"), playbook_side(bench, app, all_agents=True)]
        page, _unused = take_turns(pages, partial(same_file, size), rounds(bench))
        for who, seconds in zip([*tables, "status.yml, page"], [*figures, page]):
            yield Point("seconds", who, size, statistics.median(seconds))
