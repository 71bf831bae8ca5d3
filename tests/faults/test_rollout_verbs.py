"""Promote, pause, halt and roll back, with and without force, in every phase: the real module and real znodes."""

from __future__ import annotations

import contextlib
import io
import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import pytest
from ansible.module_utils import basic
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils import rollouts
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.fleet import readable_children
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths
from ansible_collections.zoo.deploy.plugins.module_utils.releases import read_published
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_events import Command
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import (
    DONE,
    HALTED,
    PAUSED,
    PHASES,
    ROLLED_BACK,
    ROLLING_BACK,
    RUNNING,
    SOAKING,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import (
    GATES,
    PROVED,
    Gate,
    HostEntry,
    RolloutPaths,
    RolloutRecord,
)
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_steering import Proving, command, still_prove
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_writes import begin_writes
from ansible_collections.zoo.deploy.plugins.module_utils.rollouts import Rollout, read_rollout, read_state
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import Node
from ansible_collections.zoo.deploy.plugins.modules import zk_release
from faults.support.ledger import COMMANDS, Ledger
from support.client import connected
from support.ensemble import Ensemble

pytestmark = pytest.mark.storm
OLD = {"url": "https://example.org/x.git", "commitId": "1" * 40, "relativePath": "site"}
NEW = {**OLD, "commitId": "2" * 40}
PLAN = {"steps": [{"hosts": 1, "soak": 60, "pause": True}, {"hosts": 2}]}
LAST = 2
"""The index of the plan's last step, the entire fleet."""
STATES = {"promote": "promoted", "pause": "paused", "halt": "halted", "rollback": "rolled_back"}
HELD = "paused by a person"
"""The phase `paused` goes on in two ways: after a step, and where a person paused it within one."""
SITUATIONS = (*PHASES, HELD)
HOSTS = {
    RUNNING: {"web1": "admitted"},
    HALTED: {"web1": "failed", "web2": "admitted"},
    ROLLING_BACK: {"web1": "failed", "web2": "returning"},
    ROLLED_BACK: {"web1": "returned", "web2": "returned"},
}
"""The entries of the hosts in a phase, where they are not a single proved one."""
WENT_WRONG = {HALTED, ROLLING_BACK, ROLLED_BACK}

NO = "refused: the rollout is {}: web1 failed"
ANSWERS: dict[tuple[str, str], tuple[str, int] | str] = {
    ("promote", RUNNING): (RUNNING, 1),
    ("promote", SOAKING): (RUNNING, 1),
    ("promote", PAUSED): (RUNNING, 1),
    ("promote", HELD): (RUNNING, 0),
    ("promote", HALTED): NO.format("halted"),
    ("pause", RUNNING): (PAUSED, 0),
    ("pause", SOAKING): (PAUSED, 0),
    ("pause", PAUSED): "it is paused already",
    ("pause", HELD): "it is paused already",
    ("pause", HALTED): NO.format("halted"),
    ("halt", RUNNING): (HALTED, 0),
    ("halt", SOAKING): (HALTED, 0),
    ("halt", PAUSED): (HALTED, 0),
    ("halt", HELD): (HALTED, 0),
    ("halt", HALTED): "it is halted already",
    **{(verb, ROLLING_BACK): NO.format("rolling back") for verb in ("promote", "pause", "halt")},
    **{(verb, ROLLED_BACK): NO.format("rolled back") for verb in ("promote", "pause", "halt")},
    **{(verb, DONE): "the rollout is done" for verb in ("promote", "pause", "halt")},
}
"""The phase and step that a verb leads to, or why there is nothing to do."""
BY_FORCE: dict[tuple[str, str], tuple[str, int] | str] = {("promote", HALTED): (RUNNING, 0)}
"""The answers that differ with force."""


class Case(NamedTuple):
    """One command in one situation."""

    verb: str
    situation: str
    force: bool

    @property
    def phase(self) -> str:
        """The phase of the rollout before the command."""
        return PAUSED if self.situation == HELD else self.situation

    def state(self) -> RolloutRecord:
        """The rollout before the command."""
        entries = list(HOSTS.get(self.phase, {"web1": "proved"}).values())
        return RolloutRecord(
            plan=PLAN,
            release=NEW,
            stable=OLD,
            phase=self.phase,
            step=LAST if self.phase == DONE else 0,
            fleet=4,
            places=2,
            counts={entry: entries.count(entry) for entry in entries},
            resumes=RUNNING if self.situation == HELD else SOAKING,
            moves=5,
            reason="web1 failed" if self.phase in WENT_WRONG else "",
        ).dated("2026-01-01T00:00:00+00:00")


def name_of(case: Case) -> str:
    """A case in words."""
    return f"{case.verb} {case.situation}{' by force' if case.force else ''}"


CASES = [Case(*words) for words in product(STATES, SITUATIONS, [False, True])]


class Done(NamedTuple):
    """The result of a command: the module's answer, and the rollout before and after."""

    answer: dict[str, Any]
    before: Rollout
    after: Rollout
    paths: AppPaths


def put(zk: KazooClient, paths: AppPaths, case: Case) -> Rollout:
    """Write the znodes of an application in this situation."""
    proved = json.dumps({**OLD, "provedAt": "2026-01-01T00:00:00+00:00"}).encode()
    for parent in (paths.history, paths.agents, paths.rollouts, f"{paths.root}/bad"):
        zk.ensure_path(parent)
    zk.create(paths.history_prefix, proved, sequence=True)
    zk.create(paths.config, json.dumps({**NEW, "rollout": PLAN}).encode())
    generation = zk.exists(paths.config).mzxid
    root = paths.rollout(generation)
    transaction, state = zk.transaction(), case.state()
    for write in begin_writes(root, state, state.since):
        transaction.create(write.path, write.value)
    for name, entry in HOSTS.get(case.phase, {"web1": "proved"}).items():
        transaction.create(RolloutPaths(root).entry(name, entry), HostEntry(entry, state.since).to_node())
    assert not [result for result in transaction.commit() if isinstance(result, Exception)]
    found = read_rollout(zk, paths, generation)
    assert found
    return found


@pytest.fixture(scope="module")
def done(ensemble: Ensemble, ledger: Ledger) -> Iterator[dict[Case, Done]]:
    """All commands, each in an application of its own."""
    for case in CASES:
        ledger.see_rollout(f"{case.verb} in each phase, by force and without")
    with connected(ensemble.hosts) as zk:
        yield {case: give(zk, ensemble, case) for case in CASES}


def give(zk: KazooClient, ensemble: Ensemble, case: Case) -> Done:
    """Give a command."""
    paths = AppPaths(f"/app/{uuid.uuid4().hex[:12]}")
    before = put(zk, paths, case)
    options = {"hosts": ensemble.hosts, "app": paths.root, "state": STATES[case.verb], "force": case.force}
    because = {} if case.verb == "rollback" else {"reason": "because"}
    answer = run_here(zk_release.main, **options, **because, publisher="ann", wait=False)
    zk.sync(paths.root)  # the command had its own session, maybe at another member
    after = read_rollout(zk, paths, before.generation)
    assert after
    return Done(answer, before, after, paths)


def run_here(main: Callable[[], None], **options: Any) -> dict[str, Any]:
    """Run a module in this process, with options as Ansible passes them: a new process takes a second. Its result."""
    given, printed = json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(basic, "_ANSIBLE_ARGS", given)
        patch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        with pytest.raises(SystemExit):
            main()
    return {"failed": False, "changed": False, **json.loads(printed.getvalue())}


@pytest.mark.parametrize("case", [case for case in CASES if case.verb != "rollback"], ids=name_of)
def test_a_verb_changes_the_rollout_or_says_why_not(case: Case, done: dict[Case, Done], ledger: Ledger) -> None:
    answer, before, after, _paths = done[case]
    expected = (BY_FORCE if case.force else {}).get((case.verb, case.situation), ANSWERS[case.verb, case.situation])
    is_answered = answer["changed"] if isinstance(expected, tuple) else str(answer.get("msg")).endswith(expected)
    ledger.judge(COMMANDS, "" if is_answered else f"{name_of(case)}: expected {expected}, got {answer}")
    if isinstance(expected, str):
        assert answer["failed"] is expected.startswith("refused")
        assert answer["msg"].endswith(expected)
        assert not answer["changed"]
        assert after == before
        return
    assert (answer["failed"], answer["changed"]) == (False, True), answer.get("msg")
    found = after.state
    assert (found.phase, found.step, found.moves) == (*expected, before.state.moves + 1)
    assert (found.by, found.reason) == ("ann", "because")
    assert after.version == before.version + 1
    assert after.entries == before.entries
    changed = {"phase", "step", "moves", "by", "reason", "since", "forgiven", "forgives", "resumes"}
    assert (found.forgiven, found.forgives) == ((1, found.moves) if case.phase == HALTED else (0, 0))
    assert replace(found, **{name: getattr(before.state, name) for name in changed}) == before.state
    assert (answer["rollout"]["phase"], answer["rollout"]["step"]) == (expected[0], expected[1] + 1)


def test_the_gate_agrees_with_the_state(zk: KazooClient, done: dict[Case, Done]) -> None:
    for case in CASES:
        _answer, _before, after, paths = done[case]
        gate = Gate.from_node(zk.get(RolloutPaths(paths.rollout(after.generation)).gate)[0])
        assert gate == after.state.gate, case


def test_a_verb_recreates_deleted_parts_of_a_rollout(zk: KazooClient, app: str) -> None:
    """Without the gate no phase could change, and without the parents of its entries no host could be admitted."""
    paths = AppPaths(app)
    before = put(zk, paths, Case("halt", RUNNING, force=False))
    below = RolloutPaths(paths.rollout(before.generation))
    for lost in (below.gate, below.in_flight, below.line, below.lanes):
        zk.delete(lost, recursive=True)
    foretold = command(zk, paths, read_published(zk, paths), Command("halt", "ann"), writes=False)
    assert foretold.decision.state.phase == HALTED
    assert not zk.exists(below.gate)
    halted = command(zk, paths, read_published(zk, paths), Command("halt", "ann")).rollout.state
    assert halted.phase == HALTED
    assert Gate.from_node(zk.get(below.gate)[0]) == halted.gate
    assert set(zk.get_children(below.root)) == {
        "gate",
        "hosts",
        "in_flight",
        "proving",
        "line",
        "lanes",
        "back",
        "back_lanes",
    }


def test_a_halt_is_not_lost_while_hosts_advance_all_the_time(
    zk: KazooClient, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entries of thousands of hosts take long to read, and meanwhile the state changes."""
    paths = AppPaths(app)
    root = paths.rollout(put(zk, paths, Case("halt", RUNNING, force=False)).generation)

    def read_slowly(client: KazooClient, parent: str) -> list[Node]:
        zk.set(root, zk.get(root)[0])
        return readable_children(client, parent)

    monkeypatch.setattr(rollouts, "readable_children", read_slowly)
    halted = command(zk, paths, read_published(zk, paths), Command("halt", "ann"))
    assert halted.rollout.state.phase == HALTED
    assert set(halted.rollout.entries) == {"web1"}


def test_a_commit_that_all_have_proved_is_not_bad_where_a_person_ends_the_last_soak(zk: KazooClient, app: str) -> None:
    paths = AppPaths(app)
    before = put(zk, paths, Case("promote", SOAKING, force=False))
    root = paths.rollout(before.generation)
    soaks = {"steps": [{"hosts": "100%", "soak": 300}]}
    zk.set(root, replace(before.state, plan=soaks, step=0, counts={"proved": 1}).to_node())
    mark = paths.bad(str(before.state.release["commitId"]))
    zk.create(mark, b'{"reason": "web1 failed"}', makepath=True)
    done = command(zk, paths, read_published(zk, paths), Command("promote", "ann")).rollout.state
    assert done.has_proved
    assert not zk.exists(mark)


@pytest.mark.parametrize("verb", ["promote", "pass"])
def test_no_further_step_is_opened_while_proved_hosts_are_not_live_unless_forced(
    zk: KazooClient, app: str, verb: str
) -> None:
    """The release takes its canary down after the soak, while the rollout waits for a person or for its gates."""
    paths = AppPaths(app)
    before = put(zk, paths, Case("promote", PAUSED, force=False))
    if verb == "pass":
        waits = replace(before.state, waits_for=GATES, plan={"steps": [{"hosts": 1, "gate": True}]})
        zk.set(paths.rollout(before.generation), waits.to_node())
    zk.create(paths.roster_entry("web1"), b"{}", makepath=True)
    published = read_published(zk, paths)
    with pytest.raises(ZooKeeperError, match="web1 has proved the release and is not live any more: no further step"):
        command(zk, paths, published, Command(verb, "ann"))
    assert command(zk, paths, published, Command("pause", "ann"), writes=False)
    zk.create(paths.agent("web1"), b"{}")
    assert command(zk, paths, published, Command(verb, "ann"), writes=False).decision.state.step == 1
    zk.delete(paths.agent("web1"))
    forced = command(zk, paths, published, Command(verb, "ann", force=True), writes=False)
    assert forced.decision.state.step == 1
    zk.delete(paths.roster_entry("web1"))
    assert command(zk, paths, published, Command(verb, "ann")).decision.state.step == 1


def test_no_step_is_promoted_while_a_proved_host_proves_it_once_more_unless_forced(zk: KazooClient, app: str) -> None:
    """The canary reboots while the rollout waits for a person: only its checks can tell whether it survives that."""
    paths = AppPaths(app)
    before = put(zk, paths, Case("promote", PAUSED, force=False))
    proving = f"{RolloutPaths(paths.rollout(before.generation)).proving}/web1"
    zk.create(proving, b"", ephemeral=True, makepath=True)
    published = read_published(zk, paths)
    with pytest.raises(ZooKeeperError, match="web1 proves the release once more, as after a boot: no further step"):
        command(zk, paths, published, Command("promote", "ann"))
    assert command(zk, paths, published, Command("pause", "ann"), writes=False)
    forced = command(zk, paths, published, Command("promote", "ann", force=True), writes=False)
    assert forced.decision.state.step == 1
    zk.delete(proving)
    assert command(zk, paths, published, Command("promote", "ann")).decision.state.step == 1


def test_gates_open_no_step_until_a_proved_host_has_proved_the_release_once_more(zk: KazooClient, app: str) -> None:
    paths = AppPaths(app)
    before = put(zk, paths, Case("promote", PAUSED, force=False))
    waits = replace(before.state, waits_for=GATES, plan={"steps": [{"hosts": 1, "gate": True}]})
    zk.set(paths.rollout(before.generation), waits.to_node())
    proving = f"{RolloutPaths(paths.rollout(before.generation)).proving}/web1"
    zk.create(proving, b"", ephemeral=True, makepath=True)
    published = read_published(zk, paths)
    given = {"verb": "pass", "by": "the gates", "reason": "", "moves": waits.moves}
    options = {"publisher": "ann", "force": False, "_command": given}
    refused = zk_release.carry_out(zk, paths, published, options)
    why = "web1 proves the release once more, as after a boot: no further step is opened meanwhile"
    assert refused == {"_note": f"{why}; the gates are asked again after that", "_proving": ["web1"]}
    assert still_prove(zk, paths, before.generation, ["web1"], time.monotonic())
    with ThreadPoolExecutor(1) as pool:
        proof = pool.submit(still_prove, zk, paths, before.generation, ["web1"], time.monotonic() + 60)
        zk.delete(proving)
        assert not proof.result(60)
    assert zk_release.carry_out(zk, paths, published, options) == {"_obeyed": True}
    opened = read_state(zk, paths, before.generation)
    assert opened
    assert opened.state.step == 1
    assert zk_release.carry_out(zk, paths, published, options)["_note"].startswith("that comes too late")


def test_a_proved_host_that_is_not_live_keeps_no_step_closed_where_the_plan_accepts_it(
    zk: KazooClient, app: str
) -> None:
    paths = AppPaths(app)
    before = put(zk, paths, Case("promote", PAUSED, force=False))
    zk.set(paths.rollout(before.generation), replace(before.state, plan={**PLAN, "maxFailures": 1}).to_node())
    zk.create(paths.roster_entry("web1"), b"{}", makepath=True)
    assert command(zk, paths, read_published(zk, paths), Command("promote", "ann")).decision.state.step == 1


def test_a_person_cannot_end_the_last_soak_while_proved_hosts_are_not_live(zk: KazooClient, app: str) -> None:
    paths = AppPaths(app)
    before = put(zk, paths, Case("promote", SOAKING, force=False))
    soaks = {"steps": [{"hosts": "100%", "soak": 300}]}
    root = paths.rollout(before.generation)
    zk.set(root, replace(before.state, plan=soaks, step=0, counts={"proved": 1}).to_node())
    zk.create(paths.roster_entry("web1"), b"{}", makepath=True)
    published = read_published(zk, paths)
    with pytest.raises(
        ZooKeeperError, match="web1 has proved the release and is not live any more: the rollout is not"
    ):
        command(zk, paths, published, Command("promote", "ann"))
    assert command(zk, paths, published, Command("promote", "ann", force=True)).rollout.state.has_proved


def test_a_host_that_is_not_live_and_proves_the_release_once_more_counts_once(zk: KazooClient, app: str) -> None:
    paths = AppPaths(app)
    before = put(zk, paths, Case("promote", PAUSED, force=False))
    zk.set(paths.rollout(before.generation), replace(before.state, plan={**PLAN, "maxFailures": 1}).to_node())
    zk.create(paths.roster_entry("web1"), b"{}", makepath=True)
    proving = RolloutPaths(paths.rollout(before.generation)).proving
    zk.create(f"{proving}/web1", b"", ephemeral=True, makepath=True)
    assert command(zk, paths, read_published(zk, paths), Command("promote", "ann")).decision.state.step == 1


@pytest.mark.parametrize(("gone", "failures"), [("web2", 1), ("web1", 0)])
def test_gates_wait_for_a_host_that_proves_once_more_where_the_missing_one_is_accepted_or_the_same(
    zk: KazooClient, app: str, gone: str, failures: int
) -> None:
    """A host that reboots has a new session before it has a status."""
    paths = AppPaths(app)
    before = put(zk, paths, Case("promote", PAUSED, force=False))
    below = RolloutPaths(paths.rollout(before.generation))
    plan = {"steps": [{"hosts": 1, "gate": True}], "maxFailures": failures}
    zk.set(paths.rollout(before.generation), replace(before.state, waits_for=GATES, plan=plan).to_node())
    zk.create(paths.roster_entry(gone), b"{}", makepath=True)
    if gone != "web1":
        zk.create(below.entry(gone, PROVED), HostEntry(PROVED).to_node())
    zk.create(f"{below.proving}/web1", b"", ephemeral=True, makepath=True)
    with pytest.raises(Proving, match=r"^[^:]+: web1 proves the release once more, as after a boot: no further step"):
        command(zk, paths, read_published(zk, paths), Command("pass", "the gates"))


@pytest.mark.parametrize(("by", "step"), [("ann", 1), ("bob", 0)])
def test_the_gates_of_a_person_count_as_that_person(zk: KazooClient, app: str, by: str, step: int) -> None:
    paths = AppPaths(app)
    before = put(zk, paths, Case("promote", RUNNING, force=False))
    zk.set(paths.rollout(before.generation), replace(before.state, by="the gates of ann").to_node())
    assert command(zk, paths, read_published(zk, paths), Command("promote", by)).rollout.state.step == step


@pytest.mark.parametrize("case", [case for case in CASES if case.verb == "rollback"], ids=name_of)
def test_a_rollback_publishes_the_previous_release_whatever_the_state_of_the_rollout(
    case: Case, zk: KazooClient, done: dict[Case, Done]
) -> None:
    answer, before, after, paths = done[case]
    assert (answer["failed"], answer["changed"]) == (False, True), answer.get("msg")
    published = read_published(zk, paths)
    assert published.release
    assert published.generation == answer["generation"] != before.generation
    assert published.release.commit_id == OLD["commitId"]
    assert published.release.extra == {"rolledBackFrom": NEW["commitId"], "rollout": PLAN}
    assert after == before, "what nobody desires any more is left as it is"


@pytest.mark.parametrize("read", ["lock", "state"])
def test_a_verb_is_obeyed_in_a_rollout_whose_state_keeps_changing(
    ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    """Hosts change the state whenever the lock is read, or as often as a busy fleet does while the state is read."""
    paths = AppPaths(f"/app/{uuid.uuid4().hex[:12]}")
    with connected(ensemble.hosts) as zk:
        before = put(zk, paths, Case("promote", RUNNING, force=False))
        published, get = read_published(zk, paths), zk.get
        root, left = paths.rollout(before.generation), [1000 if read == "lock" else 30]

        def get_while_others_write(path: str, **keys: Any) -> Any:
            answer = get(path, **keys)
            if path == (paths.lock if read == "lock" else root) and left[0]:
                left[0] -= 1
                zk.set(root, get(root)[0])
            return answer

        monkeypatch.setattr(zk, "get", get_while_others_write)
        zk.ensure_path(paths.lock)
        command(zk, paths, published, Command("promote", "ann"))
        after = read_rollout(zk, paths, before.generation)
    assert after
    assert (after.state.phase, after.state.step) == (RUNNING, 1)
