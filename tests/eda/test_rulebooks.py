"""The example rulebooks, and what an event can cause, with a real ansible-rulebook and a real ensemble."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kazoo.client import KazooClient
from kazoo.security import make_acl, make_digest_acl

from ansible_collections.zoo.deploy.plugins.module_utils.records import Release
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_events import Command
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_records import begin
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_rules import decide
from ansible_collections.zoo.deploy.plugins.module_utils.rollout_writes import begin_writes, change_writes
from eda.rulebook import PATIENCE, ROOT, Rulebook
from support.ensemble import Ensemble
from support.waiting import wait_for

PLAYBOOK = ROOT / "extensions" / "eda" / "playbooks" / "server_gone.yml"

CREDENTIALS = {"digest_username": "rulebook", "digest_password": "1e3"}
"""A template must not turn the password into a number."""

NGINX = """
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
    access_log off;
    include {directory}/upstreams/*.conf;
}}
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Rulebook]]:
    """A function that starts a rulebook with variables. Rulebooks are stopped after the test."""
    made: list[Rulebook] = []

    def make(rulebook: str, **variables: Any) -> Rulebook:
        made.append(Rulebook(tmp_path, rulebook, **variables).start())
        return made[-1]

    yield make
    for rulebook in made:
        rulebook.stop()


def close(zk: KazooClient, path: str) -> None:
    """Let only the rulebooks read a znode."""
    anybody = make_acl("world", "anyone", create=True, delete=True)
    zk.set_acls(path, [make_digest_acl("rulebook", "1e3", read=True), anybody])


def register(zk: KazooClient, registry: str, *numbers: int) -> None:
    """Register servers, named and addressed by number."""
    for number in numbers:
        zk.create(f"{registry}/s{number}", json.dumps([f"10.0.0.{number}", "80"]).encode(), makepath=True)


def test_the_playbook_runs_for_a_server_that_does_not_come_back_and_for_no_other(
    run: Callable[..., Rulebook], zk: KazooClient, app: str, ensemble: Ensemble, tmp_path: Path
) -> None:
    registry = f"{app}/web"
    register(zk, registry, 1, 2)
    close(zk, registry)
    ensemble_of_theirs = {"zk_hosts": ensemble.hosts, "zk_connection": CREDENTIALS}
    (tmp_path / "inventory" / "group_vars").mkdir(parents=True)
    (tmp_path / "inventory" / "group_vars" / "all.yml").write_text(json.dumps(ensemble_of_theirs))
    variables = {**ensemble_of_theirs, "zk_registry": registry, "gone_playbook": str(PLAYBOOK)}
    rulebook = run("zoo.deploy.server_gone", **variables, gone_after=5)
    rulebook.watching(ensemble, f"{registry}/s2")
    zk.delete(f"{registry}/s2")
    zk.delete(f"{registry}/s1")
    register(zk, registry, 2)
    rulebook.says("s1 at 10.0.0.1 has not come back")
    assert "s2 at" not in rulebook.log
    assert "1e3" not in rulebook.log


def test_the_load_balancer_has_a_server_that_joins(
    run: Callable[..., Rulebook], zk: KazooClient, app: str, ensemble: Ensemble, tmp_path: Path
) -> None:
    registry = f"{app}/web"
    register(zk, registry, 1)
    close(zk, registry)
    inventory = tmp_path / "inventory"
    (inventory / "group_vars").mkdir(parents=True)
    (tmp_path / "upstreams").mkdir()
    (tmp_path / "nginx.conf").write_text(NGINX.format(directory=tmp_path))
    upstream = tmp_path / "upstreams" / "web.conf"
    source = {"plugin": "zoo.deploy.zk_services", "hosts": ensemble.hosts, "registries": [registry], **CREDENTIALS}
    options = {
        "loadbalancer_file": str(upstream),
        "loadbalancer_main_config": str(tmp_path / "nginx.conf"),
        "loadbalancer_reload_command": "true",
    }
    (inventory / "web.zk_services.yml").write_text(json.dumps(source))
    (inventory / "group_vars" / "all.yml").write_text(json.dumps(options))
    ensemble_of_theirs = {"zk_hosts": ensemble.hosts, "zk_connection": CREDENTIALS}
    variables = {**ensemble_of_theirs, "zk_registry": registry, "loadbalancer_group": "web"}
    rulebook = run("zoo.deploy.server_joined", **variables, gone_after=1)

    def balanced(*servers: int) -> None:
        wanted = [f"10.0.0.{number}:80" for number in servers]
        what = f"the upstream has {wanted}, in {rulebook.log[-3000:]}"
        wait_for(lambda: servers_in(upstream) == wanted, what, PATIENCE)

    balanced(1)
    register(zk, registry, 2, 3)
    balanced(1, 2, 3)
    zk.delete(f"{registry}/s2")
    balanced(1, 3)
    assert rulebook.log.count("PLAY [Load balancer]") == 3


def servers_in(upstream: Path) -> list[str]:
    """The servers in an nginx upstream file; none if the file does not exist."""
    return re.findall(r"server (\S+);", upstream.read_text()) if upstream.exists() else []


def test_the_playbook_runs_when_a_rollout_moves_on(
    run: Callable[..., Rulebook], zk: KazooClient, app: str, ensemble: Ensemble
) -> None:
    root = f"{app}/rollouts/4294967391"
    state = begin(Release("https://git.example.org/shop", "b" * 40, "shop"), True, None, 3)
    zk.ensure_path(f"{app}/rollouts")
    close(zk, f"{app}/rollouts")
    variables = {
        "zk_hosts": ensemble.hosts,
        "zk_connection": CREDENTIALS,
        "zk_app": app,
        "moved_playbook": str(PLAYBOOK.with_name("rollout_moved.yml")),
    }
    rulebook = run("zoo.deploy.rollout_moved", **variables)
    rulebook.watching(ensemble, f"{app}/rollouts")
    for write in begin_writes(root, state, "2026-11-29T05:29:20+00:00"):
        zk.create(write.path, write.value)
    rulebook.says(f"{root}/gate is running at step 1: ; by: ")
    for verb, reason, said in (
        ("pause", "<h1>{{ title }}</h1>", "paused at step 1: ; by: ann"),
        ("halt", "checkout fails", "halted at step 1: checkout fails; by: ann"),
    ):
        decision = decide(state.parsed_plan(), state, Command(verb, "ann", reason))
        for write in change_writes(root, state, -1, decision, "2026-11-29T05:30:00+00:00"):
            zk.set(write.path, write.value)
        state = decision.state
        rulebook.says(f"{root}/gate is {said}")


def test_the_content_of_a_znode_runs_nothing_on_the_controller(
    run: Callable[..., Rulebook], zk: KazooClient, app: str, ensemble: Ensemble, tmp_path: Path
) -> None:
    evil = f"{{{{ lookup('pipe', 'touch {tmp_path}/pwned') }}}}"
    source = {"hosts": ensemble.hosts, "subtrees": [app], "initial": True}
    tasks = [{"ansible.builtin.debug": {"msg": "value {{ ansible_eda.event.zk.value | b64decode }} of {{ given }}"}}]
    (tmp_path / "show.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    action = {"run_playbook": {"name": "show.yml", "copy_files": False, "extra_vars": {"given": "{{ event.zk }}"}}}
    rules = [{"name": "Show", "condition": 'event.zk.encoding == "base64"', "action": action}]
    rulebook = {"name": "Any", "hosts": "all", "sources": [{"zoo.deploy.zk_watch": source}], "rules": rules}
    (tmp_path / "any.yml").write_text(yaml.safe_dump([rulebook]))
    zk.create(f"{app}/{evil.replace('/', '')}", b"\xff", makepath=True)
    zk.create(f"{app}/value", evil.encode())
    running = run(str(tmp_path / "any.yml"))
    running.says("PLAY RECAP")
    assert "value {{ lookup('pipe', 'touch" in running.log
    assert not (tmp_path / "pwned").exists()


def test_a_mistake_in_the_options_is_reported_in_one_line(
    run: Callable[..., Rulebook], ensemble: Ensemble, tmp_path: Path
) -> None:
    source = {"hosts": ensemble.hosts, "data": ["config"]}
    rules = [{"name": "All", "condition": "event.zk is defined", "action": {"debug": {}}}]
    rulebook = {"name": "Any", "hosts": "all", "sources": [{"zoo.deploy.zk_watch": source}], "rules": rules}
    (tmp_path / "any.yml").write_text(yaml.safe_dump([rulebook]))
    running = run(str(tmp_path / "any.yml"))
    assert running.end() != 0
    assert 'data: path: expected one that begins with /, got "config"' in running.log
    assert "Traceback" not in running.log
