"""The playbooks around a rollout with real agents: one person's day, by the output of each run."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent import Agent
from support.client import connected
from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook
from support.repository import GitRepository

FAILS_WHERE_BROKEN = ["/bin/sh", "-c", "! grep -q broken index.html"]
PAUSES = {"minHealthy": 0, "steps": [{"hosts": 1, "pause": True}], "maxInFlight": 2}
Day = dict[str, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def day(ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """The result of each run, by its name."""
    root, app = tmp_path_factory.mktemp("rollout"), f"/app/{uuid.uuid4().hex[:12]}"
    repository = GitRepository.create(root / "origin")
    commits = [repository.head]
    commits += [repository.commit({"index.html": f"{name}\n"}) for name in ("second", "third", "broken", "fourth")]
    common, plans = {"zoo_hosts": ensemble.hosts, "zoo_app": app}, {"mine": PAUSES}
    done: Day = {}

    def play(name: str, playbook: str, *words: str, **variables: Any) -> None:
        given = {**common, **{f"zoo_{key}": value for key, value in variables.items()}}
        done[name] = run_playbook(ROOT / "playbooks" / f"{playbook}.yml", "-e", json.dumps(given), *words)

    hooks = {"hooks": {"after_activate": FAILS_WHERE_BROKEN}}
    with connected(ensemble.hosts) as zk, contextlib.ExitStack() as running:
        for number in range(3):
            agent = Agent(root / f"web{number}", ensemble.hosts, app, zk, f"web{number}", hooks).start()
            running.callback(agent.kill)
            agent.wait_live()
        play("first", "deploy", url=repository.url, ref=commits[0], relative_path="site")
        play("nothing to promote", "promote")
        play("unknown", "deploy", ref=commits[1], rollout="nonsense", rollouts=plans)
        play("no plans", "deploy", ref=commits[1], rollouts=["mine"])
        play("no value", "deploy", ref=commits[1], rollout="mine", rollouts={"mine": None})
        play("foreseen", "deploy", "--check", "--diff", ref=commits[1], rollout="mine", rollouts=plans)
        play("paused", "deploy", ref=commits[1], rollout="mine", rollouts=plans)
        play("status of paused", "status")
        play("paused again", "pause")
        play("promotion foreseen", "promote", "--check")
        play("promoted", "promote", reason="it looks well")
        play("status of done", "status")
        play("object", "deploy", ref=commits[2], rollout=json.dumps(PAUSES))
        play("aborted", "abort", reason="checkout fails")
        play("status of halted", "status")
        play("not promoted", "promote")
        play("forced", "promote", force=True)
        play("broken", "deploy", ref=commits[3], rollout={**PAUSES, "onFailure": "rollback"})
        play("status of broken", "status")
        play("back", "rollback")
        play("broken again", "deploy", ref=commits[3])
        play("text", "deploy", ref=commits[4], rollout="true")
        yield done


def well(done: subprocess.CompletedProcess[str]) -> str:
    """The output of a run, which has to have succeeded."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def why(done: subprocess.CompletedProcess[str]) -> str:
    """The only line that says why a run failed."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("fatal: ")]
    return line.replace("\\", "")


def test_a_plan_is_named_and_an_unknown_name_is_refused_with_those_that_exist(day: Day) -> None:
    said = why(day["unknown"])
    assert 'zoo_rollout: no plan is called "nonsense"; there are at_once, canary, careful, mine, one_by_one' in said
    assert 'zoo_rollouts: expected a dictionary of plans by name, got ["mine"]' in why(day["no plans"])
    assert 'zoo_rollouts: the plan "mine" has no value; expected an object, true or false' in why(day["no value"])
    refused = [day[name].stdout for name in ("unknown", "no plans", "no value")]
    assert not any("TASK [Publish and wait]" in said for said in refused)
    assert "not rolled out in steps" in why(day["nothing to promote"])


def test_check_mode_shows_which_hosts_would_change_in_which_step_and_changes_none(day: Day) -> None:
    steps = [
        "3 hosts would change, 2 at a time",
        "step 1 of 2, 1 host in all, then a pause for a person: 1, whichever comes first",
        "step 2 of 2, all hosts: 2, whichever come first",
    ]
    said = well(day["foreseen"])
    assert all(f'"{line}"' in said for line in steps), said
    assert "\n".join(steps) in said
    assert re.search(r'^\+ .*"commitId": ', said, re.MULTILINE), said
    said = well(day["promotion foreseen"])
    assert '"step 2 of 2 would be open"' in said, said
    assert re.search(r'"step 2 of 2, all hosts: web\d and web\d"', said), said
    # Nothing had changed by then.
    assert "step 1 of 2" in well(day["paused"])


def test_a_deployment_that_pauses_for_a_person_succeeds_and_says_what_is_next(day: Day) -> None:
    said = well(day["paused"])
    assert re.search(r"web\d +active +\w{10} \w{10} [-\d]{10} [:\d]{8} proved in step 1", said), said
    assert len(re.findall(r"web\d +waiting +\w{10} .*drift: waits for its turn", said)) == 2, said
    assert "step 1 of 2 (1 server)  paused  [####..........] 1 of 3\n" in said
    assert "Next: promote.yml to go on, abort.yml to stop" in said
    assert "it is paused already" in well(day["paused again"])


def test_an_unfinished_rollout_is_reported_as_drift(day: Day) -> None:
    said = day["status of paused"].stdout
    assert "the rollout is paused at step 1" in why(day["status of paused"])
    assert len(re.findall(r"web\d +waiting +\w{10} .*drift: waits for its turn", said)) == 2, said
    assert "Next: promote.yml to go on, abort.yml to stop" in said
    assert "the rollout is halted by" in why(day["status of halted"])
    assert "checkout fails" in why(day["status of halted"])
    halted = day["status of halted"].stdout
    assert len(re.findall(r"web\d +halted +\w{10} .*drift\"", halted)) == 2, halted
    assert halted.count("why: checkout fails") == 1


def test_a_promoted_rollout_is_waited_for(day: Day) -> None:
    assert "3 of 3 have proved commit" in well(day["promoted"])
    assert "Next:" not in day["promoted"].stdout
    assert len(re.findall(r"web\d +active +\w{10} .*up to date", well(day["status of done"]))) == 3


def test_a_halted_rollout_goes_on_only_by_force(day: Day) -> None:
    assert "Next: promote.yml to go on" in well(day["object"])
    said = well(day["aborted"])
    assert re.search(r"step 1 of 2 \(1 server\)  halted by \S+\n  why: checkout fails\n", said), said
    assert "Next: rollback.yml, or deploy a fix; promote.yml with zoo_force=true" in said
    assert "refused: the rollout is halted: checkout fails" in why(day["not promoted"])
    # The step that waited for a person does so again.
    assert "the rollout is paused" in well(day["forced"])


def test_a_release_that_fails_goes_back_by_itself_and_is_not_published_again(day: Day) -> None:
    assert "the rollout has rolled back: web" in why(day["broken"])
    assert "Next: deploy a fix, or rollback.yml" in day["broken"].stdout
    assert "the rollout has rolled back: web" in why(day["status of broken"])
    assert "is known to be bad" in why(day["broken again"])
    assert "3 of 3 have proved commit" in well(day["back"])


def test_true_as_a_string_is_one_server_at_a_time(day: Day) -> None:
    said = well(day["text"])
    assert "done  [##############] 3 of 3\n" in said


def test_the_history_shows_the_outcome_of_each_publication(day: Day) -> None:
    assert re.search(r"release-0+1 .* (?:rolling out|paused)\"", day["status of paused"].stdout)
    assert re.search(r"release-0+1 .* proved\"", day["status of done"].stdout)
    assert re.search(r"release-0+2 .* halted\"", day["status of halted"].stdout)
    assert re.search(r"release-0+3 .* rolled back, bad\"", day["status of broken"].stdout)
    assert re.search(r"release-0+3 +\w{10} \S+ +\w+@\S+ ", day["status of broken"].stdout)


def test_a_rollout_is_shown_while_it_runs_and_its_end_says_what_is_next(day: Day) -> None:
    said = day["broken"].stdout
    # The first line of each commit's message, which the publisher got from git.
    assert re.search(r'\w+  \w{10} "change" -> \w{10} "change"  \(\w+@\S+\)\n', said), said
    assert re.search(
        r"\nFAILED after \d+ s: web\d failed: hook after_activate .*\nThe fleet serves .*marked as bad\.\n", said
    )
    assert said.index("FAILED after ") < said.index("Next: deploy a fix, or rollback.yml\n") < said.index("fatal: ")
    # No unit is guessed, because these agents do not run in one.
    assert "Logs:" not in said


def test_of_two_applications_in_one_run_the_second_does_not_get_the_plan_of_the_first(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    repository = GitRepository.create(tmp_path / "origin")
    common: dict[str, Any] = {"zoo_hosts": ensemble.hosts, "zoo_url": repository.url, "zoo_ref": repository.head}
    common |= {"zoo_relative_path": "site", "zoo_min_agents": 0}
    apps = [f"/app/{uuid.uuid4().hex[:12]}" for _number in range(2)]
    plans: list[dict[str, Any]] = [{"zoo_rollout": "one_by_one"}, {}]
    playbook = str(ROOT / "playbooks/deploy.yml")
    plays = [
        {"import_playbook": playbook, "vars": {**common, "zoo_app": app, **plan}} for app, plan in zip(apps, plans)
    ]
    (tmp_path / "site.yml").write_text(json.dumps(plays))
    well(run_playbook(tmp_path / "site.yml"))
    with connected(ensemble.hosts) as zk:
        published = [json.loads(zk.get(f"{app}/config")[0]) for app in apps]
    assert [record.get("rollout") for record in published] == [{"minHealthy": 10}, None]
