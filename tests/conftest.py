"""Fixtures of all suites. The collection is `ansible_collections.zoo.deploy` here, the agent `zoo_watcher`."""

from __future__ import annotations

import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests")]

from kazoo.client import KazooClient

from support.agent import Agent
from support.client import connected
from support.ensemble import Ensemble
from support.repository import GitRepository
from support.service import Service

# On a busy machine any example may take long. Durations are measured by benchmarks.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """A running ensemble of three, shared by the session: each test must use a path of its own."""
    with Ensemble(tmp_path_factory.mktemp("ensemble")) as servers:
        yield servers


@pytest.fixture
def zk_options() -> dict[str, Any]:
    """The options of kazoo for `zk` and `other`, besides the address."""
    return {}


@pytest.fixture
def zk(ensemble: Ensemble, zk_options: dict[str, Any]) -> Iterator[KazooClient]:
    """A connected client."""
    with connected(ensemble.hosts, **zk_options) as client:
        yield client


other = zk
"""A second connected client."""


@pytest.fixture
def app() -> str:
    """The path of an application that no other test uses."""
    return f"/app/test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def agents(tmp_path: Path, ensemble: Ensemble, zk: KazooClient, app: str) -> Iterator[Callable[..., Agent]]:
    """Creates agents of `app` by name, with further keys of their configuration; ends them with the test."""
    made: list[Agent] = []

    def make(name: str = "server1", **config: Any) -> Agent:
        made.append(Agent(tmp_path / name, config.pop("hosts", ensemble.hosts), app, zk, name, config))
        return made[-1]

    yield make
    for agent in made:
        agent.finish()


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that every user may enter; any new session of pytest closes the usual ones of all others."""
    with tempfile.TemporaryDirectory(prefix="zoo-tests-", ignore_cleanup_errors=True) as directory:
        path = Path(directory).resolve()
        path.chmod(0o711)
        yield path


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    """A git repository with one commit."""
    return GitRepository.create(tmp_path / "origin")


@pytest.fixture
def service() -> Iterator[Service]:
    """A service with a port of its own, closed at first."""
    made = Service()
    try:
        yield made
    finally:
        made.close()
