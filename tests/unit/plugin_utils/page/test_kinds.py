"""The kind of each host."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.records import STATES, AgentStatus
from ansible_collections.zoo.deploy.plugins.plugin_utils.page.kinds import KINDS, kind_of
from support.documents import ROOT

GENERATION = 7
MARK = {"since": "2026-11-24T10:15:30+00:00", "by": "ann", "reason": "disk swap"}
BAD_FILE = {"/etc/x": {"znode": "/c/x", "format": "value", "state": "failed", "zxid": 5}}


def rollout(state: str = "", phase: str = "running") -> dict[str, Any]:
    """A rollout in which the host has this state."""
    return {"phase": phase, "hosts": {"web1": {"state": state}} if state else {}}


def kind(state: str = "active", **keys: Any) -> str:
    """The kind of a host whose status is about generation `of`, while generation `desired` is published."""
    desired, going = keys.pop("desired", GENERATION), keys.pop("going", {})
    came_back = keys.pop("came_back", False)
    status = AgentStatus(name="web1", state=state, generation=keys.pop("of", GENERATION), **keys)
    return kind_of(status, desired, going, came_back=came_back).name


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({}, "proved"),
        ({"state": "failed"}, "failed"),
        ({"state": "rolled_back"}, "failed"),
        # Of an earlier generation: it has not taken up the desired one.
        ({"state": "failed", "of": 6}, "drifted"),
        ({"of": 6}, "drifted"),
        ({"state": "idle", "of": None}, "drifted"),
        ({"state": "fetching"}, "moving"),
        ({"state": "fetching", "waits_for": "commit"}, "stuck"),
        ({"state": "waiting", "of": 6}, "drifted"),
        ({"state": "waiting", "of": 6, "going": rollout()}, "waiting"),
        ({"state": "halted", "going": rollout(phase="halted")}, "waiting"),
        # A host that a rollout has given up has failed, whatever its agent is doing.
        ({"state": "checking", "going": rollout("lost")}, "failed"),
        ({"state": "waiting", "going": rollout("failed")}, "failed"),
        # Once it has proved the release, it no longer counts as failed.
        ({"going": rollout("lost")}, "proved"),
        ({"state": "rolled_back", "came_back": True, "going": rollout("returned")}, "back"),
        ({"state": "rolled_back", "going": rollout("returned")}, "failed"),
        ({"of": 6, "going": rollout("returned", "rolled_back")}, "back"),
        ({"of": 6, "going": rollout("returning", "rolling_back")}, "moving"),
        # It serves what is desired, but something is wrong with it.
        ({"held": MARK}, "degraded"),
        ({"drained": MARK}, "degraded"),
        ({"troubles": ["no permission"]}, "degraded"),
        ({"troubles": "no list"}, "proved"),
        ({"files": BAD_FILE}, "degraded"),
        ({"state": "failed", "held": MARK}, "failed"),
        ({"desired": None, "of": None, "state": "idle"}, "waiting"),
    ],
)
def test_the_kind_of_a_host(host: dict[str, Any], expected: str) -> None:
    assert kind(**host) == expected


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("generation", [None, 6, GENERATION])
def test_a_host_in_any_state_has_a_kind(state: str, generation: int | None) -> None:
    kinds = {
        kind_of(AgentStatus(name="web1", state=state, generation=generation), desired, going)
        for desired in (None, GENERATION)
        for going in ({}, rollout(), rollout("admitted"))
    }
    assert kinds <= {*KINDS}


def test_the_guide_has_each_kind_as_the_page_shows_it() -> None:
    guide = (ROOT / "docs/guides/page.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (.+) \| `(\w+)` \|", guide, re.MULTILINE) == [(kind.title, kind.name) for kind in KINDS]
