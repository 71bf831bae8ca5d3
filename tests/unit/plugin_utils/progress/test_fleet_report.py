"""The state of a fleet, as it is reported to a person."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.plugin_utils.progress.fleet_report import (
    ending,
    headline,
    how_far,
    report,
    table,
    table_rows,
    why,
)

NOW = datetime(2026, 11, 24, 10, 15, 42, tzinfo=timezone.utc)
DESIRED, BEFORE = "9" * 40, "2" * 40
DELETED = {"commit_id": None, "generation": None}
UNHEALTHY = f"not healthy within 5 s: http 127.0.0.1:80/health: status 404, expected 200; rolled back to {BEFORE}"
SAID = UNHEALTHY.replace(BEFORE, BEFORE[:10])


def agent(name: str, state: str = "active", **keys: Any) -> dict[str, Any]:
    """A live agent, by default one that has proved generation 7."""
    given = {"commitId": DESIRED, "previousCommitId": BEFORE, "since": "2026-11-24T10:15:30.123+00:00"}
    return {"name": name, "state": state, "generation": 7, **given, **keys}


def failed(name: str) -> dict[str, Any]:
    """An agent that rolled back."""
    return agent(name, "rolled_back", commitId=BEFORE, message=UNHEALTHY)


def waiting(name: str) -> dict[str, Any]:
    """An agent whose turn has not come."""
    return agent(name, "waiting", commitId=BEFORE, previousCommitId=None, message="waits for its turn in the rollout")


def halted(name: str) -> dict[str, Any]:
    """An agent whose turn no longer comes."""
    return agent(name, "halted", commitId=BEFORE, message=f"the rollout is halted: web1 failed: {UNHEALTHY}")


def result(*agents: dict[str, Any], missing: tuple[str, ...] = (), **keys: Any) -> dict[str, Any]:
    """What a module returns about these agents."""
    given = {"commit_id": DESIRED, "generation": 7, "agents": [*agents], "missing_agents": [*missing]}
    return {**given, "failed_agents": [], "pending_agents": [], "lost_agents": [], **keys}


def rollout(phase: str, counts: dict[str, int] | None = None, hosts: dict[str, str] | None = None, **keys: Any) -> Any:
    """What it returns about a rollout of two steps, of which the first is open."""
    entries = {name: {"state": state} for name, state in (hosts or {}).items()}
    given = {"phase": phase, "step": 1, "steps": 2, "plan": {"steps": [{"hosts": 1, "soak": 60}]}, "by": ""}
    return {**given, "counts": counts or {}, "hosts": entries, "reason": "", "since": "", **keys}


def cells(line: str) -> list[str]:
    """The words of a line."""
    return line.split()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"commit_id": DESIRED}, "shop  9999999999"),
        (
            {
                "commit_id": DESIRED,
                "before": {"commitId": BEFORE, "subject": "one"},
                "release": {"publisher": "op@ctl", "ref": "main", "subject": "breaks health"},
            },
            'shop  2222222222 "one" -> 9999999999 "breaks health"  (op@ctl, main)',
        ),
        ({"commit_id": DESIRED, "before": {"commitId": DESIRED}}, "shop  9999999999"),
        (
            {"commit_id": DESIRED, "changed": False, "before": {"commitId": DESIRED}, "release": {"subject": "fix"}},
            'shop  9999999999 "fix"',
        ),
        (
            {"commit_id": DESIRED, "changed": True, "before": {"commitId": DESIRED}, "release": {"subject": "fix"}},
            'shop  9999999999 "fix" again',
        ),
        ({"commit_id": DESIRED, "rollout": {"from": BEFORE}}, "shop  2222222222 -> 9999999999"),
        # A ref that is the commit itself adds nothing.
        ({"commit_id": DESIRED, "release": {"ref": DESIRED, "commitId": DESIRED}}, "shop  9999999999"),
        (
            {"commit_id": DESIRED, "release": {"publisher": "\x1b[31mop", "ref": ["main"]}},
            "shop  9999999999  (\\x1b[31mop, ['main'])",
        ),
        ({"commit_id": None}, ""),
        ({}, ""),
    ],
)
def test_the_headline_says_from_what_to_what_and_by_whom(given: dict[str, Any], said: str) -> None:
    assert headline(given, "/app/shop") == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (result(agent("a"), agent("b")), "[##############] 2 of 2"),
        (result(agent("a"), agent("b", generation=6)), "[#######.......] 1 of 2"),
        (result(agent("a"), missing=("b", "c")), "[####..........] 1 of 3, 2 missing"),
        (result(agent("a"), failed("b"), failed_agents=["b"]), "[#######.......] 1 of 2, 1 failed"),
        (
            result(agent("a"), failed("b"), missing=("c",), rollout=rollout("running", {"failed": 1, "lost": 1})),
            "step 1 of 2 (1 server)  [####..........] 1 of 3, 1 failed, 1 lost, 1 missing",
        ),
        # A verb looks at no fleet.
        ({"rollout": rollout("paused", by="ann")}, "step 1 of 2 (1 server)  paused by ann"),
    ],
)
def test_how_far_a_fleet_is_in_one_line(given: dict[str, Any], said: str) -> None:
    assert how_far(given, NOW) == said


def test_each_host_has_a_row_with_what_it_can_roll_back_to() -> None:
    held = {"since": "2026-11-24T09:00:00+00:00", "by": "ann", "reason": "disk swap"}
    fleet = [
        agent("web1"),
        agent("web2", "fetching", generation=7, commitId=None, previousCommitId=None, message="no route"),
        failed("web3"),
        agent("web4", held=held, troubles=["no permission, path=/x"]),
        agent("web5", generation=6),
    ]
    head, *rows = table(list(table_rows(result(*fleet, missing=("web6",)))))
    assert cells(head) == ["server", "state", "serves", "back", "to", "since", "(UTC)"]
    moment = ["2026-11-24", "10:15:30"]
    assert cells(rows[0]) == ["web1", "active", "9999999999", "2222222222", *moment, "up", "to", "date"]
    assert cells(rows[1]) == ["web2", "fetching", "-", "-", *moment, "drift:", "no", "route"]
    # It can't roll back to what it serves.
    assert cells(rows[2])[:5] == ["web3", "rolled_back", "2222222222", "-", "2026-11-24"]
    assert rows[3].endswith("held since 2026-11-24T09:00:00+00:00 by ann: disk swap; no permission, path=/x")
    assert rows[4].endswith(" drift")
    assert cells(rows[5]) == ["web6", "missing", "-", "-", "expected,", "and", "not", "live"]


def test_a_row_has_the_outcome_of_a_host_in_a_rollout_until_that_is_done() -> None:
    fleet = result(agent("web1"), waiting("web2"), missing=("web3",))
    hosts = {"web1": "proved", "web3": "lost"}
    running = rollout("running", hosts=hosts)
    _head, *rows = table(list(table_rows({**fleet, "rollout": running})))
    assert rows[0].endswith("proved in the rollout")
    running["hosts"]["web1"]["step"] = 2
    assert table(list(table_rows({**fleet, "rollout": running})))[1].endswith("proved in step 2")
    assert rows[1].endswith("drift: waits for its turn")
    assert rows[2].endswith("lost in the rollout; expected, and not live")
    _head, *rows = table(list(table_rows({**fleet, "rollout": rollout("done", hosts=hosts)})))
    assert rows[0].endswith("up to date")


def test_where_nothing_is_published_nobody_has_drifted() -> None:
    idle = agent("web1", "idle", generation=None, commitId=None, previousCommitId=None)
    _head, row = table(list(table_rows(result(idle, commit_id=None, generation=None))))
    assert cells(row) == ["web1", "idle", "-", "-", "2026-11-24", "10:15:30"]
    assert report(result(commit_id=None, generation=None), NOW)[1:] == ["no agent is live"]


def test_of_a_large_fleet_those_that_matter_are_shown_and_the_rest_is_counted() -> None:
    fleet = [*(agent(f"ok{number}") for number in range(900)), *(waiting(f"next{number}") for number in range(90))]
    fleet += [agent("busy", "checking", commitId=BEFORE), failed("bad1"), failed("bad2")]
    lines = table(list(table_rows(result(*fleet, missing=("dead",), rollout=rollout("running")))))
    assert [cells(line)[0] for line in lines[1:6]] == ["bad1", "bad2", "dead", "busy", "next0"]
    assert len(lines) == 22
    assert lines[-1] == "74 more wait, or stay where they are, 900 more are up to date"


@pytest.mark.parametrize("width", [60, 100, 160])
def test_no_line_is_longer_than_it_may_be_and_no_reason_is_lost(width: int) -> None:
    fleet = result(failed("web1"), halted("web2"), agent("a-name-that-is-longer-than-most" * 3))
    lines = report({**fleet, "rollout": rollout("halted", reason=f"web1 failed: {UNHEALTHY}")}, NOW, width)
    assert max(map(len, lines[1:-2])) <= width
    assert SAID in " ".join(line.strip() for line in lines)


def test_equal_reasons_are_shown_once_with_all_their_hosts() -> None:
    fleet = [failed("web1"), agent("web2", "failed", message="disk full"), failed("web3"), agent("web4")]
    assert why(table_rows(result(*fleet))) == [f"web1 and web3: {SAID}", "web2: disk full"]


def test_the_reason_of_a_rollout_is_shown_once_and_not_by_each_host() -> None:
    hosts = {"web1": "failed"}
    stopped = rollout("halted", {"failed": 1}, hosts, reason=f"web1 failed: {UNHEALTHY}", bad="it fails")
    text = "\n".join(report(result(failed("web1"), halted("web2"), halted("web3"), rollout=stopped), NOW, 1000))
    assert text.count(f"  web1: {SAID}") == 1
    # In the row of web1 too.
    assert text.count("expected 200") == 2
    assert "The fleet serves 2222222222 (3), 9999999999 (0); desired is 9999999999, which is marked as bad." in text
    assert text.endswith("Next: rollback.yml, or deploy a fix; promote.yml with zoo_force=true goes on in spite of it")


@pytest.mark.parametrize("phase", ["running", "soaking", "paused"])
def test_a_refusal_says_neither_to_try_the_same_again_nor_that_it_goes_on_by_itself(phase: str) -> None:
    refused = {"failed": True, "msg": "web1 has proved the release and is not live any more", "rollout": rollout(phase)}
    assert not any(line.startswith("Next:") for line in report(refused, NOW))
    # A wait in vain has not been refused, nor has a mere report of the state.
    for key, value in (("elapsed", 1.0), ("agents", []), ("failed", False)):
        assert report({**refused, key: value}, NOW)[-1].startswith("Next:")


def test_a_refusal_because_the_rollout_is_halted_names_the_next_step() -> None:
    refused = {"failed": True, "msg": "refused: the rollout is halted", "rollout": rollout("halted")}
    assert report(refused, NOW)[-1].startswith("Next: rollback.yml, or deploy a fix")


def test_a_host_that_rolled_back_with_the_rollout_does_not_repeat_why() -> None:
    message = f"the rollout of {DESIRED} was rolled back: web1 failed: {UNHEALTHY}"
    with_it = agent("web2", "rolled_back", commitId=BEFORE, message=message)
    hosts = {"web1": "returned", "web2": "returned"}
    gone_back = rollout("rolled_back", {"returned": 2}, hosts, reason=f"web1 failed: {UNHEALTHY}")
    lines = report(result(with_it, rollout=gone_back), NOW)
    assert next(line for line in lines if "web2" in line).endswith("returned in the rollout; drift")
    assert [line for line in lines if "rolled back to" in line] == [f"  why: web1 failed: {SAID}"]


def test_a_fleet_that_serves_what_is_desired_needs_nobody() -> None:
    lines = report(result(agent("web1"), agent("web2"), rollout=rollout("done")), NOW)
    assert lines[0] == "done  [##############] 2 of 2"
    assert len(lines) == 4


def test_no_text_of_others_can_move_the_cursor_or_colour_the_terminal() -> None:
    evil = "\x1b[2J\x9b31m\r\u202eowned\nnext line"
    said = agent("web1", "failed", commitId=evil, previousCommitId=evil, message=evil, since=evil, troubles=[evil])
    marks = {"since": evil, "by": evil, "reason": evil}
    fleet = result(said, agent("web2", held=marks, drained=evil, troubles=evil), failed_agents=["web1"])
    lines = report({**fleet, "rollout": rollout("halted", by=evil, reason=evil, bad=evil)}, NOW)
    assert all(line.isprintable() for line in lines), lines


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"elapsed": 31.4, "failed": True, "agents": [agent("web1"), agent("web2", generation=6)]},
            "FAILED after 31 s: 1 of 2 have proved commit 9999999999",
        ),
        (
            {"elapsed": 31.4, "failed": True, "agents": [failed("web7"), agent("web1"), failed("web8")]},
            f"FAILED after 31 s: web7 and web8: {SAID}",
        ),
        (
            {"elapsed": 31.4, "failed": True, "rollout": rollout("halted", reason="gate checkout failed: no cart")},
            "FAILED after 31 s: gate checkout failed: no cart",
        ),
        (
            {"elapsed": 1.234, "changed": True, "release": {}},
            "1 of 2 have proved commit 9999999999, 1.23 s after it was published",
        ),
        (
            {"elapsed": 1.234, "changed": False, "release": {}},
            "1 of 2 have proved commit 9999999999, 1.23 s after it was asked for",
        ),
        # Promoting a rollout changes it, but publishes nothing.
        ({"elapsed": 1.234, "changed": True}, "1 of 2 have proved commit 9999999999, 1.23 s after it was asked for"),
        (
            {"elapsed": 1.234, "changed": True, "release": {}, "missing_agents": ["web3"]},
            "1 of 2 have proved commit 9999999999, 1.23 s after it was published; 1 missing",
        ),
        ({}, ""),
    ],
)
def test_how_a_wait_has_ended(keys: dict[str, Any], said: str) -> None:
    assert ending(result(agent("web1"), waiting("web2"), **keys)) == said


@pytest.mark.parametrize(
    ("units", "said"),
    [
        (["zoo-watcher@shop"], ["Logs: journalctl -u zoo-watcher@shop"]),
        (["b", "b", "a", "c", "c", "d", "d"], ["Logs: journalctl -u b -u c -u d"]),
        # A unit that no agent has reported is not guessed; what is not a unit's name must not be pasted into a shell.
        ([None, "", "-x", "a; reboot", "a\nb", ["a"], {"a": 1}, "\x1b"], []),
    ],
)
def test_the_journals_to_look_at_are_those_that_the_agents_in_trouble_report(units: list[Any], said: list[str]) -> None:
    fleet = [failed(f"web{number}") | {"unit": unit} for number, unit in enumerate(units)]
    lines = report(result(*fleet, agent("fine", unit="zoo-watcher@other")), NOW)
    assert [line for line in lines if line.startswith("Logs:")] == said


def test_a_wait_that_was_overtaken_reports_the_release_that_is_desired_now() -> None:
    fix = "f" * 40
    agents = [agent("web1", generation=8, commitId=fix, previousCommitId=DESIRED), agent("web2", commitId=BEFORE)]
    paused = rollout("paused", reason="step 1 waits for a person")
    given = result(*agents, rollout=paused, overtaken_by={"commit_id": fix, "generation": 8})
    far, _header, web1, web2, serves, following = report(given, NOW)
    assert far == "[#######.......] 1 of 2"
    assert web1.endswith("up to date")
    assert web2.endswith("drift")
    assert serves == "The fleet serves ffffffffff (1), 2222222222 (1); desired is ffffffffff."
    assert following == "Next: status.yml shows how ffffffffff gets on, which was published meanwhile"


def test_a_wait_whose_release_was_deleted_reports_that_nothing_is_desired() -> None:
    given = result(agent("web1"), waiting("web2"), rollout=rollout("paused"), overtaken_by=DELETED)
    far, _header, web1, _web2, following = report(given, NOW)
    # Their outcomes are still shown; why the others have not proved it no longer matters.
    assert far == "[#######.......] 1 of 2"
    assert "drift" not in web1
    assert following == "Next: deploy.yml publishes a release; this one was deleted meanwhile"


@pytest.mark.parametrize("later", [DELETED, {"commit_id": BEFORE, "generation": 8}], ids=["deleted", "published"])
def test_the_ending_of_a_wait_that_was_overtaken_is_that_of_the_task(later: dict[str, Any]) -> None:
    keys: Any = {"failed": True, "elapsed": 6.0, "msg": "/app/shop/config: no more of that"}
    given = result(agent("web1"), waiting("web2"), rollout=rollout("soaking"), overtaken_by=later, **keys)
    assert ending(given) == "FAILED after 6 s: /app/shop/config: no more of that"


def test_a_wait_that_something_unreadable_has_overtaken_reports_no_deletion() -> None:
    given = result(agent("web1"), rollout=rollout("paused"), overtaken_by={"commit_id": None, "generation": 8})
    assert report(given, NOW)[-1] == "Next: status.yml shows what was published meanwhile, which is not a release"
