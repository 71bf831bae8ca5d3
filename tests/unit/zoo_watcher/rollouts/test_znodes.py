"""What a host writes in a rollout of thousands of hosts, whose state changes many times a second."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from support.simulated_fleet import BAD, NEW, OLD, URL, Ensemble, FakeSession, Node
from zoo_watcher.rollouts.znodes import RolloutZnodes
from zoo_watcher.wire.records import PROVED_AT, AgentStatus, AppPaths, Release, RosterEntry
from zoo_watcher.wire.rollout_events import Outcome
from zoo_watcher.wire.rollout_phases import DONE, HALTED, ROLLING_BACK
from zoo_watcher.wire.rollout_records import ADMITTED, FAILED, PROVED, HostEntry, RolloutRecord, begin
from zoo_watcher.wire.rollout_writes import CREATE, SET, Write, begin_writes

PATHS = AppPaths("/app/shop")
ROOT = PATHS.rollout(7)


class SlowSession(FakeSession):
    """A session of a large fleet, in which another host changes the state while the agents are listed."""

    def begin_list(self, path: str) -> Callable[[], list[str]]:
        """As in `Session`, after a change of the state by another host."""
        if path == PATHS.agents:
            self._ensemble.apply([Write(SET, ROOT, self._ensemble.nodes[ROOT].data, -1)])
        return super().begin_list(path)


def test_a_step_of_labels_counts_the_hosts_of_the_roster_that_have_them() -> None:
    ensemble = Ensemble()
    plan = {"steps": [{"labels": {"zone": "a"}}]}
    state = begin(Release(URL, NEW, "shop"), plan, Release(URL, OLD, "shop"), 3)
    ensemble.apply(begin_writes(ROOT, state, ""))
    session = FakeSession(ensemble, random.Random(0), 0.0)
    for name, zone in {"web0": "a", "web1": "b", "web2": "a"}.items():
        session.create(PATHS.agent(name), b"{}", ephemeral=True)
        session.create(PATHS.roster_entry(name), RosterEntry(name=name, labels={"zone": zone}).to_node())
    session.create(PATHS.agent("web3"), b"{}", ephemeral=True)
    session.create(PATHS.roster_entry("web3"), b"[" * 100_000)
    # A znode that outlasts its session is not a host's.
    session.create(PATHS.agent("web4"), b"{}")
    session.create(PATHS.roster_entry("web4"), RosterEntry(name="web4", labels={"zone": "a"}).to_node())
    znodes = RolloutZnodes(session, PATHS, 7, "web0")  # type: ignore[arg-type]
    view = znodes.read("web0")
    assert view is not None
    assert znodes.count(view).left == 2


def test_the_failure_that_stops_a_rollout_is_written_however_fast_the_others_progress() -> None:
    ensemble = Ensemble()
    state = begin(Release(URL, NEW, "shop"), {"maxInFlight": 2}, Release(URL, OLD, "shop"), 1500)
    state = replace(state, counts={**state.counts, ADMITTED: 1})
    entry = Write(CREATE, f"{ROOT}/in_flight/web0", HostEntry(ADMITTED).to_node())
    ensemble.apply([*begin_writes(ROOT, state, ""), entry])
    znodes = RolloutZnodes(SlowSession(ensemble, random.Random(0), 0.0), PATHS, 7, "web0")  # type: ignore[arg-type]

    def note() -> bool:
        view = znodes.read("web0")
        assert view is not None
        decision = znodes.decide(view, Outcome("web0", ADMITTED, FAILED, "status 404"))
        return znodes.write(view, decision, "web0", "status 404")

    assert any(note() for _try in range(3))
    assert RolloutRecord.from_node(ensemble.nodes[ROOT].data).phase == HALTED


def test_an_entry_has_the_step_in_which_its_host_was_admitted_whatever_becomes_of_it_later() -> None:
    ensemble = Ensemble()
    plan = {"steps": [{"hosts": 1}], "maxFailures": 5}
    state = replace(begin(Release(URL, NEW, "shop"), plan, Release(URL, OLD, "shop"), 3), step=1)
    for number, step in enumerate((0, None)):
        state = replace(state, counts={**state.counts, ADMITTED: number + 1})
        entry = Write(CREATE, f"{ROOT}/in_flight/web{number}", HostEntry(ADMITTED, step=step).to_node())
        ensemble.apply(
            [*(begin_writes(ROOT, state, "") if number == 0 else [Write(SET, ROOT, state.to_node())]), entry]
        )
    for name, step in {"web0": 0, "web1": 1}.items():
        znodes = RolloutZnodes(FakeSession(ensemble, random.Random(0), 0.0), PATHS, 7, name)  # type: ignore[arg-type]
        view = znodes.read(name)
        assert view is not None
        assert znodes.write(
            view, znodes.decide(view, Outcome(name, ADMITTED, FAILED, "status 404")), name, "status 404"
        )
        assert HostEntry.from_node(ensemble.nodes[f"{ROOT}/hosts/{name}"].data).step == step


class LateSession(FakeSession):
    """A session whose first write comes too late: hosts that had the release report it first."""

    def commit(self, writes: list[Write]) -> bool:
        """As in `Session`, after hosts have reported that they had the release."""
        state = RolloutRecord.from_node(self._ensemble.nodes[ROOT].data)
        if not state.had:
            say_that_they_had_it(self._ensemble, state, 40)
        return super().commit(writes)


def say_that_they_had_it(ensemble: Ensemble, state: RolloutRecord, number: int) -> None:
    """Give the first `number` hosts that had the release without an entry an entry."""
    after = replace(state, had=number, counts={**state.counts, PROVED: number})
    entries = [Write(CREATE, f"{ROOT}/hosts/web{one}", HostEntry(PROVED).to_node()) for one in range(1, number + 1)]
    ensemble.apply([Write(SET, ROOT, after.to_node(), -1), *entries])


def test_a_host_that_reports_that_it_had_the_release_while_a_failure_is_written_is_not_counted_twice() -> None:
    """40 of 100 hosts had it, which is not most, so the release is bad and is rolled back."""
    ensemble = Ensemble()
    state = begin(Release(URL, NEW, "shop"), {"onFailure": "rollback"}, Release(URL, OLD, "shop"), 100)
    state = replace(state, counts={**state.counts, ADMITTED: 1})
    entry = Write(CREATE, f"{ROOT}/in_flight/web0", HostEntry(ADMITTED).to_node())
    ensemble.apply([*begin_writes(ROOT, state, ""), entry])
    for number in range(100):
        status = AgentStatus(name=f"web{number}", state="active", commit_id=NEW if 1 <= number <= 40 else OLD)
        ensemble.apply([Write(CREATE, PATHS.agent(f"web{number}"), status.to_node())])
    znodes = RolloutZnodes(LateSession(ensemble, random.Random(0), 0.0), PATHS, 7, "web0")  # type: ignore[arg-type]

    def note() -> bool:
        view = znodes.read("web0")
        assert view is not None
        decision = znodes.decide(view, Outcome("web0", ADMITTED, FAILED, "status 404"))
        return znodes.write(view, decision, "web0", "status 404")

    assert [note() for _try in range(2)] == [False, True]
    assert RolloutRecord.from_node(ensemble.nodes[ROOT].data).phase == ROLLING_BACK
    assert PATHS.bad(NEW) in ensemble.nodes


class TrimmingSession(FakeSession):
    """A session that can also delete what is below a znode."""

    def delete_below(self, path: str) -> None:
        """As in `Session`."""
        for name in self._ensemble.children(path):
            self.delete_below(f"{path}/{name}")
        self.delete(path)


COPIED = [(30 + number) << 32 for number in range(10)]
"""The generations of an ensemble that has had many leaders."""


def add_proved(ensemble: Ensemble, generation: int, commit: str) -> None:
    """Add a rollout that is done."""
    state = begin(Release(URL, commit, "shop"), True, None, 3)
    state = replace(state, phase=DONE, counts={**state.counts, PROVED: 3})
    ensemble.apply([Write(CREATE, PATHS.rollout(generation), state.to_node())])


def copied_application() -> tuple[Ensemble, RolloutZnodes]:
    """An application that was copied to another ensemble with its rollouts, and has had two new ones since.

    A third one is published.
    """
    ensemble = Ensemble()
    for generation in COPIED:
        add_proved(ensemble, generation, OLD)
    for commit in (OLD, BAD):
        add_proved(ensemble, ensemble.zxid, commit)
    published = ensemble.zxid
    session = TrimmingSession(ensemble, random.Random(0), 0.0)
    return ensemble, RolloutZnodes(session, PATHS, published, "web0")  # type: ignore[arg-type]


def test_rollouts_that_were_copied_from_another_ensemble_do_not_determine_the_stable_release() -> None:
    """Whatever numbers they have, rollouts of another ensemble are older than all that was published here."""
    ensemble, znodes = copied_application()
    assert znodes.begin(Release(URL, NEW, "shop"), True)
    stable = RolloutRecord.from_node(ensemble.nodes[znodes.root].data).stable
    assert stable
    assert stable["commitId"] == BAD


def test_rollouts_that_were_copied_from_another_ensemble_are_deleted_first() -> None:
    ensemble, znodes = copied_application()
    assert znodes.begin(Release(URL, NEW, "shop"), True)
    znodes.trim()
    kept = sorted(map(int, ensemble.children(PATHS.rollouts)))
    assert len(kept) == 10
    assert kept[:3] == [znodes.generation - 2, znodes.generation - 1, znodes.generation]


def test_the_newest_release_counts_in_a_history_that_was_copied_in_one_transaction() -> None:
    """Its entries have the same generation, and a server lists them in any order."""
    ensemble = Ensemble()
    for number, commit in ((2, BAD), (3, NEW), (1, OLD)):
        entry = Release(URL, commit, "shop", extra={PROVED_AT: "2026-11-24T10:15:30+00:00"})
        ensemble.nodes[f"{PATHS.history}/release-{number:010d}"] = Node(entry.to_node(), czxid=7)
    znodes = RolloutZnodes(FakeSession(ensemble, random.Random(0), 0.0), PATHS, 8, "web0")  # type: ignore[arg-type]
    assert znodes.begin(Release(URL, "d" * 40, "shop"), True)
    stable = RolloutRecord.from_node(ensemble.nodes[znodes.root].data).stable
    assert stable
    assert stable["commitId"] == NEW
