"""A client that writes continuously, and a count of the members that are up meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError

from hosts.zookeeper.member import Ensemble, Member
from support.client import connected

PAUSE = 0.1
"""Seconds between two writes and between two counts: a member takes longer to restart."""


@dataclass
class Account:
    """The acknowledged writes, those of them that are lost, the longest time without one, and the fewest members up."""

    acknowledged: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    longest_gap: float = 0.0
    fewest_up: int = 1000


@contextmanager
def writing(ensemble: Ensemble, directory: str) -> Iterator[Account]:
    """Write and count while the block lasts; what is lost is known after it."""
    account = Account()
    over = threading.Event()
    with connected(ensemble.hosts, **ensemble.client_options) as client:
        client.ensure_path(directory)
        threads = [
            threading.Thread(target=_write, args=(client, directory, account, over)),
            threading.Thread(target=_count, args=(ensemble, account, over)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield account
        finally:
            over.set()
            for thread in threads:
                thread.join()
        client.sync(directory)
        account.lost = set(account.acknowledged) - set(client.get_children(directory))


def _write(client: KazooClient, directory: str, account: Account, over: threading.Event) -> None:
    number, last = 0, time.monotonic()
    while not over.wait(PAUSE):
        number += 1
        try:
            client.create(f"{directory}/{number}", b"")
        except (KazooException, KazooTimeoutError):
            # Perhaps written, but not acknowledged.
            continue
        now = time.monotonic()
        account.acknowledged.append(str(number))
        account.longest_gap = max(account.longest_gap, now - last)
        last = now


def _count(ensemble: Ensemble, account: Account, over: threading.Event) -> None:
    while not over.wait(PAUSE):
        account.fewest_up = min(account.fewest_up, sum(map(_is_up, ensemble.members)))


def _is_up(member: Member) -> bool:
    try:
        socket.create_connection((member.host.address, member.port), timeout=5).close()
    except OSError:
        return False
    return True
