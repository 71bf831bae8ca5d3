"""Fifty real agents that share one git server keep to the limit of a rollout, and a bad release reaches only one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from faults.support.fleet_record import FleetRecord
from faults.support.ledger import HOSTS, LIMITS, Ledger
from faults.support.rolling_fleet import RollingFleet
from support.agent import Agent
from support.ensemble import Ensemble
from support.git_server import git_daemon
from support.repository import GitRepository
from support.rollout import Rollout

PLACES = 8
NAMES = [f"web{number:02}" for number in range(50)]
EVERYWHERE = "every host"
CONFIG = {
    "allowed_schemes": ["git"],
    "session_timeout": 10,  # they start at once, on two cores
    "hooks": {"after_activate": ["sh", "-c", f'! grep -qx "{EVERYWHERE}" "$ZOO_RELEASE/bad"']},
}
Tree = dict[str, tuple[int, int]]


@pytest.fixture
def git() -> Iterator[ExitStack]:
    """The stack in which the git server runs."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def fleet(
    tmp_path: Path, ensemble: Ensemble, zk: KazooClient, app: str, ledger: Ledger, git: ExitStack
) -> Iterator[RollingFleet]:
    """The agents, not started yet."""
    origin = GitRepository.create(tmp_path / "origin")
    url = git.enter_context(git_daemon(origin))
    agents = [Agent(tmp_path / name, ensemble.hosts, app, zk, name, CONFIG) for name in NAMES]
    yield RollingFleet(agents, {}, zk, ensemble, origin, ledger, url)
    for agent in agents:
        agent.kill()


def test_fifty_agents_keep_to_the_limit_there_and_back_and_a_bad_release_reaches_one(
    fleet: RollingFleet, git: ExitStack
) -> None:
    first = fleet.commit()
    made = fleet.roll_out(first, maxInFlight=PLACES)
    for agent in fleet.agents:
        agent.start()
    finish(fleet, made, first)
    stop_at_the_canary(fleet, fleet.commit(EVERYWHERE))
    second = fleet.commit()
    fleet.ledger.inject("fifty agents: a release in three steps")
    steps = [{"hosts": 1}, {"hosts": "20%"}]
    finish(fleet, fleet.roll_out(second, **{"from": first, "maxInFlight": PLACES, "steps": steps}), second)
    third = fleet.commit()
    survive_kills(fleet, second, third)
    fleet.ledger.inject("fifty agents: a rollback while the git server is gone")
    git.close()
    finish(fleet, fleet.roll_back(second, third, maxInFlight=PLACES), second)


def finish(fleet: RollingFleet, made: Rollout, commit: str) -> None:
    """Check that a rollout reaches every host, within its limit."""
    made.wait("done", 120)
    fleet.wait_active(made.generation, commit)
    record = FleetRecord.read(fleet.servers, made)
    most = judge_limit(fleet.ledger, [*record.on_their_way(), *record.with_places()])
    assert most > 1, "several were on their way at once"
    unproved = {name: entry for name, entry in made.entries.items() if entry != "proved"}
    fleet.ledger.judge(HOSTS, f"{unproved}, expected all to be proved" if unproved else "")


def survive_kills(fleet: RollingFleet, before: str, release: str) -> None:
    """Check that a rollout reaches every host though its publisher, agents and the leader are killed."""
    plan = {"from": before, "steps": [{"hosts": 1, "pause": True}], "maxInFlight": PLACES, "maxFailures": "100%"}
    made = fleet.roll_out_by_playbook(release, **plan)
    with fleet.looking(made, PLACES, before):
        made.wait("paused", 60)
        head = fleet.heads(made, PLACES)[0]
        fleet.ledger.inject("in a rollout: kill -9 of the head of a lane")
        head.kill()
        fleet.command(made, "promote")
        admitted = fleet.wait_entry(made, "admitted", {head.name})
        fleet.ledger.inject("in a rollout: kill -9 of an admitted agent")
        admitted.kill()
        fleet.ledger.inject("in a rollout: kill -9 of the leader of the ensemble")
        fleet.servers.leader.kill()
        head.start()
        admitted.start()
        fleet.servers.start()
        made.wait("done", 120)
        fleet.wait_active(made.generation, release)


def judge_limit(ledger: Ledger, moments: Iterable[set[str]]) -> int:
    """Check that there were never too many, and return the largest number that there was."""
    most = 0
    for names in moments:
        most = max(most, len(names))
        ledger.judge(LIMITS, f"{sorted(names)} are on their way, {PLACES} may be" if len(names) > PLACES else "")
    return most


def stop_at_the_canary(fleet: RollingFleet, bad: str) -> None:
    """Check that a bad release is halted by its first host, and that all others are left alone."""
    before, trees = fleet.lives(), {agent.name: tree(agent.base) for agent in fleet.agents}
    (live,) = set(before.values())
    fleet.ledger.inject("fifty agents: a bad release")
    made = fleet.roll_out(bad, **{"from": live, "steps": [{"hosts": 1, "soak": 60}], "maxInFlight": PLACES})
    made.wait("halted", 60)
    (canary,) = [name for name, entry in made.entries.items() if entry == "failed"]
    for agent in fleet.agents:
        fleet.wait_state(agent, made.generation, "rolled_back" if agent.name == canary else "halted")
    assert fleet.lives() == before
    for name, status in FleetRecord.read(fleet.servers, made).statuses():
        wrong = name != canary and (status["commitId"] != live or status["state"] not in {"waiting", "halted"})
        fleet.ledger.judge(LIMITS, f"{name} was {status}" if wrong else "")
    touched = [agent.name for agent in fleet.agents if agent.name != canary and tree(agent.base) != trees[agent.name]]
    fleet.ledger.judge(LIMITS, f"{touched} were touched by a rollout that halted" if touched else "")


def tree(base: Path) -> Tree:
    """The inode number and modification time of everything in a base outside .zoo."""
    stats = {path: path.lstat() for path in base.rglob("*") if ".zoo" not in path.relative_to(base).parts[:1]}
    return {str(path): (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}
