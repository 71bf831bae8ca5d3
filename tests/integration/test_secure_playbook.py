"""The playbook that closes an application to all but its roles, and the playbooks that still work in it."""

from __future__ import annotations

import json
import subprocess
import uuid
from typing import Any

import pytest
from kazoo.exceptions import NoAuthError
from kazoo.security import OPEN_ACL_UNSAFE

from support.client import connected
from support.ensemble import Ensemble
from support.playbook import ROOT, run_playbook
from support.repository import GitRepository

WORDS = {"publisher": "the publisher has a word", "agent": "the agent has another"}
ROLES: dict[str, Any] = {
    "zoo_publishers": [{"scheme": "auth"}],
    "zoo_agents": [{"scheme": "digest", "id": "agent", "password": WORDS["agent"]}],
    "zoo_readers": [{"scheme": "world"}],
}


@pytest.fixture
def app() -> str:
    """An application that no other test uses."""
    return f"/app/{uuid.uuid4().hex[:12]}"


def play(ensemble: Ensemble, app: str, playbook: str, *words: str, **given: Any) -> subprocess.CompletedProcess[str]:
    """Run a playbook as the publisher, and check that its verbose output has no password."""
    login = {"digest_username": "publisher", "digest_password": WORDS["publisher"]}
    variables = {"zoo_hosts": ensemble.hosts, "zoo_app": app, "zoo_connection": login, **given}
    done = run_playbook(ROOT / "playbooks" / f"{playbook}.yml", "-e", json.dumps(variables), "-vvv", *words)
    assert not any(word in done.stdout + done.stderr for word in WORDS.values())
    return done


def test_an_application_is_closed_used_and_opened(ensemble: Ensemble, app: str, repository: GitRepository) -> None:
    with connected(ensemble.hosts) as nobody:
        nobody.ensure_path("/app")
        foreseen = play(ensemble, app, "secure", "--check", "--diff", **ROLES)
        assert foreseen.returncode == 0, foreseen.stdout
        assert nobody.exists(app) is None
        assert play(ensemble, app, "secure", **ROLES).returncode == 0
        deployed = play(
            ensemble, app, "deploy", zoo_url=repository.url, zoo_ref="main", zoo_relative_path="site", zoo_min_agents=0
        )
        assert deployed.returncode == 0, deployed.stdout
        assert "anybody who reaches the ensemble can deploy" not in deployed.stdout + deployed.stderr
        assert json.loads(nobody.get(f"{app}/config")[0])["commitId"] == repository.head
        with pytest.raises(NoAuthError):
            nobody.set(f"{app}/config", b"{}")
        values = f"/config{app.replace('/', '-')}"
        configured = play(
            ensemble, app, "config", zoo_config_path=values, zoo_config_values={"color": "green"}, zoo_min_agents=0
        )
        assert configured.returncode == 0, configured.stdout
        assert nobody.get(f"{values}/color")[0] == b"green"
        with pytest.raises(NoAuthError):
            nobody.set(f"{values}/color", b"red")
        opened = play(ensemble, app, "secure", zoo_access_state="open")
        assert opened.returncode == 0
        assert "anybody who reaches the ensemble can deploy" in opened.stdout
        assert nobody.get_acls(f"{app}/config")[0] == OPEN_ACL_UNSAFE
        nobody.delete(app, recursive=True)


@pytest.mark.parametrize(
    ("playbook", "given"),
    [
        ("secure", {"zoo_publishers": "auth"}),
        ("secure", {"zoo_readers": ["world"]}),
        ("secure", {"zoo_agents": [*ROLES["zoo_agents"], {"scheme": "digest", "id": "agent", "pasword": "sesame"}]}),
        ("deploy", {"zoo_acl": "auth", "zoo_ref": "main"}),
        ("rollback", {"zoo_acl": "auth"}),
    ],
)
def test_a_mistake_in_a_list_with_passwords_shows_none_of_them(
    ensemble: Ensemble, app: str, playbook: str, given: dict[str, Any]
) -> None:
    done = play(ensemble, app, playbook, **({**ROLES, **given} if playbook == "secure" else given))
    assert done.returncode == 2
    name = next(iter(given))
    expected = "Unsupported parameters" if name == "zoo_agents" else f"{name}: expected a list of dictionaries"
    assert expected in done.stdout
    assert "sesame" not in done.stdout + done.stderr
