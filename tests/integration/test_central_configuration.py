"""The article's run with a real agent and real tasks gives what the documentation shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent import Agent
from support.client import connected
from support.ensemble import Ensemble
from support.walkthrough import PAGE, Walkthrough, write_if_asked


@pytest.fixture
def walkthrough(tmp_path: Path) -> Iterator[Walkthrough]:
    """The article's ensemble, in which `/mxn` does not exist yet."""
    # Ticks that grant a long session timeout, so that no session is lost even on a busy machine.
    servers = Ensemble(tmp_path / "ensemble", tick=2000)
    with servers, connected(servers.hosts) as zk:
        hosts = f"{servers.hosts}/mxn"
        agent = Agent(tmp_path / "server1", hosts, "/business", zk, config={"session_timeout": 40})
        yield Walkthrough(tmp_path, servers, agent)
        agent.kill()


def test_the_page_shows_the_current_output_of_the_articles_run(walkthrough: Walkthrough) -> None:
    page = walkthrough.walk()
    write_if_asked(page)
    assert page == PAGE.read_text(encoding="utf-8"), "write it anew with the command that it names"
    for value in ("muxiaonong666", "muxiaonong6969"):
        assert f"The file holds `{value}`." in page
    assert page.index("The file does not exist.") < page.index("The file holds")
