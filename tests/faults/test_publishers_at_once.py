"""Two people act on one application at the same moment: one is first, and the other is told so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Union

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.records import HISTORY_LIMIT, AppPaths
from ansible_collections.zoo.deploy.plugins.module_utils.releases import read_history, read_published
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_phases import HALTED
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import Gate, RolloutPaths
from ansible_collections.zoo.deploy.plugins.module_utils.rollouts import read_rollout
from ansible_collections.zoo.deploy.plugins.modules import zk_release
from faults.support.ledger import COMMANDS, WINNERS, Ledger
from support.client import connected
from support.ensemble import Ensemble

pytestmark = pytest.mark.storm
ROUNDS = 200
PEOPLE = ("ann", "bob")
DEFAULTS = {name: option.get("default") for name, option in zk_release.argument_spec().items()}
COMMITS = {"ann": "a" * 32, "bob": "b" * 32}
PLAN = {"from": "f" * 40, "steps": [{"hosts": 1}, {"hosts": 2}]}
Answer = Union[dict[str, Any], ZooKeeperError]


class Contest:
    """Ann and Bob, who use the module on one application, each with their own connection."""

    def __init__(self, app: str, clients: dict[str, KazooClient], pool: ThreadPoolExecutor) -> None:
        self._app, self._clients, self._pool = app, clients, pool
        self._start = threading.Barrier(len(PEOPLE))

    def use(self, name: str, **options: Any) -> Answer:
        """What the module returns, or raises."""
        does = zk_release.steer if options.get("state") in zk_release.VERBS else zk_release.converge
        given = {**DEFAULTS, "app": self._app, "wait": False, "publisher": name, **options}
        try:
            return does(self._clients[name], given, check=False)
        except ZooKeeperError as exc:
            return exc

    def run(self, **options: dict[str, Any]) -> dict[str, Answer]:
        """The module's answer to each of the two, who begin at the same moment."""

        def act(name: str) -> Answer:
            self._start.wait(60)
            return self.use(name, **options[name])

        return dict(zip(PEOPLE, self._pool.map(act, PEOPLE)))


@pytest.fixture
def contest(ensemble: Ensemble, app: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Contest]:
    """A contest in which each ref is the commit itself."""
    monkeypatch.setattr(zk_release, "resolve", lambda _url, ref: ref)
    with ExitStack() as stack:
        clients = {name: stack.enter_context(connected(ensemble.hosts)) for name in PEOPLE}
        yield Contest(app, clients, stack.enter_context(ThreadPoolExecutor(len(PEOPLE))))


def test_one_of_two_simultaneous_publishers_wins_and_the_other_is_told_who_did(
    zk: KazooClient, app: str, contest: Contest, ledger: Ledger
) -> None:
    paths, only_if = AppPaths(app), "none"
    winners: list[tuple[int | None, str]] = []
    for number in range(ROUNDS):
        commits = {name: f"{begin}{number:08x}" for name, begin in COMMITS.items()}
        what = {"url": "https://example.org/x.git", "relative_path": "site", "only_if": only_if}
        answers = contest.run(**{name: {**what, "ref": commits[name]} for name in PEOPLE})
        ledger.see_rollout("a release is published by two people at once")
        won = [name for name, answer in answers.items() if isinstance(answer, dict) and answer["changed"]]
        ledger.judge(WINNERS, "" if len(won) == 1 else f"{won} have won: {answers}")
        (winner,) = won
        (loser,) = [name for name, answer in answers.items() if isinstance(answer, ZooKeeperError)]
        said = f'only_if expects "{only_if}", but {commits[winner]} is published by "{winner}" since 2'
        assert said in str(answers[loser])
        assert str(answers[loser]).endswith("; nothing is done")
        published = read_published(zk, paths)
        assert published.release
        assert published.release.commit_id == commits[winner]
        only_if, winners = str(published.generation), [(published.generation, commits[winner]), *winners]
    history = [(entry.generation, entry.release and entry.release.commit_id) for entry in read_history(zk, paths)]
    assert history == winners[:HISTORY_LIMIT], "the losers have left nothing"


def test_a_rollout_that_is_promoted_and_halted_at_the_same_time_is_halted(
    zk: KazooClient, app: str, contest: Contest, ledger: Ledger
) -> None:
    """The first command is obeyed. The other one meets the changed rollout, and is carried out or refused."""
    paths = AppPaths(app)
    for number in range(ROUNDS // 10):
        what = {"url": "https://example.org/x.git", "relative_path": "site", "rollout": PLAN}
        begun = contest.use("ann", ref=f"{number:040x}", **what)
        assert isinstance(begun, dict)
        ledger.see_rollout("a rollout is promoted by one person and halted by another at once")
        answers = contest.run(ann={"state": "promoted"}, bob={"state": "halted", "reason": "latency"})
        rollout = read_rollout(zk, paths, begun["generation"])
        assert rollout
        assert isinstance(answers["bob"], dict)
        assert answers["bob"]["changed"]
        is_refused = isinstance(answers["ann"], ZooKeeperError)
        if is_refused:
            assert str(answers["ann"]).endswith("refused: the rollout is halted: latency")
        found = rollout.state
        halt = (found.phase, found.by, found.reason)
        ledger.judge(COMMANDS, "" if halt == (HALTED, "bob", "latency") else f"expected it halted by bob, got {halt}")
        assert (found.step, found.moves) == ((0, 1) if is_refused else (1, 2))
        assert Gate.from_node(zk.get(RolloutPaths(paths.rollout(begun["generation"])).gate)[0]) == found.gate
