"""A role variable of a wrong type or outside its choices is one line, never the entire specification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.many_hosts import run_on_hosts

REFUSED: dict[str, list[tuple[dict[str, Any], str]]] = {
    "watcher": [
        (
            {"watcher_metrics_port": "http"},
            'watcher_metrics_port: expected a value of the type int, got "http"',
        ),
        (
            {"watcher_log_level": "loud"},
            'watcher_log_level: expected one of debug, info, warning, error, got "loud"',
        ),
        (
            {"watcher_allowed_schemes": ["https", "ftp"]},
            'watcher_allowed_schemes: expected some of https, ssh, git, http, file, got ["https", "ftp"]',
        ),
        ({"watcher_state": "gone"}, 'watcher_state: expected one of present, absent, got "gone"'),
    ],
    "git_hook": [
        ({}, "git_hook_repository is missing"),
        (
            {"git_hook_branches": {"branch": "main"}},
            'git_hook_branches: expected a list, got {"branch": "main"}',
        ),
        (
            {"git_hook_wait_timeout": "long"},
            'git_hook_wait_timeout: expected a value of the type float, got "long"',
        ),
    ],
    "zookeeper": [
        (
            {"zookeeper_peer_port": "peer", "zookeeper_tls_client_auth": "perhaps"},
            'zookeeper_tls_client_auth: expected a value of the type bool, got "perhaps"',
        ),
        ({"zookeeper_sasl_users": "hidden"}, "zookeeper_sasl_users: expected a value of the type dict"),
    ],
    "loadbalancer": [
        (
            {"loadbalancer_group": "web", "loadbalancer_shrink_limit": "half"},
            'loadbalancer_shrink_limit: expected a value of the type int, got "half"',
        ),
    ],
}


@pytest.mark.parametrize("role", REFUSED)
@pytest.mark.parametrize("how", ["roles", "include_role"])
def test_a_variable_of_a_wrong_type_or_choice_is_refused_in_one_line(tmp_path: Path, role: str, how: str) -> None:
    name = f"zoo.deploy.{role}"
    play = {"roles": [name]} if how == "roles" else {"tasks": [{"include_role": {"name": name}}]}
    hosts = {f"h{number}": told for number, (told, _words) in enumerate(REFUSED[role])}
    runs = run_on_hosts(tmp_path, play, hosts)
    for run, (told, words) in zip(runs.values(), REFUSED[role]):
        assert (run.changed, run.failed) == (0, 1)
        assert words in run.output.replace('\\"', '"')
        assert len(run.output) < 1000
        assert "zookeeper_sasl_users" not in told or "hidden" not in run.output
