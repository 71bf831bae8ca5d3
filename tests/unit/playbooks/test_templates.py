"""How playbooks show what others have written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jinja2

TEMPLATES = Path(__file__).resolve().parents[3] / "playbooks" / "templates"
# Terminal colours and clearing, right-to-left text, invisible characters; and a second line, which may stay.
ODD = "\x9b31mred\u202e\x1b[2J\u061c\ufeff\u00ad\U000e0041\nsecond"
HARMLESS = "?31mred??[2J????"


def templates() -> jinja2.Environment:
    """The playbooks' templates."""
    return jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True)  # no HTML


def test_what_a_server_says_does_nothing_to_a_terminal() -> None:
    line = templates().get_template("server.j2").make_module({}).line  # type: ignore[attr-defined]
    said = line({"name": "web1", "state": "failed", "commitId": "\x9b2J", "held": {"reason": "\x9b1m"}}, ODD)
    assert said.split("\n") == [
        f"{'web1':24} {'failed':11} {'?2J':10} held since ? by ?: ?1m; {HARMLESS}",
        " " * 48 + "second",
    ]


def test_what_is_reported_about_a_file_does_nothing_to_a_terminal() -> None:
    file = {"znode": "/config/shop", "state": "failed", "format": "value", "message": ODD}
    fleet = {"agents": [{"name": "web1", "files": {"/etc/\x9b": file}}]}
    said = (
        templates()
        .get_template("config.j2")
        .render(zoo_config_path="/config/shop", _zoo_fleet=SimpleNamespace(**fleet))
    )
    assert said.split("\n")[:2] == [f"{'web1':24} {'failed':8} /etc/?: {HARMLESS}", " " * 34 + "second"]


def test_what_answers_at_a_members_address_does_nothing_to_a_terminal() -> None:
    members = [
        {"member": "zk1:2181", "problem": ODD},
        {"member": "zk2:2181", "mode": "\ufeffleader", "version": "3.9\x9b2J"},
    ]
    said = templates().get_template("ensemble.j2").render(_zoo_ensemble={"members": members})
    assert said.split("\n")[:2] == [
        f"{'zk1:2181':24} {'down':11} {HARMLESS}?second",
        f"{'zk2:2181':24} {'?leader':11} ZooKeeper 3.9?2J",
    ]
