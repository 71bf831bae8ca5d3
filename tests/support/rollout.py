"""A rollout as stored in ZooKeeper."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from support.waiting import wait_for
from zoo_watcher.wire.rollout_events import Command, Decision
from zoo_watcher.wire.rollout_records import RolloutRecord
from zoo_watcher.wire.rollout_rules import decide
from zoo_watcher.wire.rollout_writes import change_writes


@dataclass
class Rollout:
    """The rollout of one generation."""

    zk: KazooClient = field(repr=False)
    app: str
    generation: int

    @property
    def root(self) -> str:
        """Its znode."""
        return f"{self.app}/rollouts/{self.generation}"

    @property
    def state(self) -> dict[str, Any]:
        """Its state; empty if it has not begun."""
        try:
            return dict(json.loads(self.zk.retry(self.zk.get, self.root)[0]))
        except NoNodeError:
            return {}

    @property
    def entries(self) -> dict[str, str]:
        """The state of each host in it."""
        below = {**self.values("in_flight"), **self.values("hosts")}
        return {name: json.loads(value)["state"] for name, value in below.items()}

    def values(self, parent: str) -> dict[str, str]:
        """The values of the children of one of its znodes; one that is deleted meanwhile is omitted."""
        values = {}
        for name in sorted(self.zk.get_children(f"{self.root}/{parent}")):
            try:
                values[name] = self.zk.get(f"{self.root}/{parent}/{name}")[0].decode()
            except NoNodeError:
                continue
        return values

    def wait(self, phase: str, seconds: float = 30) -> dict[str, Any]:
        """Wait until it is in a phase, and return its state."""

        def state() -> dict[str, Any] | None:
            now = self.state
            return now if now.get("phase") == phase else None

        try:
            return wait_for(state, f"the rollout is {phase}", seconds) or {}
        except AssertionError as exc:
            entries = Counter(self.entries.values()) if self.state else {}
            lines = {name: self.values(name) for name in ("line", "lanes", "back", "back_lanes")} if self.state else {}
            raise AssertionError(f"{exc}\nstate: {self.state}\nentries: {entries}\nlines: {lines}") from exc

    def command(self, verb: str, **keys: Any) -> Decision:
        """Carry out a person's command: `promote`, `pause` or `halt`."""
        while True:
            data, stat = self.zk.get(self.root)
            state = RolloutRecord.from_node(data)
            decision = decide(state.parsed_plan(), state, Command(verb, "ann", **keys))
            if decision.state is state:
                return decision
            transaction = self.zk.transaction()
            for write in change_writes(self.root, state, stat.version, decision, "2026-01-01T00:00:00+00:00"):
                transaction.set_data(write.path, write.value, write.version)
            if not any(isinstance(result, Exception) for result in transaction.commit()):
                return decision
