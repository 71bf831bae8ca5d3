"""How far a rollout is, in a line."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import DONE, PHASES
from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.rollout_line import (
    next_step,
    on_their_way,
    progress_bar,
    standing,
)

NOW = datetime(2026, 11, 24, 10, 15, 42, tzinfo=timezone.utc)
STEPS: list[dict[str, Any]] = [{"hosts": 1, "soak": 60}, {"percent": 25}, {"labels": {"zone": "a"}}]


def rollout(phase: str = "running", step: int = 1, **keys: Any) -> dict[str, Any]:
    """What a module returns about a rollout."""
    given = {"phase": phase, "step": step, "steps": 4, "plan": {"steps": STEPS}, "by": "", "reason": "", "hosts": {}}
    return {**given, "since": "2026-11-24T10:15:30+00:00", **keys}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (rollout(), "step 1 of 4 (1 server)"),
        (rollout(step=2), "step 2 of 4 (25 %)"),
        (rollout(step=3), "step 3 of 4 (zone=a)"),
        (rollout(step=4), "step 4 of 4 (all servers)"),
        (rollout("soaking"), "step 1 of 4 (1 server)  soaks, 48 s of 60 s left"),
        # Clocks differ, or the time is invalid.
        (rollout("soaking", since="2026-11-24T10:20:00+00:00"), "step 1 of 4 (1 server)  soaks for 60 s"),
        (rollout("soaking", since="2026-11-24T10:00:00+00:00"), "step 1 of 4 (1 server)  soaks for 60 s"),
        (rollout("soaking", since="2026-11-24T10:15:30"), "step 1 of 4 (1 server)  soaks for 60 s"),
        (rollout("soaking", since=""), "step 1 of 4 (1 server)  soaks for 60 s"),
        (
            rollout("soaking", proving=["web1"]),
            "step 1 of 4 (1 server)  soaks, 48 s of 60 s left, web1 proves the release once more, as after a boot",
        ),
        (
            rollout("paused", proving=["web1", "web2"]),
            "step 1 of 4 (1 server)  paused, web1 and web2 prove the release once more, as after a boot",
        ),
        (rollout("done", proving=["web1"]), "done"),
        (rollout("paused"), "step 1 of 4 (1 server)  paused"),
        (rollout("paused", by="ann\x1b[2J"), "step 1 of 4 (1 server)  paused by ann\\x1b[2J"),
        (rollout("halted", by="ann"), "step 1 of 4 (1 server)  halted by ann"),
        (rollout("rolling_back"), "step 1 of 4 (1 server)  rolling back"),
        (rollout("rolled_back"), "step 1 of 4 (1 server)  rolled back"),
        (rollout("done", 4), "done"),
        # The plan of a rollout without steps may have some.
        (rollout(steps=1), "step 1 of 1 (all servers)"),
        (rollout(plan=True, steps=1), "step 1 of 1 (all servers)"),
        (rollout(plan={"steps": "of a later version"}), "step 1 of 4"),
        (rollout("soaking", plan=5), "step 1 of 4  soaks"),
        (rollout(plan={"steps": [{"names": ["d", "a", "b", "c"]}]}, steps=2), "step 1 of 2 (a, b, c and 1 more)"),
        (rollout(plan={"steps": [{"hosts": 3}]}, steps=2), "step 1 of 2 (3 servers)"),
    ],
)
def test_step_and_phase_are_shown(given: dict[str, Any], said: str) -> None:
    assert standing(given, NOW) == said


@pytest.mark.parametrize(
    ("done", "whole", "drawn"),
    [(0, 6, "." * 14), (1, 6, "##............"), (6, 6, "#" * 14), (5, 6, "###########..."), (0, 0, "." * 14)],
)
def test_a_bar_is_full_only_where_all_have_it(done: int, whole: int, drawn: str) -> None:
    assert progress_bar(done, whole) == f"[{drawn}]"


def test_a_host_that_has_a_place_is_on_its_way() -> None:
    states = {"a": "admitted", "b": "proved", "c": "urgent", "d": "returning", "e": "lost"}
    assert on_their_way(rollout(hosts={name: {"state": state} for name, state in states.items()})) == ["a", "c", "d"]


def test_each_phase_but_the_end_has_a_next_step() -> None:
    assert {phase for phase in PHASES if not next_step(rollout(phase))} == {DONE}
    assert next_step(rollout("paused")).startswith("promote.yml")
    assert next_step(rollout("halted")).startswith("rollback.yml, or deploy a fix")


def test_at_its_gates_the_next_step_is_first_of_all_to_ask_them() -> None:
    said = next_step(rollout("paused", waits_for="gates"))
    assert said.startswith("whoever waits for it with gates asks them; where nobody does, promote.yml with zoo_gates")
