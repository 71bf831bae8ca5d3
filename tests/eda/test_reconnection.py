"""The event source when it is cut off, expires or is held up: no change is missed, and none is made up."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from ansible_collections.zoo.deploy.plugins.plugin_utils.watch import loop
from ansible_collections.zoo.deploy.plugins.plugin_utils.watch.loop import WatchLoop
from eda.source import Source
from faults.support.proxy import Proxy
from support.client import connected
from support.ensemble import Ensemble, Member
from support.keeper import Keeper
from support.waiting import wait_for

Watch = Callable[..., Source]
CLOSED = [make_acl("world", "anyone", write=True, create=True, delete=True, admin=True)]
"""Every permission except read: a server silently uses up the watch of a client that may not read the znode."""


def make(zk: KazooClient, root: str, *names: str) -> None:
    """Create znodes below `root`, each with the value `old`."""
    for name in names:
        zk.create(f"{root}/{name}", b"old", makepath=True)


def change_all(zk: KazooClient, root: str) -> None:
    """Change what `make` created, except `stay`: set `set` twice, delete `go`, recreate `renew`, and create `come`."""
    zk.set(f"{root}/set", b"1")
    zk.set(f"{root}/set", b"2")
    zk.delete(f"{root}/go")
    zk.delete(f"{root}/renew")
    zk.create(f"{root}/renew", b"old")
    zk.create(f"{root}/come", b"new")


def what_changed(source: Source, root: str, kind: str) -> dict[str, list[str]]:
    """Return the changes of each znode below `root`, without initial states, once the last one has been sent."""
    source.one(type=kind, change="created", path=f"{root}/come")
    found: dict[str, list[str]] = {}
    for event in source.all(type=kind):
        if event["change"] != "present" and event["path"].startswith(f"{root}/"):
            found.setdefault(event["path"].removeprefix(f"{root}/"), []).append(event["change"])
    return found


CHANGED = {"set": ["changed"], "go": ["deleted"], "renew": ["deleted", "created"], "come": ["created"]}


def expire(source: Source, ensemble: Ensemble) -> None:
    """Wait until the ensemble has forgotten the session of a source that can't reach it."""
    session = source.all(type="session", change="connected")[-1]["session"]
    wait_for(lambda: session not in ensemble.sessions(), f"session {session} expires")


def session_changes(source: Source, count: int) -> list[str]:
    """The first `count` states of the session."""

    def found() -> list[str]:
        return [event["change"] for event in source.all(type="session")]

    wait_for(lambda: len(found()) >= count, f"{count} states of the session")
    return found()


@pytest.mark.parametrize("kind", ["data", "subtrees", "children"])
def test_a_change_that_the_ensemble_does_not_report_is_sent_eventually(
    watch: Watch, zk: KazooClient, app: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(loop, "READ_AGAIN", 0.3)
    path = f"{app}/secret"
    zk.create(path, b"old", makepath=True)
    source = watch(**{kind: [path]})
    zk.set_acls(path, CLOSED)
    zk.set(path, b"new")
    zk.create(f"{path}/child")
    zk.set_acls(path, OPEN_ACL_UNSAFE)
    source.one(change="changed", path=path)


@pytest.mark.parametrize("expired", [False, True], ids=["connection", "session"])
@pytest.mark.parametrize("kind", ["data", "subtree"])
def test_what_changes_during_an_outage_is_sent_after_the_loss_of_the(
    kind: str,
    expired: bool,
    watch: Watch,
    zk: KazooClient,
    app: str,
    ensemble: Ensemble,
    proxy: Proxy,
    proxied: dict[str, Any],
) -> None:
    make(zk, app, "stay", "set", "go", "renew")
    names = [*CHANGED, "stay"]
    what = {"data": [f"{app}/{name}" for name in names]} if kind == "data" else {"subtrees": [app]}
    source = watch(**{**proxied, "connect_timeout": 8 if not expired else 2}, **what, session=True)
    source.one(type=kind, change="present", path=f"{app}/stay")
    proxy.refuse()
    source.one(type="session", change="suspended")
    if expired:
        expire(source, ensemble)
    change_all(zk, app)
    proxy.behave()
    assert what_changed(source, app, kind) == CHANGED
    assert source.one(type=kind, change="changed", path=f"{app}/set")["value"] == "2"
    assert session_changes(source, 4 if expired else 3) == [
        "connected",
        "suspended",
        *(["lost"] if expired else []),
        "connected",
    ]
    sessions = [event["session"] for event in source.all(type="session")]
    assert len(set(sessions[:-1])) == 1
    assert (sessions[-1] != sessions[0]) == expired


def test_services_and_children_that_change_meanwhile_are_sent(
    watch: Watch, zk: KazooClient, app: str, proxy: Proxy, proxied: dict[str, Any]
) -> None:
    for name in ("stay", "go", "renew"):
        zk.create(f"{app}/web/{name}", b'["10.0.0.1", "80"]', makepath=True)
    source = watch(**proxied, registries=[f"{app}/web"], children=[f"{app}/web"], session=True)
    source.one(change="present", id="stay")
    proxy.refuse()
    source.one(change="suspended")
    zk.delete(f"{app}/web/go")
    zk.delete(f"{app}/web/renew")
    zk.create(f"{app}/web/renew", b'["10.0.0.1", "80"]')
    zk.create(f"{app}/web/come", b'["10.0.0.1", "80"]')
    proxy.behave()
    source.one(change="joined", id="come")
    services = {
        name: [event["change"] for event in source.all(type="service", id=name)]
        for name in ("stay", "go", "renew", "come")
    }
    assert services == {
        "stay": ["present"],
        "go": ["present", "left"],
        "renew": ["present", "left", "joined"],
        "come": ["joined"],
    }
    listed = source.one(type="children", change="changed")
    assert (listed["added"], listed["removed"]) == (["come"], ["go"])


def test_a_service_does_not_count_as_gone_while_the_ensemble_is_unreachable(
    watch: Watch, zk: KazooClient, app: str, proxy: Proxy, proxied: dict[str, Any]
) -> None:
    zk.create(f"{app}/web/m_0000000001", b'{"host": "h1", "port": 80}', makepath=True)
    zk.create(f"{app}/web/m_0000000002", b'{"host": "h2", "port": 80}')
    source = watch(**proxied, registries=[f"{app}/web"], settle=5, session=True)
    source.one(change="present", address="h2")
    zk.delete(f"{app}/web/m_0000000001")
    zk.create(f"{app}/web/mark:1")
    source.one(change="joined", address="mark")
    proxy.refuse()
    source.one(change="suspended")
    began = time.monotonic()
    zk.create(f"{app}/web/m_0000000003", b'{"host": "h1", "port": 80}')
    zk.delete(f"{app}/web/m_0000000002")
    wait_for(lambda: time.monotonic() > began + 5.5, "h1 would have been absent for longer than settle")
    proxy.behave()
    source.one(change="left", address="h2")
    assert [event["change"] for event in source.all(address="h1")] == ["present"]


def test_a_recreated_ensemble_is_watched_like_the_previous_one(tmp_path: Path) -> None:
    path = "/watched"
    with Ensemble(tmp_path / "single", size=1) as single:
        with connected(single.hosts) as zk:
            for number in range(20):
                zk.create(f"/history-{number}")
            zk.create(path)
            source = Source(hosts=single.hosts, initial=True, connect_timeout=2, data=[path]).start()
            source.one(change="present", path=path)
        try:
            single.members[0].kill()
            shutil.rmtree(single.members[0].directory / "data/version-2")
            single.start()
            source.one(change="deleted", path=path)
            with connected(single.hosts) as zk:
                zk.create(path)
                source.one(change="created", path=path)
        finally:
            source.stop()


def test_each_member_may_die(watch: Watch, zk: KazooClient, app: str, ensemble: Ensemble) -> None:
    path = f"{app}/value"
    source = watch(data=[path], session=True)
    for number in range(len(ensemble.members)):
        states = len(source.all(type="session"))
        member_of(source, ensemble).kill()
        try:
            write(zk, path, number)
            source.one(path=path, value=str(number))
            assert "lost" not in session_changes(source, states + 2)
        finally:
            ensemble.start()
    assert [event["value"] for event in source.all(path=path)] == ["0", "1", "2"]


def member_of(source: Source, ensemble: Ensemble) -> Member:
    """The member to which a source is connected."""
    session = source.all(change="connected")[-1]["session"]
    return wait_for(
        lambda: [one for one in ensemble.members if session in one.ask("cons")], "the source is connected somewhere"
    )[0]


def write(zk: KazooClient, path: str, number: int) -> None:
    """Set a znode's value, creating the znode if needed, as soon as the ensemble accepts it."""

    def written() -> bool:
        try:
            if zk.exists(path):
                zk.set(path, str(number).encode())
            else:
                zk.create(path, str(number).encode(), makepath=True)
        except KazooException:
            return False
        return True

    wait_for(written, "the ensemble takes a write")


def test_a_hung_member_is_abandoned(watch: Watch, zk: KazooClient, app: str, ensemble: Ensemble) -> None:
    source = watch(data=[f"{app}/value"], session=True, connect_timeout=4)
    member = member_of(source, ensemble)
    member.signal(signal.SIGSTOP)
    try:
        source.one(change="suspended")
        write(zk, f"{app}/value", 1)
        assert source.one(change="created")["value"] == "1"
    finally:
        member.signal(signal.SIGCONT)
    ensemble.start()


def test_a_rulebook_that_takes_no_event_gets_the_newest_state_and_little_else(
    watch: Watch, zk: KazooClient, app: str
) -> None:
    names = [f"{app}/tree/{number}" for number in range(20)]
    make(zk, f"{app}/tree", *map(str, range(20)))
    source = watch(subtrees=[f"{app}/tree"])
    wait_for(lambda: len(source.all(change="present")) == 22, "everything is sent")
    source.hold()
    for number in range(100):
        for name in names:
            zk.set_async(name, str(number).encode())
    for number in range(1000):
        zk.create_async(f"{app}/tree/short-{number}", b"")
    for number in range(1000):
        zk.delete_async(f"{app}/tree/short-{number}")
    zk.set(f"{app}/tree", b"last")
    source.go_on()
    source.one(change="changed", path=f"{app}/tree", value="last")
    for name in names:
        source.one(path=name, value="99")
        assert len(source.all(path=name, change="changed")) <= 4
    assert len(source.events) < 400


def test_a_source_stopped_while_its_event_is_not_taken_ends_and_closes_its_session(
    watch: Watch, zk: KazooClient, app: str, ensemble: Ensemble
) -> None:
    source = watch(data=[f"{app}/a", f"{app}/b", f"{app}/c"], session=True)
    session = source.one(change="connected")["session"]
    source.hold()
    for name in ("a", "b", "c"):
        make(zk, app, name)
    wait_for(lambda: session in ensemble.sessions(), "the session is there")
    began = time.monotonic()
    source.stop()
    assert time.monotonic() - began < 6
    wait_for(lambda: session not in ensemble.sessions(), "the session is closed", 3)


def test_a_source_that_is_ended_while_the_ensemble_is_unreachable_ends(
    watch: Watch, proxy: Proxy, proxied: dict[str, Any]
) -> None:
    source = watch(**proxied, session=True)
    proxy.refuse()
    source.one(change="suspended")
    began = time.monotonic()
    source.stop()
    assert time.monotonic() - began < 6


def test_the_loop_does_not_spin_during_an_outage(
    watch: Watch,
    zk: KazooClient,
    app: str,
    proxy: Proxy,
    proxied: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[float] = []
    turn = WatchLoop._follow_session

    def counted(loop: WatchLoop, reader: Any) -> None:
        turns.append(time.monotonic())
        turn(loop, reader)

    monkeypatch.setattr(WatchLoop, "_follow_session", counted)
    source = watch(**proxied, data=[f"{app}/a", f"{app}/b", f"{app}/c", f"{app}/d"], session=True)
    source.hold()
    make(zk, app, "a", "b", "c", "d")  # more than are in flight, so some notices are still pending in the outage
    proxy.refuse()
    source.go_on()
    source.one(type="session", change="suspended")
    began, before = time.monotonic(), len(turns)
    wait_for(lambda: time.monotonic() > began + 1.5, "a while")
    assert len(turns) - before < 20
    proxy.behave()
    source.one(change="created", path=f"{app}/d")


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_the_events_add_up_to_what_is_there(
    seed: int, watch: Watch, zk: KazooClient, app: str, proxy: Proxy, proxied: dict[str, Any]
) -> None:
    root = f"{app}/tree"
    zk.ensure_path(root)
    source = watch(**{**proxied, "connect_timeout": 2}, subtrees=[root], registries=[f"{root}/*"], session=True)
    dice = random.Random(seed)
    over = threading.Event()
    trouble = threading.Thread(target=disturb, args=(source, proxy, random.Random(seed), over))
    trouble.start()
    try:
        for number in range(600):
            act(zk, root, dice, number)
            over.wait(dice.choice([0, 0, 0, 0.01, 0.02]))
    finally:
        over.set()
        trouble.join()
    zk.create(f"{root}/end", b"end")
    source.one(type="subtree", path=f"{root}/end", value="end")
    wait_for(lambda: replayed(source.all(type="subtree")) == tree(zk, root), "the events add up to the tree")
    wait_for(lambda: present(source) == services(zk, root), "the services that are there")
    for path in {event["path"] for event in source.all(type="subtree")}:
        check_order(source.all(type="subtree", path=path))


def disturb(source: Source, proxy: Proxy, dice: random.Random, over: threading.Event) -> None:
    """Repeatedly cut the connection, sometimes for longer than the session lives, and hold up the rulebook."""
    while not over.wait(dice.uniform(0.05, 0.5)):
        what = dice.choice(["cut", "refuse", "swallow", "hold"])
        if what == "cut":
            proxy.cut()
            continue
        (source.hold if what == "hold" else getattr(proxy, what))()
        over.wait(dice.choice([0.1, 0.3, 3.0]))
        proxy.behave()
        source.go_on()


def act(zk: KazooClient, root: str, dice: random.Random, number: int) -> None:
    """Create, set or delete one of a few znodes, two levels deep."""
    path = f"{root}/{dice.choice('abc')}" + dice.choice(["", "/x:1", "/y:2"])
    try:
        verb = dice.choice(["create", "create", "set", "delete"])
        if verb == "delete":
            zk.delete(path, recursive=True)
        elif verb == "set":
            zk.set(path, str(number).encode())
        else:
            zk.create(path, str(number).encode(), makepath=True)
    except KazooException:
        pass


def tree(zk: KazooClient, root: str) -> dict[str, str]:
    """The values of `root` and of every znode below it, by path."""
    found = {root: zk.get(root)[0].decode()}
    for name in zk.get_children(root):
        found.update(tree(zk, f"{root}/{name}"))
    return found


def services(zk: KazooClient, root: str) -> set[str]:
    """The entries of every registry below `root`."""
    return {
        f"{root}/{directory}/{name}"
        for directory in zk.get_children(root)
        for name in zk.get_children(f"{root}/{directory}")
    }


def replayed(events: list[dict[str, Any]]) -> dict[str, str]:
    """The values by path that the events add up to."""
    found: dict[str, str] = {}
    for event in events:
        if event["change"] == "deleted":
            del found[event["path"]]
        else:
            found[event["path"]] = event["value"]
    return found


def present(source: Source) -> set[str]:
    """The services that are present according to the events."""
    found: set[str] = set()
    for event in source.all(type="service"):
        if event["change"] == "left":
            found.remove(event["path"])
        else:
            found.add(event["path"])
    return found


def check_order(events: list[dict[str, Any]]) -> None:
    """Check that each change of a znode can follow the previous one, and that each state is newer than the last."""
    there, newest = False, 0
    for event in events:
        assert (event["change"] in {"changed", "deleted"}) == there, events
        there = event["change"] != "deleted"
        if there:
            assert event["stat"]["mzxid"] > newest, events
            newest = event["stat"]["mzxid"]


def test_a_server_that_has_a_new_session_for_each_connection_hides_no_change(
    watch: Watch, ensemble: Ensemble, zk: KazooClient, app: str
) -> None:
    keeper = Keeper(ensemble.members[0].client_port)
    make(zk, app, "stay", "set", "go", "renew")
    source = watch(hosts=keeper.hosts, subtrees=[app], session=True)
    source.one(type="subtree", change="present", path=f"{app}/stay")
    zk.set(f"{app}/stay", b"new")
    source.one(type="subtree", change="changed", path=f"{app}/stay")
    keeper.cut()
    source.one(type="session", change="suspended")
    change_all(zk, app)
    for name, changes in CHANGED.items():
        source.one(type="subtree", change=changes[-1], path=f"{app}/{name}")
    assert session_changes(source, 3) == ["connected", "suspended", "connected"]
    first, again = source.all(type="session", change="connected")
    assert first["session"] != again["session"]
    assert not keeper.hung_up_at
    source.stop()
    keeper.close()
