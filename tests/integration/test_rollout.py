"""zk_release in a real playbook with real agents: a rollout, a person's commands to it, and the results."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from support.agent import Agent
from support.client import connected
from support.ensemble import Ensemble
from support.repository import GitRepository
from support.tasks import Run, run_tasks

FAILS_WHERE_BROKEN = ["/bin/sh", "-c", "! grep -q broken index.html"]


@pytest.fixture(scope="module")
def story(ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, dict[str, str]]]:
    """The results of one run of many tasks, and the commits by name."""
    root, app = tmp_path_factory.mktemp("rollout"), f"/app/{uuid.uuid4().hex[:12]}"
    repository = GitRepository.create(root / "origin")
    commits = {"first": repository.head}
    for name in ("second", "broken", "third"):
        commits[name] = repository.commit({"index.html": f"{name}\n"})
    hooks = {"hooks": {"after_activate": FAILS_WHERE_BROKEN}}
    with connected(ensemble.hosts) as zk, contextlib.ExitStack() as running:
        for number in range(4):
            agent = Agent(root / f"web{number}", ensemble.hosts, app, zk, f"web{number}", hooks).start()
            running.callback(agent.kill)
            agent.wait_live()
        common = {"hosts": ensemble.hosts, "app": app}
        plan = {"minHealthy": 0, "steps": [{"hosts": 1, "pause": True}], "maxInFlight": 2}

        def task(register: str, **options: Any) -> dict[str, Any]:
            return {"zoo.deploy.zk_release": {**common, **options}, "register": register}

        run = run_tasks(
            root,
            [
                task("one", url=repository.url, ref=commits["first"], relative_path="site"),
                task("nothing", state="promoted"),
                task("paused", ref=commits["second"], rollout=plan),
                {**task("dry", state="promoted"), "check_mode": True},
                *(
                    task(f"{verb}_elsewhere", state=verb, only_if=commits["first"])
                    for verb in ("promoted", "paused", "halted", "rolled_back")
                ),
                task("halted", state="halted", reason="latency", only_if=commits["second"]),
                task("refused", state="promoted"),
                task("resumed", state="promoted", force=True, only_if=commits["second"][:7]),
                task("paused_again", state="paused", only_if=commits["second"]),
                task("promoted", state="promoted"),
                task("promoted_again", state="promoted"),
                task("fails", ref=commits["broken"], rollout=json.dumps({**plan, "onFailure": "rollback"})),
                task("back", state="rolled_back", only_if=commits["broken"]),
                task("again", ref=commits["broken"]),
                task("wrong", ref=commits["third"], rollout={"steps": [{"hosts": 0}]}),
                task("third", ref=commits["third"], rollout=True),
            ],
        )
        yield run, commits


def test_a_rollout_that_pauses_for_a_person_is_not_a_failure(story: tuple[Run, dict[str, str]]) -> None:
    run, _commits = story
    assert not run["one"]["failed"]
    assert "not rolled out in steps" in run["nothing"]["msg"]
    assert not run["paused"]["failed"]
    assert (run["paused"]["converged"], run["paused"]["rollout"]["phase"]) == (False, "paused")
    assert run["paused"]["rollout"]["counts"] == {"proved": 1}
    assert "promote it to go on" in run["paused"]["msg"]


def test_the_commands_of_a_person_are_carried_out_or_refused(story: tuple[Run, dict[str, str]]) -> None:
    run, commits = story
    assert run["dry"]["changed"]
    assert run["halted"]["rollout"]["phase"] == "halted"
    assert run["refused"]["failed"]
    assert "latency" in run["refused"]["msg"]
    assert run["resumed"]["rollout"]["phase"] == "paused", "it goes on where it was halted"
    assert not run["paused_again"]["failed"]
    assert run["halted"]["rollout"]["counts"] == {"proved": 1}, "nobody was promoted, or taken back"
    assert not run["promoted"]["failed"], run["promoted"]
    assert run["promoted"]["rollout"]["phase"] == "done"
    assert {agent["commitId"] for agent in run["promoted"]["agents"]} == {commits["second"]}
    assert not run["promoted_again"]["changed"]
    assert [text for text in run["promoted_again"]["warnings"] if text.startswith("nothing was promoted: ")]


@pytest.mark.parametrize("verb", ["promoted", "paused", "halted", "rolled_back"])
def test_a_persons_command_about_another_release_than_the_desired_one_is_refused(
    story: tuple[Run, dict[str, str]], verb: str
) -> None:
    """The rollout stays as it was. Commands about the desired release are carried out."""
    run, commits = story
    refused = run[f"{verb}_elsewhere"]
    assert refused["failed"]
    assert f'only_if expects "{commits["first"]}", but ' in refused["msg"]
    assert commits["second"] in refused["msg"]
    assert not refused.get("changed")


def test_a_release_that_fails_goes_back_and_is_not_published_again(story: tuple[Run, dict[str, str]]) -> None:
    run, commits = story
    assert run["fails"]["failed"]
    assert run["fails"]["rollout"]["phase"] == "rolled_back", run["fails"]
    assert {agent["commitId"] for agent in run["fails"]["agents"]} == {commits["second"]}
    assert "is known to be bad" in run["again"]["msg"]
    assert not run["back"]["failed"], run["back"]
    assert run["back"]["commit_id"] == commits["second"]
    assert "rollout.steps[0].hosts" in run["wrong"]["msg"]
    assert not run["third"]["failed"], run["third"]
    assert run["third"]["rollout"]["places"] == 1
