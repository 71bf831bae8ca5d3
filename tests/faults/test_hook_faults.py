"""Hooks fail, hang and chatter, checks never pass: the previous release returns, the failed one is not tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.support.host import Host
from faults.support.ledger import Ledger

Hosts = Callable[..., Host]
NAMES = ("before_activate", "after_activate")


def only_for(text: str, script: str) -> list[str]:
    """A command that runs `script` if the release's index.html contains `text`, and succeeds otherwise."""
    return ["/bin/sh", "-c", f'grep -q {text} "$ZOO_RELEASE/index.html" || exit 0; {script}']


def count_tries(one: Host, generation: int, state: str) -> int:
    """How often the agent has reached a state with a generation."""
    return one.agent.log.count(f"{state}, generation={generation}")


def check_gave_up(one: Host, generation: int, before: str, *words: str) -> None:
    """Check that the host has `before` live and says why, and that a restarted agent does not try again."""
    status = one.outcome(generation)
    assert status["state"] in {"rolled_back", "failed"}
    assert [word for word in words if word not in status["message"]] == []
    one.check_live(before)
    tried = count_tries(one, generation, "activating"), count_tries(one, generation, "fetching")
    one.agent.end()
    one.start()
    again = one.outcome(generation)
    assert (again["state"], again["message"]) == (status["state"], status["message"])
    assert (count_tries(one, generation, "activating"), count_tries(one, generation, "fetching")) == tried
    one.check_live(before)
    one.check_registered()
    one.origin.commit({"index.html": "good again\n"})
    one.settle()


def command_line(process: str) -> str:
    """The command line of a process, empty if it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.storm
@pytest.mark.parametrize("name", NAMES)
def test_a_hook_that_fails_is_quoted_and_its_release_is_not_tried_again(host: Hosts, ledger: Ledger, name: str) -> None:
    script = "echo first; echo the last line >&2; exit 7"
    one = host(hooks={name: only_for("bad", script)}).start()
    one.settle()
    before = one.origin.head
    one.origin.commit({"index.html": "bad\n"})
    ledger.inject(f"a hook that fails: {name}")
    check_gave_up(one, one.publish(), before, f"hook {name} ended with status 7", "first\nthe last line")


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_that_hangs_is_ended_with_all_that_it_started(
    host: Hosts, ledger: Ledger, name: str, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    script = f"echo hanging; sleep 600 & echo $! > {started}; wait"
    one = host(hook_timeout=0.3, hooks={name: only_for("bad", script)}).start()
    one.settle()
    before = one.origin.head
    one.origin.commit({"index.html": "bad\n"})
    ledger.inject(f"a hook that hangs: {name}")
    check_gave_up(one, one.publish(), before, f"hook {name} not ended within 0.3 s", "hanging")
    assert "sleep" not in command_line(started.read_text().strip())


@pytest.mark.storm
def test_a_hook_that_writes_a_lot_fills_neither_status_nor_memory(host: Hosts, ledger: Ledger) -> None:
    script = "yes a long line of a hook that chatters | head -c 30000000; echo; echo the very last; exit 1"
    one = host(hooks={"after_activate": only_for("bad", script)}).start()
    one.settle()
    before = one.origin.head
    one.origin.commit({"index.html": "bad\n"})
    ledger.inject("a hook that writes 30 MB")
    check_gave_up(one, one.publish(), before, "hook after_activate ended with status 1", "the very last")
    assert len(one.agent.log) < 1_000_000


@pytest.mark.storm
def test_a_before_rollback_hook_that_fails_does_not_prevent_the_rollback(host: Hosts, ledger: Ledger) -> None:
    hooks: dict[str, Any] = {
        "after_activate": only_for("bad", "exit 1"),
        "before_rollback": ["/bin/sh", "-c", "echo no way; exit 3"],
    }
    one = host(hooks=hooks).start()
    one.settle()
    before = one.origin.head
    one.origin.commit({"index.html": "bad\n"})
    ledger.inject("a hook that fails: before_rollback")
    check_gave_up(one, one.publish(), before, "hook before_rollback ended with status 3", "no way", "rolled back to")


def test_a_release_whose_check_never_passes_is_rolled_back_with_the_checks_last_lines(
    host: Hosts, ledger: Ledger
) -> None:
    one = host(health_timeout=0.5)
    page = one.agent.base / "site/index.html"
    command = ["/bin/sh", "-c", f"grep -q bad {page} && echo it says bad && exit 9; exit 0"]
    one.agent.config["services"][0]["check"].update(type="command", command=command, timeout=5)
    one.start().settle()
    before = one.origin.head
    one.origin.commit({"index.html": "bad\n"})
    ledger.inject("a health check that never passes")
    check_gave_up(one, one.publish(), before, "not healthy within 0.5 s", "ended with status 9", "it says bad", before)


@pytest.mark.storm
def test_a_host_goes_back_from_a_bad_release_while_the_git_server_is_gone(host: Hosts, ledger: Ledger) -> None:
    one = host(hooks={"after_activate": only_for("bad", "mv $AWAY $AWAY.gone; exit 1")})
    one.agent.config["hooks"]["after_activate"][2] = one.agent.config["hooks"]["after_activate"][2].replace(
        "$AWAY", str(one.origin.path)
    )
    one.start().settle()
    before = one.origin.head
    one.origin.commit({"index.html": "bad\n"})
    one.check_live(before)
    ledger.inject("a git server that goes while a bad release is live")
    status = one.outcome(one.publish())
    one.origin.path.with_name(f"{one.origin.path.name}.gone").rename(one.origin.path)
    assert status["state"] == "rolled_back"
    one.check_live(before)
    one.check_registered()
