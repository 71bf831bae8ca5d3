"""The files that the role renders: a changed first line would reload every load balancer at an update."""

from __future__ import annotations

from pathlib import Path

import pytest

TEMPLATES = Path(__file__).resolve().parents[3] / "roles" / "loadbalancer" / "templates"


@pytest.mark.parametrize("name", ["nginx.j2", "haproxy.j2"])
def test_the_first_line_has_not_changed(name: str) -> None:
    count = "{{ _loadbalancer_servers | length }}"
    line = f"# {count} servers, found in ZooKeeper by zoo.deploy. What is changed here by hand is lost."
    assert (TEMPLATES / name).read_text().splitlines()[0] == line
