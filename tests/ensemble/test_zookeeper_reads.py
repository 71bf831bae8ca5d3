"""Bulk reads by multiRead: every answer in its place, however large, even if the server does not support it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import UnimplementedError
from kazoo.security import make_acl, make_digest_acl

from ansible_collections.zoo.deploy.plugins.module_utils import zookeeper
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import (
    GET_DATA,
    Listing,
    MultiRead,
    Node,
    connect,
    list_many,
    read_many,
)
from support.ensemble import Ensemble

UNKNOWN_REQUEST = 9999
"""A type unknown to this server, as multiRead is to one of 3.5: it answers Unimplemented and hangs up."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    """A separate server with a small heap of 128 MB."""
    with Ensemble(tmp_path_factory.mktemp("reads"), size=1) as alone:
        yield alone


@pytest.fixture
def client(server: Ensemble) -> Iterator[KazooClient]:
    with connect({"hosts": server.hosts, "connect_timeout": 10.0}) as connected:
        yield connected


def filled(client: KazooClient, parent: str, values: list[bytes]) -> list[str]:
    """Create a child of `parent` for each value, a few at a time as the server is small; returns their paths."""
    client.ensure_path(parent)
    paths = [f"{parent}/n{number:05}" for number in range(len(values))]
    for start in range(0, len(paths), 20):
        pending = [
            client.create_async(path, value)
            for path, value in zip(paths[start : start + 20], values[start : start + 20])
        ]
        for one in pending:
            one.get()
    return paths


@pytest.mark.parametrize(("size", "count"), [(1_000, 2000), (10_000, 400), (100_000, 60), (900_000, 4)])
def test_values_of_any_size_are_read_and_the_server_lives(client: KazooClient, size: int, count: int) -> None:
    values = [f"{number} ".encode().ljust(size, b"x") for number in range(count)]
    paths = filled(client, f"/large-{size}", values)
    found = read_many(client, paths)
    assert [one.data if isinstance(one, Node) else one for one in found] == values
    client.delete(f"/large-{size}", recursive=True)


def test_small_values_before_large_ones_do_not_make_an_answer_too_large(
    client: KazooClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = filled(client, "/mixed", [b"x"] * 300 + [b"y" * 50_000] * 100)
    sizes: list[int] = []
    whole = MultiRead.deserialize.__func__  # type: ignore[attr-defined]

    def noting(kind: type[MultiRead], answer: bytes, offset: int) -> object:
        sizes.append(len(answer))
        return whole(kind, answer, offset)

    monkeypatch.setattr(MultiRead, "deserialize", classmethod(noting))
    lengths = [len(one.data) for one in read_many(client, paths) if isinstance(one, Node)]
    assert lengths == [1] * 300 + [50_000] * 100
    assert sum(size > 2 * zookeeper.CHUNK_BYTES for size in sizes) <= zookeeper.CHUNKS_UNDER_WAY


def test_a_znode_that_is_missing_or_forbidden_is_an_answer_of_its_own(client: KazooClient) -> None:
    client.ensure_path("/own")
    client.create("/own/open", b"1")
    client.create("/own/empty", b"")
    client.create("/own/closed", b"2", acl=[make_digest_acl("someone", "else", all=True)])
    opened, empty, missing, closed = read_many(client, ["/own/open", "/own/empty", "/own/none", "/own/closed"])
    assert isinstance(opened, Node)
    assert (opened.path, opened.data, opened.stat.version) == ("/own/open", b"1", 0)
    assert isinstance(empty, Node)
    assert empty.data == b""
    assert missing is None
    assert isinstance(closed, ZooKeeperError)
    assert str(closed).startswith("/own/closed: permission denied")


def test_the_stat_is_the_one_that_kazoo_reads(client: KazooClient) -> None:
    client.ensure_path("/stat")
    client.create("/stat/ephemeral", b"x", ephemeral=True)
    (found,) = read_many(client, ["/stat/ephemeral"])
    assert isinstance(found, Node)
    assert found.stat == client.get("/stat/ephemeral")[1]
    assert found.stat.ephemeralOwner == client.client_id[0]


def test_directories_are_listed_with_their_children_and_their_stat(client: KazooClient) -> None:
    paths = filled(client, "/directories/many", [b""] * 1500)
    client.ensure_path("/directories/none")
    many, none, gone, root = list_many(client, ["/directories/many", "/directories/none", "/directories/gone", "/"])
    assert isinstance(many, Listing)
    assert sorted(many.names) == [path.rpartition("/")[2] for path in paths]
    assert many.stat == client.get("/directories/many")[1]
    assert isinstance(none, Listing)
    assert none.names == []
    assert gone is None
    assert isinstance(root, Listing)
    assert "directories" in root.names


def test_paths_are_read_below_the_chroot(server: Ensemble, client: KazooClient) -> None:
    client.ensure_path("/chroot/inner")
    client.set("/chroot/inner", b"here")
    with connect({"hosts": f"{server.hosts}/chroot", "connect_timeout": 10.0}) as below:
        (found,) = read_many(below, ["/inner"])
        (root,) = list_many(below, ["/"])
    assert isinstance(found, Node)
    assert (found.path, found.data) == ("/inner", b"here")
    assert isinstance(root, Listing)
    assert root.names == ["inner"]


def test_names_that_are_long_or_not_ascii_fit(client: KazooClient) -> None:
    client.ensure_path("/names")
    names = [f"{'ü' * 400}-{number}" for number in range(900)]
    for start in range(0, len(names), 100):
        for one in [client.create_async(f"/names/{name}", b"v") for name in names[start : start + 100]]:
            one.get()
    (directory,) = list_many(client, ["/names"])
    assert isinstance(directory, Listing)
    assert sorted(directory.names) == sorted(names)
    assert all(isinstance(one, Node) for one in read_many(client, [f"/names/{name}" for name in names]))


def test_a_server_that_does_not_know_the_request_says_so(client: KazooClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MultiRead, "type", UNKNOWN_REQUEST)
    asked = client.handler.async_result()
    client._call(MultiRead([(GET_DATA, b"/")]), asked)
    with pytest.raises(UnimplementedError):
        asked.get(timeout=10)


def test_where_multi_read_is_not_known_znodes_are_read_one_by_one(
    client: KazooClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = filled(client, "/unknown", [b"a", b"b"])
    client.create("/unknown/closed", b"", acl=[make_acl("world", "anyone", create=True)])
    monkeypatch.setattr(MultiRead, "type", UNKNOWN_REQUEST)
    first, gone, second, closed = read_many(client, [paths[0], "/unknown/none", paths[1], "/unknown/closed"])
    assert isinstance(first, Node)
    assert isinstance(second, Node)
    assert (first.data, gone, second.data) == (b"a", None, b"b")
    assert isinstance(closed, ZooKeeperError)
    (directory,) = list_many(client, ["/unknown"])
    assert isinstance(directory, Listing)
    assert sorted(directory.names) == ["closed", "n00000", "n00001"]


def test_an_ensemble_that_dies_is_an_error_in_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    dying = Ensemble(tmp_path_factory.mktemp("dying"), size=1)
    with dying, connect({"hosts": dying.hosts, "connect_timeout": 10.0}) as client:
        paths = filled(client, "/dying", [b"x"] * 10)
        assert len(read_many(client, paths)) == 10
        dying.members[0].kill()
        with pytest.raises(ZooKeeperError, match=r"connection|in time"):
            read_many(client, paths, timeout=1.0)


def test_no_paths_give_an_empty_answer(client: KazooClient) -> None:
    assert read_many(client, []) == []
    assert list_many(client, []) == []
