"""What counts as waiting for a fleet: connecting to the ensemble does too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, Release
from ansible_collections.zoo.deploy.plugins.module_utils.releases import Published
from ansible_collections.zoo.deploy.plugins.modules import zk_fleet_info


@pytest.mark.parametrize(("seconds", "left"), [(10.0, 3.0), (5.0, 0.0)])
def test_the_connection_is_a_part_of_the_wait(monkeypatch: pytest.MonkeyPatch, seconds: float, left: float) -> None:
    clock = [1000.0]

    @contextlib.contextmanager
    def connect(*_options: Any) -> Iterator[None]:
        clock[0] += 7.0
        yield

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(zk_fleet_info, "connect", connect)
    found = {"agents": ["a"], "release": None}
    monkeypatch.setattr(zk_fleet_info, "gather", lambda _client, options: {**found, "left": options["wait_timeout"]})
    options = {name: option.get("default") for name, option in zk_fleet_info.argument_spec().items()}
    given = {**options, "wait_for_release": "desired", "wait_timeout": seconds}
    assert zk_fleet_info.run(given)[0]["left"] == left


def test_an_abbreviated_commit_of_digits_only_is_not_a_generation_in_a_later_turn() -> None:
    """The first turn, which the ensemble did not answer, has found no generation to follow."""
    release = Release("https://git.example.org/shop", "1234567".ljust(40, "a"), "shop")
    turn = {"left": 20.0, "generation": None}
    given = {"wait_for_release": "1234567", "agents": None, "accept_waiting": False, "_turn": turn}
    found = zk_fleet_info.release_proof(AppPaths(), Published(5, 0, release), given)
    assert found.generation == 5
