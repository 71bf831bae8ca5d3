"""How a member's answers are parsed."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils import member
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ConnectError
from ansible_collections.zoo.deploy.plugins.module_utils.member import (
    Address,
    Question,
    addresses,
    ask_member,
    monitored,
    parse_mntr,
    parse_srvr,
)

SRVR = """\
Zookeeper version: 3.8.0-abc, built on 2024-12-29 17:54 UTC
Latency min/avg/max: 0/11.5/21
Received: 16
Sent: 15
Connections: 2
Outstanding: 3
Zxid: 0x100000010
Mode: leader
Node count: 5
Proposal sizes last/min/max: 48/48/48
"""
MNTR = "zk_version\t3.9.3-abc, built on 2024\nzk_server_state\tleader\nzk_avg_latency\t0.5\nzk_min_latency\t0\n"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("zk1", "zk1", 2181),
        ("zk1:2182", "zk1", 2182),
        ("10.0.0.1:2182", "10.0.0.1", 2182),
        ("[fd00::1]:2182", "fd00::1", 2182),
        ("[fd00::1]", "fd00::1", 2181),
    ],
)
def test_a_member_has_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == (text, host, port)


@pytest.mark.parametrize("text", ["[::1", "::1]:2181", "zk1:", "zk1:x", "zk1:0", "zk1:65536", ":2181"])
def test_an_invalid_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ConnectError, match="expected host:port with a port from 1 to 65535"):
        Address.parse(text)


def test_a_chroot_does_not_matter() -> None:
    assert [one.text for one in addresses({"hosts": "zk1:2181, zk2:2181/a/b"})] == ["zk1:2181", "zk2:2181"]


@pytest.mark.parametrize("port", [-1, 65536])
def test_an_invalid_admin_port_is_refused(port: int) -> None:
    with pytest.raises(ConnectError, match="admin_port: expected a port"):
        Question.from_options({"admin_port": port})


def test_srvr_has_what_every_member_reports() -> None:
    assert parse_srvr(SRVR) == {
        "version": "3.8.0",
        "latency": {"min": 0.0, "avg": 11.5, "max": 21.0},
        "connections": 2,
        "outstanding": 3,
        "zxid": 0x100000010,
        "mode": "leader",
        "znodes": 5,
    }


def test_mntr_has_more_and_what_is_not_reported_is_left_out() -> None:
    told: dict[str, Any] = {"version": "3.9.3", "mode": "leader"}
    assert parse_mntr(MNTR) == told  # without the maximum, no latency
    assert parse_mntr(f"{MNTR}zk_max_latency\t7\nzk_synced_followers\t2\nzk_global_sessions\t30\n") == {
        **told,
        "latency": {"min": 0.0, "avg": 0.5, "max": 7.0},
        "synced_followers": 2,
        "sessions": 30,
    }


def test_a_value_that_is_not_a_number_is_a_problem_and_a_version_is_a_string() -> None:
    """Another program may answer at the AdminServer's port."""
    assert monitored({"version": 5}) == {"version": "5"}
    assert monitored({"version": None}) == {"version": "None"}
    wrong: tuple[dict[str, Any], ...] = (
        {"min_latency": [], "avg_latency": 0, "max_latency": 0},
        {"znode_count": {}},
    )
    for values in wrong:
        with pytest.raises(ValueError, match=r"could not convert|invalid literal"):
            monitored(values)


def test_an_answer_that_is_nested_too_deeply_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 100_000
    monkeypatch.setattr(member, "_exchange", lambda *_given: answer)
    with pytest.raises(ValueError, match="expected a JSON object"):
        member._command(Address("zk1", "zk1", 2181), Question(1.0, None, 8080, None), "monitor", 0.0)


@pytest.mark.parametrize("answer", ["", "This ZooKeeper instance is not currently serving requests\n"])
def test_the_answer_of_a_member_that_does_not_serve_has_nothing(answer: str) -> None:
    assert parse_srvr(answer) == parse_mntr(answer) == {}


def test_what_a_member_calls_itself_does_nothing_to_a_terminal() -> None:
    said = parse_srvr("Zookeeper version: 3.8\x1b[2J-abc\nMode: lea\u202eder\n")
    assert said == {"version": "3.8?[2J", "mode": "lea?der"}


def test_the_answer_of_another_program_does_nothing_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member, "_exchange", lambda *_given: "hello \x1b[2J \u202eyou\n".encode())
    said = ask_member(Address("zk1", "zk1", 2181), Question(1.0, None, 0, None))
    assert said == {"member": "zk1", "problem": "hello ?[2J ?you"}
