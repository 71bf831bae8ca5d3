"""Gates and notifications with real agents: the effect of each answer on a rollout, and what is notified."""

from __future__ import annotations

import contextlib
import email
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.attendant import ask
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.event import environment_of, text_of
from ansible_collections.zoo.deploy.plugins.plugin_utils.attendance.options import read_gates
from support.agent import Agent
from support.client import connected
from support.documents import blocks
from support.ensemble import Ensemble
from support.module import deploy_main
from support.playbook import ROOT, run_playbook, start_playbook
from support.prometheus import Prometheus
from support.repository import GitRepository
from support.rollout import Rollout
from support.service import Service
from support.tasks import Run, run_tasks
from support.waiting import wait_for

Agents = Callable[..., Agent]
SECRET = "tr0ub4dor"
TWO_STEPS = {"minHealthy": 0, "steps": [{"hosts": 1}, {"hosts": 2}], "maxInFlight": 3}
ONE_STEP = {**TWO_STEPS, "steps": [{"hosts": 1}]}


def gate(name: str, *words: str, **keys: Any) -> dict[str, Any]:
    """A gate that is a shell command."""
    return {"name": name, "command": ["/bin/sh", "-c", *words], **keys}


def telling(path: Path) -> list[str]:
    """A notification command that appends each event to a file, and its variables to another."""
    return ["/bin/sh", "-c", f'cat >> {path}; echo "$ZOO_PHASE $ZOO_STEP" >> {path}.env']


def told(path: Path) -> list[dict[str, Any]]:
    """The events in a file that `telling` writes."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


PASSING = gate("smoke", "echo $ZOO_PHASE $ZOO_STEP of $ZOO_STEPS")
FAILING = gate("checkout", f"echo checkout fails with {SECRET}; exit 1", environment={"TOKEN": SECRET})
UNKNOWN = gate("metrics", "echo no route; exit 3")


def wanted(root: Path, health: str) -> dict[str, dict[str, Any]]:
    """The options of each task. `health` is a URL whose answer states that 7 are failing."""
    limit = {"name": "failing", "url": health, "json": {"path": "failing", "at_most": 5}}
    second = gate("checkout", f"test ! -e {root}/asked || exit 1; touch {root}/asked")
    tell, pauses = telling(root / "told"), {**ONE_STEP, "steps": [{"hosts": 1, "pause": True}]}
    return {
        "first": {"notify": tell},
        "passed": {"rollout": TWO_STEPS, "gates": [PASSING, {"name": "health", "url": health}], "notify": tell},
        "failed": {"rollout": ONE_STEP, "gates": [PASSING, FAILING], "notify": telling(root / "failed")},
        "again": {"state": "promoted", "gates": [FAILING], "force": True},
        "forced": {"state": "promoted", "gates": [PASSING], "force": True},
        "unknown": {"rollout": ONE_STEP, "gates": [UNKNOWN]},
        "still_unknown": {"state": "promoted", "gates": [UNKNOWN]},
        "known": {"state": "promoted", "gates": [PASSING]},
        "limit": {"rollout": json.dumps(ONE_STEP), "gates": [limit]},
        "ungated": {"rollout": {**TWO_STEPS, "steps": [{"hosts": 1, "pause": True}, {"hosts": 2, "pause": True}]}},
        "late": {"state": "promoted", "gates": [PASSING]},
        "latest": {"state": "promoted", "gates": [PASSING]},
        "person": {"rollout": pauses, "gates": [PASSING]},
        "promoted": {"state": "promoted", "notify": {"command": ["/bin/false"]}},
        "unattended": {
            "rollout": {**ONE_STEP, "steps": [{"hosts": 1, "soak": 300}], "unattended": True},
            "gates": [second],
        },
    }


@pytest.fixture(scope="module")
def story(ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Path]]:
    """The results of one run of many tasks, and the directory with the notified events."""
    root, app = tmp_path_factory.mktemp("gates"), f"/app/{uuid.uuid4().hex[:12]}"
    repository = GitRepository.create(root / "origin")
    service = Service(lambda: (200, json.dumps({"failing": 7}))).open()
    with connected(ensemble.hosts) as zk, contextlib.ExitStack() as running:
        running.callback(service.close)
        for number in range(3):
            agent = Agent(root / f"web{number}", ensemble.hosts, app, zk, f"web{number}", {}).start()
            running.callback(agent.kill)
            agent.wait_live()
        tasks = []
        for name, options in wanted(root, f"http://127.0.0.1:{service.port}/health?token={SECRET}").items():
            release = {"url": repository.url, "relative_path": "site"}
            published = {} if "state" in options else {**release, "ref": repository.commit({"index.html": name})}
            given = {"hosts": ensemble.hosts, "app": app, **published, **options}
            tasks.append({"zoo.deploy.zk_release": given, "register": name})
        # The verbose output must not have a secret either.
        yield run_tasks(root, tasks, "-vvv"), root


def test_a_rollout_whose_gates_pass_goes_on_by_itself_and_each_change_is_notified_once(story: tuple[Run, Path]) -> None:
    run, root = story
    result = run["passed"]
    assert (result["failed"], result["converged"], result["rollout"]["phase"]) == (False, True, "done"), result
    says = [(answer["name"], answer["outcome"], answer["step"]) for answer in result["gates"]]
    assert says == [("smoke", "passed", 1), ("health", "passed", 1), ("smoke", "passed", 2), ("health", "passed", 2)]
    assert result["gates"][0]["says"] == "paused 1 of 3"
    assert "gate smoke passed: paused 1 of 3" in run.output
    assert [step.get("gate", False) for step in result["rollout"]["plan"]["steps"]] == [True, True]
    events = told(root / "told")
    moves = [(event["phase"], event["step"]) for event in events]
    assert len(moves) == len(set(moves))
    assert [move for move in moves if move[0] != "running"] == [("paused", 1), ("paused", 2), ("done", 3)]
    assert (root / "told.env").read_text().splitlines() == [f"{phase} {step}" for phase, step in moves]
    assert {event["commit_id"] for event in events} == {result["commit_id"]}, "the first release has no rollout"


def test_a_gate_that_fails_halts_the_rollout_with_what_it_said_but_no_secret(story: tuple[Run, Path]) -> None:
    run, root = story
    result = run["failed"]
    assert result["failed"]
    assert result["rollout"]["phase"] == "halted"
    assert result["rollout"]["counts"] == {"proved": 1}
    assert result["rollout"]["reason"] == "gate checkout failed: checkout fails with ********"
    assert result["rollout"]["by"].startswith("gate checkout of ")
    assert "the rollout is halted by gate checkout of " in result["msg"]
    assert [event["phase"] for event in told(root / "failed")][-1] == "halted"
    assert SECRET not in run.output + json.dumps(run.results)


def test_promoting_asks_the_gates_first_even_by_force(story: tuple[Run, Path]) -> None:
    run, _root = story
    assert run["again"]["failed"]
    assert not run["again"]["changed"]
    assert run["again"]["msg"].startswith("gate checkout failed: checkout fails with ********; ")
    assert run["again"]["rollout"]["phase"] == "halted"
    assert not run["forced"]["failed"], run["forced"]
    assert run["forced"]["rollout"]["phase"] == "done", run["forced"]


def test_a_gate_that_is_inconclusive_leaves_it_to_a_person(story: tuple[Run, Path]) -> None:
    run, _root = story
    for name, changed in (("unknown", True), ("still_unknown", False)):
        result = run[name]
        assert (result["failed"], result["changed"], result["converged"]) == (False, changed, False), result
        assert result["rollout"]["phase"] == "paused"
        assert result["rollout"]["reason"] == "gate metrics is inconclusive: exit status 3: no route"
        assert "gate metrics is inconclusive: exit status 3: no route" in result["msg"]
    assert run["known"]["rollout"]["phase"] == "done", run["known"]
    limit = run["limit"]
    assert (limit["failed"], limit["rollout"]["phase"]) == (True, "halted")
    assert limit["rollout"]["reason"] == "gate failing failed: failing is 7, expected at most 5"


def test_a_step_that_pauses_waits_for_its_gates_and_then_for_a_person(story: tuple[Run, Path]) -> None:
    run, _root = story
    result = run["person"]
    assert not result["failed"]
    assert [answer["outcome"] for answer in result["gates"]] == ["passed"]
    assert result["rollout"]["phase"] == "paused"
    assert result["rollout"]["reason"] == "step 1 waits for a person"
    assert not run["promoted"]["failed"], run["promoted"]
    assert run["promoted"]["rollout"]["phase"] == "done"
    assert "notify: the command ended with 1; nobody may know that the rollout is done" in run.output


def test_promoting_with_gates_what_was_published_without_warns_that_later_steps_open_without_them(
    story: tuple[Run, Path],
) -> None:
    run, _root = story
    warned = "the rollout asks no gates any more"
    for name, phase, warns in (("late", "paused", True), ("latest", "done", False), ("known", "done", False)):
        result = run[name]
        assert (result["failed"], result["rollout"]["phase"], len(result["gates"])) == (False, phase, 1), result
        assert any(warned in line for line in result.get("warnings", [])) == warns, result


def test_an_unattended_rollout_is_halted_by_a_gate_that_fails_while_it_soaks(story: tuple[Run, Path]) -> None:
    run, _root = story
    result = run["unattended"]
    assert result["rollout"]["phase"] == "halted", result
    assert [answer["outcome"] for answer in result["gates"]] == ["passed", "failed"]
    assert "gate" not in result["rollout"]["plan"]["steps"][0]


def test_a_mistake_is_a_one_line_error_before_anything_is_published(
    ensemble: Ensemble, zk: KazooClient, app: str, repository: GitRepository, tmp_path: Path
) -> None:
    common = {"hosts": ensemble.hosts, "app": app, "url": repository.url, "relative_path": "site"}
    passing, touching = gate("smoke", "true"), gate("touch", f"touch {tmp_path}/asked")
    given: dict[str, dict[str, Any]] = {
        "no_steps": {"rollout": True, "gates": [passing]},
        "no_soak": {"rollout": {**ONE_STEP, "unattended": True}, "gates": [passing]},
        "no_rollout": {"gates": [passing]},
        "no_wait": {"rollout": ONE_STEP, "gates": [passing], "wait": False},
        "paused": {"state": "paused", "gates": [passing]},
        "mistaken": {"rollout": ONE_STEP, "gates": [{"name": "x", "url": SECRET}]},
        "nobody_told": {"notify": {"cmd": "x"}},
    }
    tasks = [{"zoo.deploy.zk_release": {**common, **options}, "register": name} for name, options in given.items()]
    dry = {"zoo.deploy.zk_release": {**common, "rollout": ONE_STEP, "gates": [touching]}, "register": "dry"}
    run = run_tasks(tmp_path, [*tasks, {**dry, "check_mode": True}])
    no_steps = "gates: the rollout has no steps between which they could be asked; "
    assert run["no_steps"]["msg"].startswith(no_steps)
    assert run["no_rollout"]["msg"].startswith(no_steps)
    assert run["no_soak"]["msg"].startswith("gates: rollout.steps[0] has no soak")
    assert run["no_wait"]["msg"] == "gates: not with wait=false, for nobody would ask them"
    assert run["paused"]["msg"] == "gates: not with the state paused, which opens no step"
    assert run["mistaken"]["msg"].startswith("gates[0].url: expected one of http or https")
    assert run["nobody_told"]["msg"].startswith("notify.cmd: no such key; expected one of ")
    assert run["dry"]["changed"]
    assert not zk.exists(f"{app}/config")
    assert not (tmp_path / "asked").exists()


def wait_at_a_gate(root: Path) -> dict[str, Any]:
    """A gate that writes the PID of its worker to `root/worker`, and ends once `root/go` exists."""
    waits = f"echo $PPID > {root}/new; mv {root}/new {root}/worker; until [ -e {root}/go ]; do sleep 0.1; done"
    return gate("slow", f"{waits}; exit $(cat {root}/go)")


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


class Waiting:
    """A deployment by `deploy.yml` to three agents that waits at its gate until `pass_gate` or `fail_gate`."""

    def __init__(self, agents: Agents, ensemble: Ensemble, repository: GitRepository, app: str, root: Path) -> None:
        self.root = root
        self.common = {"zoo_hosts": ensemble.hosts, "zoo_app": app}
        for number in range(3):
            agents(f"web{number}").start().wait_live()
        deploy_main(ensemble.hosts, app, repository)
        repository.commit({"index.html": "second\n"})
        variables = root / "gates.yml"
        variables.write_text(json.dumps({"zoo_gates": [wait_at_a_gate(root)], "zoo_rollout": ONE_STEP}))
        words = ("-e", json.dumps(self.common), "-e", f"@{variables}")
        self.process = start_playbook(ROOT / "playbooks/deploy.yml", *words, log=root / "log")
        wait_for((root / "worker").exists, "the gate is asked", 60)
        self.worker = int((root / "worker").read_text())

    def rollout(self, zk: KazooClient) -> Rollout:
        """The waiting rollout."""
        app = self.common["zoo_app"]
        return Rollout(zk, app, zk.get(f"{app}/config")[1].mzxid)

    def pass_gate(self) -> None:
        """Make the gate pass."""
        (self.root / "go").touch()

    def fail_gate(self) -> None:
        """Make the gate fail."""
        (self.root / "new").write_text("1")
        (self.root / "new").rename(self.root / "go")

    def run_another(self, playbook: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook as another controller, whose gate passes immediately, and which notifies `root/told`."""
        told, gates = telling(self.root / "told"), [gate("smoke", "true")]
        given = {**self.common, "zoo_notify": told, "zoo_gates": gates, "zoo_rollout": ONE_STEP}
        return run_playbook(ROOT / f"playbooks/{playbook}.yml", "-e", json.dumps(given))


@pytest.fixture
def waiting(
    agents: Agents, ensemble: Ensemble, repository: GitRepository, app: str, tmp_path: Path
) -> Iterator[Waiting]:
    """A deployment that waits at its gate, and ends with the test."""
    deployment = Waiting(agents, ensemble, repository, app, tmp_path)
    try:
        yield deployment
    finally:
        deployment.pass_gate()
        with contextlib.suppress(ProcessLookupError):
            deployment.process.kill()
        deployment.process.wait()


@pytest.mark.parametrize("playbook", ["promote", "deploy"])
def test_a_rollout_whose_controller_was_killed_stays_at_its_gate_until_another_asks_it(
    waiting: Waiting, zk: KazooClient, playbook: str
) -> None:
    """Its worker outlives ansible-playbook, and gets the gate's answer."""
    waiting.process.send_signal(signal.SIGKILL)
    waiting.process.wait()
    waiting.pass_gate()
    wait_for(lambda: gone(waiting.worker), "the worker has ended", 60)
    rollout = waiting.rollout(zk)
    assert (rollout.state["phase"], rollout.state["waitsFor"], rollout.state["step"]) == ("paused", "gates", 0)
    done = waiting.run_another(playbook)
    assert done.returncode == 0, done.stdout
    assert "gate smoke passed" in done.stdout
    assert [event["phase"] for event in told(waiting.root / "told")][-1] == "done"
    assert "3 of 3 have proved commit" in done.stdout
    assert re.search(r" changed=1 +unreachable=0 ", done.stdout), done.stdout
    assert rollout.state["phase"] == "done"


def test_of_two_contradictory_controllers_the_first_answer_counts_and_neither_fails(
    waiting: Waiting, zk: KazooClient
) -> None:
    first = waiting.run_another("deploy")
    assert first.returncode == 0, first.stdout
    assert "gate smoke passed" in first.stdout
    before = waiting.rollout(zk).state
    assert before["phase"] == "done"
    waiting.fail_gate()
    status = waiting.process.wait(60)
    log = (waiting.root / "log").read_text()
    assert status == 0, log
    assert "gate slow failed" in log
    assert "3 of 3 have proved commit" in log
    assert "that comes too late: the rollout is done" in log
    assert waiting.rollout(zk).state == before


@pytest.mark.parametrize(("verb", "phase", "status"), [("pause", "paused", 0), ("halt", "halted", 2)])
def test_no_gate_opens_what_a_person_has_paused_or_halted_meanwhile(
    waiting: Waiting, zk: KazooClient, verb: str, phase: str, status: int
) -> None:
    rollout = waiting.rollout(zk)
    assert not rollout.command(verb, reason="let me look").why
    waiting.pass_gate()
    assert waiting.process.wait(60) == status
    state = rollout.state
    assert (state["phase"], state["step"], state["by"], state["reason"]) == (phase, 0, "ann", "let me look")
    assert f"the rollout is {phase} by ann" in (waiting.root / "log").read_text()


def test_a_lock_that_is_taken_while_gates_are_asked_keeps_the_next_step_closed(
    waiting: Waiting, zk: KazooClient
) -> None:
    rollout = waiting.rollout(zk)
    locked = run_playbook(ROOT / "playbooks/lock.yml", "-e", json.dumps({**waiting.common, "zoo_reason": "migration"}))
    assert locked.returncode == 0, locked.stdout
    waiting.pass_gate()
    wait_for(lambda: "migration" in (waiting.root / "log").read_text(), "the lock is told of", 60)
    assert (rollout.state["phase"], rollout.state["step"]) == ("paused", 0)
    unlocked = run_playbook(ROOT / "playbooks/unlock.yml", "-e", json.dumps(waiting.common))
    assert unlocked.returncode == 0, unlocked.stdout
    assert waiting.process.wait(60) == 0
    assert rollout.state["phase"] == "done"


def test_a_pause_an_abort_and_a_rollback_are_notified_to_the_command_of_the_run(
    agents: Agents, ensemble: Ensemble, repository: GitRepository, app: str, tmp_path: Path
) -> None:
    hook = {"after_activate": ["/bin/sh", "-c", "! grep -q broken index.html"]}
    for number in range(2):
        agents(f"web{number}", hooks=hook).start().wait_live()
    common = {"hosts": ensemble.hosts, "app": app}
    release = {**common, "url": repository.url, "relative_path": "site"}
    plan = {"minHealthy": 0, "onFailure": "rollback", "steps": [{"hosts": 1, "soak": 600}]}
    first, second, broken = (repository.commit({"index.html": text}) for text in ("first", "second", "broken"))
    wanted: dict[str, dict[str, Any]] = {
        "first": {**release, "ref": first},
        "soaks": {**release, "ref": second, "rollout": plan, "wait_timeout": 12},
        "paused": {**common, "state": "paused", "reason": "latency"},
        "paused_again": {**common, "state": "paused"},
        "aborted": {**common, "state": "halted", "reason": "checkout fails"},
        "rolled_back": {**common, "state": "rolled_back"},
        "broken": {**release, "ref": broken, "rollout": plan},
    }
    tasks = [
        {"zoo.deploy.zk_release": {**options, "notify": telling(tmp_path / name)}, "register": name}
        for name, options in wanted.items()
    ]
    run = run_tasks(tmp_path, tasks)
    phases = {name: [event["phase"] for event in told(tmp_path / name)] for name in wanted}
    assert phases["soaks"][-1] == "soaking", run.output
    assert (phases["first"], phases["paused"], phases["aborted"]) == ([], ["paused"], ["halted"])
    assert phases["paused_again"] == [], "it is told once"
    assert phases["rolled_back"][-1] == "done"
    assert phases["broken"][-1] == "rolled_back"
    (halted,) = told(tmp_path / "aborted")
    assert (halted["reason"], halted["commit_id"], halted["step"]) == ("checkout fails", second, 1)
    assert "after_activate" in told(tmp_path / "broken")[-1]["reason"]
    assert run["rolled_back"]["commit_id"] == first


def test_a_worker_that_waits_for_a_soak_ends_with_ansible_playbook(
    agents: Agents, ensemble: Ensemble, repository: GitRepository, app: str, tmp_path: Path
) -> None:
    """Otherwise it would wait without limit, unseen."""
    for number in range(2):
        agents(f"web{number}").start().wait_live()
    deploy_main(ensemble.hosts, app, repository)
    common = {"zoo_hosts": ensemble.hosts, "zoo_app": app}
    repository.commit({"index.html": "second\n"})
    soaks = {**ONE_STEP, "steps": [{"hosts": 1, "soak": 600}]}
    words = ("-e", json.dumps({**common, "zoo_rollout": soaks}))
    process = start_playbook(ROOT / "playbooks/deploy.yml", *words, log=tmp_path / "log")
    wait_for(lambda: "soaks" in (tmp_path / "log").read_text(), "the wait is shown", 60)
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.kill()
    process.wait()
    assert workers
    wait_for(lambda: all(map(gone, workers)), "the worker has ended", 60)


@pytest.mark.parametrize(("deleted", "says"), [(False, f"{'d' * 40} is published"), (True, "no release is published")])
def test_a_release_that_is_replaced_or_deleted_while_its_gate_is_asked_counts_as_not_deployed(
    waiting: Waiting, zk: KazooClient, app: str, deleted: bool, says: str
) -> None:
    """Its rollout is still paused, but will never go on."""
    before = json.loads(zk.get(f"{app}/config")[0])
    if deleted:
        zk.delete(f"{app}/config")
    else:
        zk.set(f"{app}/config", json.dumps({**before, "commitId": "d" * 40}).encode())
    waiting.pass_gate()
    status = waiting.process.wait(60)
    log = (waiting.root / "log").read_text()
    assert status == 2, log
    assert f"the gates were asked of a rollout that is over: {says}" in log
    assert log.count("gate slow passed") == 1


def test_a_query_of_prometheus_is_a_gate(tmp_path: Path) -> None:
    """A Prometheus that scrapes another one has data within limits, beyond them, and none."""
    with Prometheus(tmp_path / "prometheus") as unscraped:
        itself = {"job_name": "itself", "static_configs": [{"targets": [f"127.0.0.1:{unscraped.port}"]}]}
        with Prometheus(tmp_path / "scraping", itself) as prometheus:
            wait_for(lambda: prometheus.ask("up == 1"), "it has scraped")
            answers = asked(prometheus.port, "sum(up)", at_least=1), asked(prometheus.port, "sum(up)", at_most=0.5)
            nothing, wrong = (
                asked(prometheus.port, "sum(nonsense)", at_most=1),
                asked(prometheus.port, "sum(", at_most=1),
            )
    assert answers == (
        'passed: data.result.0.value.1 is "1"',
        'failed: data.result.0.value.1 is "1", expected at most 0.5',
    )
    assert nothing == "inconclusive: no data: the answer has no data.result.0.value.1"
    assert wrong == "inconclusive: status 400, expected 200"
    assert asked(prometheus.port, "sum(up)", at_least=1) == "inconclusive: no answer: Connection refused"


def asked(port: int, query: str, **limits: float) -> str:
    """The answer of a gate that queries Prometheus."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    value = {"path": "data.result.0.value.1", **limits}
    (one,) = read_gates([{"name": "rate", "url": url, "json": value}])
    answer = ask(one, {})
    return f"{answer.outcome}: {answer.says}"


def test_the_examples_of_the_guide_call_a_webhook_and_send_a_mail(tmp_path: Path) -> None:
    page = ROOT / "docs" / "guides" / "rollouts.md"
    event = json.loads(blocks(page, "json")[0])
    variables = {**os.environ, **environment_of(event), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    posted: list[tuple[str, dict[str, str]]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(204)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        variables["WEBHOOK"] = f"http://127.0.0.1:{server.server_port}/hooks/x"
        words = [sys.executable, "-c", blocks(page, "python")[0]]
        subprocess.run(words, input=text_of(event), text=True, env=variables, check=True)
        server.shutdown()
    assert posted == [("/hooks/x", {"text": f"/app/business 4ad56dc9d1: {event['says']}"})]
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words\ncat > {tmp_path}/mail\n')
    sendmail.chmod(0o755)
    subprocess.run(["/bin/sh", "-c", blocks(page, "sh")[0]], input=text_of(event), text=True, env=variables, check=True)
    mail = email.message_from_string((tmp_path / "mail").read_text())
    assert (tmp_path / "words").read_text() == "-t\n"
    assert (mail["To"], mail["Subject"]) == ("team@example.org", "[deploy] /app/business is halted")
    assert str(mail.get_payload()).splitlines()[0] == event["says"]
