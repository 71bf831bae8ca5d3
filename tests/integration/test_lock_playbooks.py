"""The playbooks that lock and unlock, and those that are locked out, as a person runs them."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import uuid
from typing import Any

import pytest

from support.client import connected
from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook
from support.repository import GitRepository
from support.waiting import wait_for

Day = dict[str, subprocess.CompletedProcess[str]]


class Person:
    """Runs playbooks for one application, and keeps the result of each run by a name."""

    def __init__(self, hosts: str, app: str) -> None:
        self.done: Day = {}
        self._common = {"zoo_hosts": hosts, "zoo_app": app, "zoo_min_agents": 0}

    def play(self, name: str, playbook: str, **variables: Any) -> None:
        """Run a playbook."""
        given = {**self._common, **{f"zoo_{key}": value for key, value in variables.items()}}
        self.done[name] = run_playbook(ROOT / "playbooks" / f"{playbook}.yml", "-e", json.dumps(given))


def is_watched(ensemble: Ensemble, path: str) -> bool:
    """Whether any client watches a znode."""
    return any(path in member.ask("wchp").split() for member in ensemble.members)


@pytest.fixture(scope="module")
def day(ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Day:
    """The result of each run, by its name."""
    app = f"/app/{uuid.uuid4().hex[:12]}"
    repository = GitRepository.create(tmp_path_factory.mktemp("lock") / "origin")
    commits = [repository.head, *(repository.commit({"index.html": name}) for name in ("second", "third", "fourth"))]
    person = Person(ensemble.hosts, app)
    person.play("first", "deploy", url=repository.url, ref=commits[0], relative_path="site")
    person.play("no reason", "lock")
    person.play("no duration", "lock", reason="migration", lock_for="soon")
    person.play("empty duration", "lock", reason="migration", lock_for=None)
    person.play("empty time", "lock", reason="migration", lock_until=None)
    person.play("locked", "lock", reason="migration", lock_for="2h", lock_by="ann")
    person.play("locked out", "deploy", ref=commits[1])
    person.play("status", "status")
    person.play("another's", "lock", reason="freeze", lock_by="bob")
    person.play("not unlocked", "unlock", lock_by="bob")
    person.play("forced", "deploy", ref=commits[1], force=True)
    person.play("back", "rollback", to=commits[0])
    with connected(ensemble.hosts) as zk:
        given = {"ref": commits[2], "lock_timeout": 120}
        waits = threading.Thread(target=person.play, args=("waited", "deploy"), kwargs=given)
        waits.start()
        wait_for(lambda: is_watched(ensemble, f"{app}/lock"), "the lock is watched", 60)
        zk.set(f"{app}/lock", b"")
        waits.join(120)
    person.play("taken over", "lock", reason="freeze", lock_by="bob", lock_until="2099-12-24T18:00:00+01:00")
    person.play("in vain", "deploy", ref=commits[3], lock_timeout=1)
    person.play("unlocked", "unlock", force=True)
    person.play("unlocked again", "unlock")
    return person.done


def well(done: subprocess.CompletedProcess[str]) -> str:
    """The output of a run, which has to have succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def why(done: subprocess.CompletedProcess[str]) -> str:
    """The only line that says why a run failed."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("fatal: ")]
    return line.replace("\\", "")


HELD = r"locked by ann since \S+ until \S+: migration"


def test_a_lock_says_who_holds_it_until_when_and_why(day: Day) -> None:
    assert re.search(rf"/lock: {HELD}", well(day["locked"]))
    assert re.search(HELD, day["status"].stdout)
    assert "zoo_reason: say why, for whoever is locked out" in why(day["no reason"])
    assert "expires_after: expected seconds, or a number with s, m, h or d" in why(day["no duration"])
    assert re.search(r'expires_after: expected seconds, .*, got ""', why(day["empty duration"]))
    assert re.search(r'expires_at: expected a time such as .*, got ""', why(day["empty time"]))


def test_a_deployment_is_locked_out_in_one_line_and_a_rollback_is_not(day: Day) -> None:
    assert re.search(rf"/lock: {HELD}; nothing is published; wait for it", why(day["locked out"]))
    well(day["back"])


def test_a_deployment_by_force_warns_whose_lock_it_overrides(day: Day) -> None:
    said = " ".join(well(day["forced"]).split())
    assert re.search(rf"{HELD}; overridden by force", said), said


def test_a_deployment_that_waits_says_for_which_lock_and_goes_on_when_it_is_released(day: Day) -> None:
    said = well(day["waited"])
    assert re.search(rf"^{HELD}; waiting for that, 120 s at most$", said, re.MULTILINE), said
    assert "still so after 1 s; nothing is published" in why(day["in vain"])


def test_somebody_elses_lock_is_released_only_by_force(day: Day) -> None:
    assert re.search(rf"{HELD}; nothing is changed; force takes it over", why(day["another's"]))
    assert re.search(rf"{HELD}; nothing is changed; force unlocks it all the same", why(day["not unlocked"]))
    assert "locked by bob since" in well(day["taken over"])
    said = " ".join(well(day["unlocked"]).split())
    assert "until 2099-12-24T18:00:00+01:00: freeze; broken by force" in said
    assert "/lock: not locked" in said
    assert "changed=0" in well(day["unlocked again"])


def test_a_reason_of_several_words_is_accepted_completely_or_refused(ensemble: Ensemble) -> None:
    """Ansible splits `-e` at blanks, unless the value is quoted."""
    app = f"/app/{uuid.uuid4().hex[:12]}"
    common = json.dumps({"zoo_hosts": ensemble.hosts, "zoo_app": app})
    playbook = ROOT / "playbooks/lock.yml"
    refused = run_playbook(playbook, "-e", common, "-e", "zoo_reason=database migration")
    assert refused.returncode == 2
    assert "-e: there are words that belong to no variable; a value with blanks needs quotes" in refused.stdout
    done = run_playbook(playbook, "-e", common, "-e", "zoo_reason='database migration'")
    assert done.returncode == 0, done.stdout
    assert ": database migration" in done.stdout
