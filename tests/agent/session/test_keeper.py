"""An agent at a server that gives each connection a new session, and does not tell that the previous one expired."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from kazoo.client import KazooClient

from support.agent import Agent
from support.ensemble import Ensemble
from support.keeper import Keeper
from support.repository import GitRepository
from support.waiting import wait_for


@pytest.fixture
def keeper(ensemble: Ensemble) -> Iterator[Keeper]:
    """Such a server."""
    made = Keeper(ensemble.members[0].client_port)
    yield made
    made.close()


def test_what_the_agent_holds_belongs_to_its_new_session_while_the_old_one_still_lasts(
    serving: Callable[..., Agent],
    release: Callable[..., int],
    keeper: Keeper,
    repository: GitRepository,
    zk: KazooClient,
    ensemble: Ensemble,
    app: str,
) -> None:
    agent = serving(hosts=keeper.hosts)
    agent.wait_outcome(release())
    paths = (f"{app}/service/server1", f"{app}/agents/server1")

    def owners() -> set[int]:
        return {zk.exists(path).ephemeralOwner for path in paths}

    (former,) = owners()
    keeper.cut()
    wait_for(lambda: len(owners()) == 1 and former not in owners(), "another session holds all that was held")
    assert f"{former:#x}" in ensemble.sessions()
    later = repository.commit({"index.html": "two\n"})
    assert agent.wait_outcome(release(later))["commitId"] == later
    assert agent.end() == 0
    assert [zk.exists(path) for path in paths] == [None, None]
    assert not keeper.hung_up_at
