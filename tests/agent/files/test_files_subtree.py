"""The subtree of a znode as one directory, or as one rendered file."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from kazoo.client import KazooClient

from support.agent import Agent
from support.deep import deep_directory
from support.files import Host
from support.waiting import wait_for

Agents = Callable[..., Agent]


@pytest.fixture
def host(agents: Agents, zk: KazooClient, app: str, tmp_path: Path) -> Host:
    """A host whose agent renders files, and the znodes of an application's configuration."""
    return Host(agents, zk, f"{app}/mxn", tmp_path / "etc")


def files_below(directory: Path) -> dict[str, bytes]:
    """The files in a directory, by their paths in it."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_children_are_files_and_their_children_are_in_directories(host: Host) -> None:
    host.add("conf.d", format="directory").start()
    host.wait("conf.d", "missing")
    host.write("conf.d/a.conf", b"one")
    host.write("conf.d/sites/b.conf", b"two\xff")
    host.write("conf.d/sites/deep/c.conf", b"")
    status = host.wait_proved("conf.d")
    assert files_below(host.dest("conf.d")) == {"a.conf": b"one", "sites/b.conf": b"two\xff", "sites/deep/c.conf": b""}
    assert "version" not in status
    assert status["mzxid"] == host.written["conf.d"]
    host.write("conf.d/sites/deep/c.conf", b"three")
    host.wait_proved("conf.d")
    assert host.dest("conf.d/sites/deep/c.conf").read_bytes() == b"three"


def test_a_znode_with_nothing_below_it_is_an_empty_directory(host: Host) -> None:
    host.write("conf.d", b"its own value is no part of it")
    host.add("conf.d", format="directory").start()
    host.wait_proved("conf.d")
    assert os.listdir(host.dest("conf.d")) == []


def test_foreign_files_in_a_directory_stay_and_those_of_the_agent_are_removed_where_that_is_asked_for(
    host: Host,
) -> None:
    host.dest("conf.d/own").mkdir(parents=True)
    host.dest("conf.d/foreign.conf").write_bytes(b"foreign")
    host.dest("conf.d/own/foreign.conf").write_bytes(b"foreign")
    host.write("conf.d/a.conf", b"one")
    host.write("conf.d/own/b.conf", b"two")
    host.write("conf.d/sub/c.conf", b"three")
    host.add("conf.d", format="directory", on_delete="remove", on_change=host.note("conf")).start()
    host.wait_proved("conf.d")
    foreign = {"foreign.conf": b"foreign", "own/foreign.conf": b"foreign"}
    assert files_below(host.dest("conf.d")) == {
        **foreign,
        "a.conf": b"one",
        "own/b.conf": b"two",
        "sub/c.conf": b"three",
    }
    host.delete("conf.d/sub")
    host.wait_proved("conf.d")
    assert sorted(os.listdir(host.dest("conf.d"))) == ["a.conf", "foreign.conf", "own"]
    host.delete("conf.d")
    host.wait_proved("conf.d", "missing")
    assert files_below(host.dest("conf.d")) == foreign
    host.wait_notes("conf", 3)
    host.write("conf.d/a.conf", b"again")
    host.wait_proved("conf.d")
    assert files_below(host.dest("conf.d")) == {**foreign, "a.conf": b"again"}


def test_a_directory_that_the_agent_created_is_removed_with_its_last_file(host: Host) -> None:
    host.write("conf.d/sub/a.conf", b"one")
    host.add("conf.d", format="directory", on_delete="remove").start()
    host.wait_proved("conf.d")
    host.delete("conf.d")
    host.wait_proved("conf.d", "missing")
    assert os.listdir(host.etc) == []


def test_a_directory_whose_znodes_are_deleted_one_by_one_is_removed_too(host: Host) -> None:
    host.write("conf.d/sub/a.conf", b"one")
    host.add("conf.d", format="directory", on_delete="remove").start()
    host.wait_proved("conf.d")
    for name in ("conf.d/sub/a.conf", "conf.d/sub"):
        host.delete(name)
        host.wait_proved("conf.d")
    host.delete("conf.d")
    host.wait_proved("conf.d", "missing")
    assert os.listdir(host.etc) == []


def test_files_of_deleted_znodes_are_kept_by_default(host: Host) -> None:
    host.write("conf.d/a.conf", b"one")
    host.write("conf.d/b.conf", b"two")
    host.add("conf.d", format="directory").start()
    host.wait_proved("conf.d")
    host.delete("conf.d/a.conf")
    host.wait_proved("conf.d")
    host.delete("conf.d")
    host.wait_proved("conf.d", "missing")
    assert files_below(host.dest("conf.d")) == {"a.conf": b"one", "b.conf": b"two"}


def test_a_file_becomes_a_directory_and_a_directory_a_file(host: Host) -> None:
    host.write("conf.d/x", b"")
    host.add("conf.d", format="directory", on_delete="remove").start()
    host.wait_proved("conf.d")
    host.write("conf.d/x/y", b"one")
    host.wait_proved("conf.d")
    assert files_below(host.dest("conf.d")) == {"x/y": b"one"}
    host.delete("conf.d/x/y")
    host.wait_proved("conf.d")
    host.write("conf.d/x", b"two")
    host.wait_proved("conf.d")
    assert files_below(host.dest("conf.d")) == {"x": b"two"}


def test_modes_are_given_to_files_and_directories(host: Host) -> None:
    host.write("conf.d/sub/a.conf", b"one")
    host.add("conf.d", format="directory", mode="0640", owner="daemon", group="games").start()
    host.wait_proved("conf.d")
    statuses = {name: host.dest(name).stat() for name in ("conf.d", "conf.d/sub", "conf.d/sub/a.conf")}
    assert [oct(one.st_mode & 0o7777) for one in statuses.values()] == ["0o750", "0o750", "0o640"]
    assert {(one.st_uid, one.st_gid) for one in statuses.values()} == {(1, 60)}


def test_only_what_has_changed_is_written(host: Host) -> None:
    host.write("conf.d/a.conf", b"one")
    host.write("conf.d/b.conf", b"two")
    host.add("conf.d", format="directory", validate=["test", "-d", "%s"]).start()
    host.wait_proved("conf.d")
    before = host.dest("conf.d/a.conf").stat()
    host.write("conf.d/b.conf", b"three")
    host.wait_proved("conf.d")
    after = host.dest("conf.d/a.conf").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_validate_is_shown_the_whole_new_directory(host: Host) -> None:
    host.write("conf.d/a", b"good")
    host.write("conf.d/sub/b", b"good")
    # Both must be the same.
    host.add("conf.d", format="directory", validate=["sh", "-c", 'cmp "$0/a" "$0/sub/b"', "%s"]).start()
    host.wait_proved("conf.d")
    host.write("conf.d/sub/b", b"bad")
    assert "differ" in host.wait_proved("conf.d", "failed")["message"]
    assert files_below(host.dest("conf.d")) == {"a": b"good", "sub/b": b"good"}
    host.write("conf.d/a", b"bad")
    host.wait_proved("conf.d")
    assert files_below(host.dest("conf.d")) == {"a": b"bad", "sub/b": b"bad"}


def test_a_symlink_in_the_directory_is_not_followed(host: Host) -> None:
    outside = host.etc.parent / "outside"
    outside.mkdir()
    host.dest("conf.d").mkdir()
    host.dest("conf.d/sub").symlink_to(outside)
    host.write("conf.d/sub/a.conf", b"one")
    host.add("conf.d", format="directory", on_delete="remove").start()
    assert "sub in dest is not a directory" in host.wait_proved("conf.d", "failed")["message"]
    assert os.listdir(outside) == []
    host.dest("conf.d/sub").unlink()
    host.wait_proved("conf.d")
    assert files_below(host.dest("conf.d")) == {"sub/a.conf": b"one"}


@pytest.mark.parametrize("name", [".zoo-new", "x" * 256])
def test_a_name_that_no_file_can_have_is_refused_by_name(host: Host, name: str) -> None:
    host.write("conf.d/a.conf", b"one")
    host.add("conf.d", format="directory").start()
    host.wait_proved("conf.d")
    host.write(f"conf.d/{name}", b"two")
    assert "can't name a file" in host.wait_proved("conf.d", "failed")["message"]
    host.delete(f"conf.d/{name}")
    host.wait_proved("conf.d")


def test_a_subtree_is_one_rendered_file_through_all_its_changes(host: Host) -> None:
    for form in ("json", "yaml", "properties", "env"):
        host.add("shop", format=form)
        host.agent.config["files"][-1]["dest"] += f".{form}"
    host.start()
    host.write("shop/db/host", 'größe\n"x"'.encode())
    host.write("shop/db/port", b"5432")
    wanted = {"db": {"host": 'größe\n"x"', "port": "5432"}}
    assert json.loads(read_proved(host, "json")) == wanted
    assert yaml.safe_load(read_proved(host, "yaml")) == wanted
    assert read_proved(host, "properties") == b'db.host=gr\\u00f6\\u00dfe\\n"x"\ndb.port=5432\n'
    done = subprocess.run(
        ["sh", "-euc", f'. {host.dest("shop.env")}; printf %s "$DB_HOST-$DB_PORT"'], capture_output=True, check=True
    )
    assert done.stdout.decode() == 'größe\n"x"-5432'
    host.delete("shop/db/host")
    assert json.loads(read_proved(host, "json")) == {"db": {"port": "5432"}}
    host.write("shop/db/user/name", b"me")
    assert json.loads(read_proved(host, "json")) == {"db": {"port": "5432", "user": {"name": "me"}}}
    host.delete("shop")
    host.written["shop.json"] = host.written["shop"]
    host.wait_proved("shop.json", "missing")
    host.write("shop/again", b"1")
    assert json.loads(read_proved(host, "json")) == {"again": "1"}


def read_proved(host: Host, form: str) -> bytes:
    """The content of the rendered file, once the last change is proved."""
    host.written[f"shop.{form}"] = host.written["shop"]
    host.wait_proved(f"shop.{form}")
    return host.read(f"shop.{form}")


def test_the_changes_of_one_transaction_arrive_together(host: Host) -> None:
    host.write("shop/a", b"0")
    host.write("shop/z", b"0")
    host.add("shop", format="json").start()
    host.wait_proved("shop")
    states = set()
    number = 0

    def read() -> None:
        shop = json.loads(host.read("shop"))
        assert shop["a"] == shop["z"]
        states.add(shop["a"])

    def change() -> bool:
        nonlocal number
        number += 1
        transaction = host.zk.transaction()
        transaction.set_data(host.path("shop/a"), b"%d" % number)
        transaction.set_data(host.path("shop/z"), b"%d" % number)
        transaction.commit()
        read()
        return len(states) > 2

    for _time in range(150):
        change()
    wait_for(change, "a state in between is read, while changes go on")
    host.written["shop"] = host.zk.last_zxid
    host.wait_proved("shop")
    read()
    assert f"{number}" in states


def test_what_a_format_cannot_hold_is_in_the_status_and_the_file_stays(host: Host) -> None:
    host.write("shop/a", b"one")
    host.add("shop", format="env").start()
    host.wait_proved("shop")
    host.write("shop/b", b"\xff")
    assert host.wait_proved("shop", "failed")["message"] == '"b": not UTF-8 at byte 0: this format holds only text'
    assert host.read("shop") == b"A=one\n"
    host.delete("shop/b")
    host.wait_proved("shop")


def test_a_subtree_that_is_too_deep_is_named_and_stops_neither_other_files_nor_the_agent(host: Host) -> None:
    paths = [host.path("deep" + "/a" * level) for level in range(1_500)]
    for answer in [host.zk.create_async(path) for path in paths]:
        answer.get()
    host.written["deep"] = host.written["deep.d"] = host.zk.last_zxid
    host.write("b.conf", b"one")
    host.add("deep", format="json").add("deep.d", format="directory").add("b.conf")
    host.agent.config["files"][1]["znode"] = host.path("deep")
    agent = host.start()
    for name in ("deep", "deep.d"):
        assert host.wait_proved(name, "failed")["message"] == "more than 100 levels of znodes: expected at most 100"
    host.wait_proved("b.conf")
    host.write("b.conf", b"two")
    host.wait_proved("b.conf")
    for answer in [host.zk.delete_async(path) for path in reversed(paths[101:])]:
        answer.get()
    host.written["deep"] = host.written["deep.d"] = host.zk.last_zxid
    for name in ("deep", "deep.d"):
        host.wait_proved(name)
    assert agent.process is not None
    assert agent.process.poll() is None


def test_what_a_killed_agent_left_behind_is_removed_however_deep_it_is(host: Host) -> None:
    host.write("conf.d/a.conf", b"one")
    with deep_directory(host.dest("conf.d") / ".zoo-new", 1_500):
        host.add("conf.d", format="directory").start()
        host.wait_proved("conf.d")
        assert os.listdir(host.dest("conf.d")) == ["a.conf"]
