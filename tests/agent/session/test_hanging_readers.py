"""The readers of an agent's output on its own host may hang: journald, a container's log driver, PID 1."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]
Registrations = Callable[[], dict[str, list[str]]]


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[Path]:
    """A FIFO that is full."""
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.close(writer)
    yield fifo
    os.close(reader)


@pytest.fixture
def unanswered(tmp_path: Path) -> Iterator[Path]:
    """The socket of a service manager that accepts nothing more."""
    place = tmp_path / "notify"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        manager.bind(str(place))
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(b"WATCHDOG=1", str(place))
        yield place


def test_an_agent_serves_where_nobody_reads_its_log_or_its_signs_of_life(
    agents: Agents,
    registered: dict[str, Any],
    service: Service,
    release: Publish,
    repository: GitRepository,
    registrations: Registrations,
    unread: Path,
    unanswered: Path,
) -> None:
    agent = agents(**registered)
    agent.log_to = unread
    agent.start(NOTIFY_SOCKET=str(unanswered), WATCHDOG_USEC="1000000")
    service.open()
    wait_for(registrations, "it is registered")
    for text in ("two\n", "three\n"):
        repository.commit({"index.html": text})
        assert agent.wait_outcome(release())["state"] == "active"
    service.close()
    wait_for(lambda: not registrations(), "it is withdrawn")
    assert agent.end() == 0
