"""The history of an application that was copied to another ensemble, znode by znode."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable

import pytest
from kazoo.exceptions import BadVersionError, NoAuthError, NodeExistsError, RolledBackError

from ansible_collections.zoo.deploy.plugins.module_utils.connection import Overtaken
from ansible_collections.zoo.deploy.plugins.module_utils.records import HISTORY_LIMIT, AppPaths, Release
from ansible_collections.zoo.deploy.plugins.module_utils.releases import Published, publish

PATHS = AppPaths("/app/shop")
BEFORE = Published(generation=7, version=0)
RELEASE = Release("https://git.example/shop.git", "a" * 40, "shop")


class Copied:
    """A client of an ensemble into which these entries were copied; `races` runs before each write."""

    def __init__(self, numbers: range, races: Callable[[], None] = lambda: None) -> None:
        self.entries = {f"release-{number:010d}" for number in numbers}
        self.made = len(self.entries)
        self.version, self.last_zxid = 0, 7
        self.may_read = True
        self._races = races

    def ensure_path(self, path: str) -> None:
        """All directories exist."""

    def exists(self, _path: str) -> Any:
        """What is published."""
        return SimpleNamespace(mzxid=self.last_zxid, version=self.version)

    def get_children(self, _path: str, *, include_data: bool = False) -> Any:
        """The entries of the history, and its stat."""
        if not self.may_read:
            raise NoAuthError
        names = sorted(self.entries)
        return (names, SimpleNamespace(cversion=2 * self.made - len(names))) if include_data else names

    def delete_async(self, path: str) -> Any:
        """Delete an entry."""
        self.entries.remove(path.rpartition("/")[2])
        return SimpleNamespace(wait=lambda: None)

    def transaction(self) -> Any:
        """A transaction that publishes: the server numbers an entry by how many were created below its parent."""
        asked: dict[str, Any] = {}

        def commit() -> list[Any]:
            self._races()
            name = asked["entry"] + (f"{self.made:010d}" if asked["sequence"] else "")
            if asked["version"] != self.version:
                return [BadVersionError(), RolledBackError()]
            if name in self.entries:
                return [RolledBackError(), NodeExistsError()]
            self.entries.add(name)
            self.made, self.version, self.last_zxid = self.made + 1, self.version + 1, self.last_zxid + 1
            return [None, name]

        def create(path: str, _data: bytes, *, sequence: bool = False) -> None:
            asked.update(entry=path.rpartition("/")[2], sequence=sequence)

        return SimpleNamespace(
            create=create, set_data=lambda _path, _data, version: asked.update(version=version), commit=commit
        )


@pytest.mark.parametrize("first", [1, 10, 50, 200])
def test_a_release_is_published_where_the_history_was_copied_and_the_server_counts_from_the_start(first: int) -> None:
    client, last = Copied(range(first, first + HISTORY_LIMIT)), first + HISTORY_LIMIT
    for number in range(3):
        before = Published(generation=client.last_zxid, version=client.version)
        assert publish(client, PATHS, RELEASE, before) == client.last_zxid == 8 + number
        assert max(client.entries) == f"release-{last + number:010d}"
        assert len(client.entries) == HISTORY_LIMIT


def test_one_of_two_simultaneous_publishers_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_publishes() -> None:
        client.version += 1

    monkeypatch.setattr(
        "ansible_collections.zoo.deploy.plugins.module_utils.releases.read_published", lambda *_given: BEFORE
    )
    client = Copied(range(1, 1 + HISTORY_LIMIT), other_publishes)
    with pytest.raises(Overtaken, match=r"^/app/shop/config: changed meanwhile"):
        publish(client, PATHS, RELEASE, BEFORE)


def test_a_publisher_who_may_not_read_the_history_leaves_its_numbers_to_the_server() -> None:
    client = Copied(range(3))
    client.may_read = False
    publish(client, PATHS, RELEASE, BEFORE)
    assert max(client.entries) == "release-0000000003"
