"""Hosts that require a signature deploy what zk_release signs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.agent import Agent
from support.ensemble import Ensemble
from support.module import run_module
from support.playbook import ROOT
from support.repository import GitRepository
from support.signer import Signer
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., dict[str, Any]]


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """The signer of commits and records."""
    return Signer(tmp_path, "publisher")


@pytest.fixture
def publish(ensemble: Ensemble, app: str, repository: GitRepository, signer: Signer) -> Publish:
    """Runs zk_release with a signing key, to publish the repository's `main` unless a `state` is given."""

    def run(check: bool = False, **given: Any) -> dict[str, Any]:
        what = {} if "state" in given else {"url": repository.url, "ref": "main", "relative_path": "site"}
        options = {"sign_with": str(signer.key), "wait_timeout": 30, "min_agents": 1, **what, **given}
        options = {name: value for name, value in options.items() if value is not None}
        return run_module(ROOT / "plugins/modules/zk_release.py", check=check, hosts=ensemble.hosts, app=app, **options)

    return run


@pytest.fixture
def agent(agents: Agents, tmp_path: Path, signer: Signer) -> Agent:
    """An agent that requires signatures."""
    signers = tmp_path / "signers"
    signers.write_text(signer.line)
    return agents(require_signature=str(signers)).start().wait_live()


@pytest.fixture
def ssh_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A running ssh-agent, which SSH_AUTH_SOCK names."""
    socket = tmp_path / "agent.socket"
    words = ["ssh-agent", "-D", "-a", str(socket)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    wait_for(socket.exists, "it listens")
    yield
    process.terminate()
    process.wait()


def config(zk: KazooClient, app: str) -> dict[str, Any]:
    """The published record."""
    return dict(json.loads(zk.get(f"{app}/config")[0]))


def test_a_signed_release_a_newer_one_and_a_rollback_each_have_a_higher_serial(
    agent: Agent, zk: KazooClient, app: str, publish: Publish, repository: GitRepository, signer: Signer
) -> None:
    first = signer.commit(repository, "first")
    done = publish()
    assert (done.get("converged"), agent.live()) == (True, first), done
    before = config(zk, app)
    assert (before["serial"], before["app"], "notAfter" in before) == (1, app, False)
    assert done["release"] == before
    assert not publish()["changed"]
    second = signer.commit(repository, "second")
    # The plan is signed too, whatever form its numbers have.
    plan = {"steps": [{"hosts": 1, "soak": 0.25}, {"percent": 100}], "minHealthy": 0}
    done = publish(rollout=plan, sign_days=30)
    assert (done.get("converged"), agent.live()) == (True, second), done
    assert config(zk, app)["serial"] == 2
    assert config(zk, app)["notAfter"]
    back = publish(state="rolled_back")
    assert (back.get("converged"), agent.live()) == (True, first), back
    after = config(zk, app)
    assert (after["serial"], after["commitId"], after["rolledBackFrom"]) == (3, first, second)
    assert "notAfter" not in after
    assert after["signature"] != before["signature"]


def test_a_rollback_without_a_key_causes_a_warning_and_is_refused_by_hosts(
    agent: Agent, zk: KazooClient, app: str, publish: Publish, repository: GitRepository, signer: Signer
) -> None:
    first = signer.commit(repository, "first")
    publish()
    second = signer.commit(repository, "second")
    publish()
    back = publish(state="rolled_back", sign_with=None)
    assert back["failed"], back
    assert agent.status["message"] == "the published release is refused: its record is not signed"
    assert agent.live() == second
    assert {"serial", "notAfter", "signature", "app"}.isdisjoint(config(zk, app))
    said = "the previous release was signed, and this one is not: a host that demands a signature refuses it"
    assert said in json.dumps(back["warnings"])
    # Hosts do not have what is published, so `to` has to name the release to go back to.
    asked = publish(state="rolled_back")
    assert asked["msg"].startswith("to: give it; what is published now does not count for the key"), asked
    assert asked["msg"].endswith(f"its record is not signed; what is signed, the latest first: {second} or {first}")
    back = publish(state="rolled_back", to=first)
    assert (back.get("converged"), agent.live(), config(zk, app)["serial"]) == (True, first, 3), back


def test_the_desired_release_is_signed_where_it_was_not_or_its_signature_has_expired(
    zk: KazooClient, app: str, publish: Publish, repository: GitRepository
) -> None:
    assert publish(sign_with=None, wait=False, min_agents=None)["changed"]
    assert repository.head == config(zk, app)["commitId"]
    check = publish(True, wait=False)
    assert check["changed"]
    assert (check["release"]["serial"], "signature" in check["release"]) == (1, False)
    assert "signature" not in config(zk, app)
    assert publish(wait=False, sign_days=1e-5)["changed"]
    wait_for(lambda: publish(True, wait=False)["changed"], "its time is over")
    assert publish(wait=False)["changed"]
    assert not publish(wait=False)["changed"]
    assert publish(wait=False, force=True)["changed"]
    assert config(zk, app)["serial"] == 3


def test_a_serial_is_counted_from_the_history_too_and_may_be_given(
    zk: KazooClient, app: str, publish: Publish, repository: GitRepository, signer: Signer
) -> None:
    assert publish(wait=False, serial=500)["changed"]
    zk.set(f"{app}/config", json.dumps({**config(zk, app), "serial": 2**53 - 1}).encode())
    # A publisher that knows only its own key can't tell whether another one may publish.
    asked = publish(wait=False, force=True)
    assert asked["msg"].startswith("serial: the record with the highest one, 9007199254740991, is not signed by"), asked
    assert "give signers, the file of all who may publish, or serial" in asked["msg"]
    signers = signer.key.with_name("signers")
    signers.write_text(signer.line)
    assert publish(wait=False, signers=str(signers))["changed"], "the signature of what is desired does not count"
    assert config(zk, app)["serial"] == 501
    zk.delete(f"{app}/config")
    publish(wait=False)
    assert config(zk, app)["serial"] == 502
    assert repository.head == config(zk, app)["commitId"]


@pytest.mark.usefixtures("ssh_agent")
def test_a_key_in_an_ssh_agent_signs(agent: Agent, publish: Publish, repository: GitRepository, signer: Signer) -> None:
    head = signer.commit(repository, "signed by the key of an agent")
    subprocess.run(["ssh-add", "-q", str(signer.key)], check=True)
    os.unlink(signer.key)
    done = publish(sign_with=f"{signer.key}.pub")
    assert (done.get("converged"), agent.live()) == (True, head), done


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sign_with": "/nowhere"}, r'sign_with: no file at "/nowhere"'),
        ({"sign_with": None, "sign_days": 3}, "sign_days: only with sign_with, the key that signs the record"),
        ({"sign_with": None, "serial": 3}, "serial: only with sign_with, the key that signs the record"),
        ({"sign_days": 0}, "sign_days: expected more than 0 and at most 36500, got 0"),
        ({"sign_days": float("inf")}, "sign_days: expected more than 0 and at most 36500, got inf"),
        ({"serial": 0}, "serial: expected a whole number from 1 to 1000000000000000, got 0"),
        ({"signers": "/nowhere"}, r'signers: no file at "/nowhere"'),
        ({"sign_with": None, "signers": "/nowhere"}, "signers: only with sign_with, the key that signs the record"),
        ({"state": "paused"}, "sign_with: not with the state paused, which publishes nothing"),
    ],
)
def test_what_cannot_be_signed_is_a_one_line_error_and_not_published(
    zk: KazooClient, app: str, publish: Publish, given: dict[str, Any], said: str
) -> None:
    done = publish(wait=False, **given)
    assert (done.get("failed"), done["msg"]) == (True, said)
    assert zk.exists(f"{app}/config") is None


def test_a_key_with_a_passphrase_or_a_file_that_is_not_a_key_is_a_one_line_error_and_shown_nowhere(
    zk: KazooClient, app: str, publish: Publish, tmp_path: Path
) -> None:
    locked, text = tmp_path / "locked", tmp_path / "text"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    text.write_text("the secret text\n")
    text.chmod(0o600)
    for key, reason in (
        (locked, "ssh-keygen does not sign with it: .*incorrect passphrase.*"),
        (text, "its public half is not known, by which to verify what is published; give signers, .*"),
    ):
        done = publish(wait=False, sign_with=str(key))
        assert done["failed"], done
        assert re.fullmatch(rf"sign_with: {key}: {reason}", done["msg"])
        assert "secret" not in json.dumps(done)
    assert zk.exists(f"{app}/config") is None


JUNK = "-----BEGIN SSH SIGNATURE-----\njunk\n-----END SSH SIGNATURE-----\n"


@pytest.fixture
def signers(signer: Signer) -> str:
    """The file of allowed signers, as the hosts have it."""
    path = signer.key.with_name("signers")
    path.write_text(signer.line)
    return str(path)


def forge(zk: KazooClient, app: str, **keys: Any) -> None:
    """Add an entry to the history, as somebody with write access and without a key."""
    entry = {**config(zk, app), "signature": JUNK, **keys}
    zk.create(f"{app}/history/release-", json.dumps(entry).encode(), sequence=True)


def overwrite(zk: KazooClient, app: str, **keys: Any) -> None:
    """Change what is published, as somebody with write access and without a key."""
    zk.set(f"{app}/config", json.dumps({**config(zk, app), **keys}).encode())


def test_a_rollback_signs_nothing_that_somebody_without_a_key_has_put_into_the_history(
    agent: Agent, zk: KazooClient, app: str, publish: Publish, repository: GitRepository, signer: Signer
) -> None:
    never = signer.commit(repository, "signed by an author, and never published")
    first = signer.commit(repository, "first")
    publish()
    signer.commit(repository, "second")
    publish()
    forge(zk, app, commitId=never, serial=3, provedAt="2026-11-30T00:00:00+00:00")
    done = publish(state="rolled_back", signers=str(signer.key.with_name("signers")))
    assert (done.get("converged"), agent.live(), config(zk, app)["serial"]) == (True, first, 3), done
    done = publish(state="rolled_back", to=never, signers=str(signer.key.with_name("signers")))
    assert done["msg"].startswith(f"to: no entry of the history is or has the commit {never}; only what is signed by")


def test_url_and_relative_path_are_required_where_what_is_published_does_not_count(
    zk: KazooClient, app: str, publish: Publish, repository: GitRepository, tmp_path: Path
) -> None:
    publish(wait=False)
    theirs = tmp_path / "theirs"
    subprocess.run(["git", "clone", "-q", "--bare", str(repository.path), str(theirs)], check=True)
    overwrite(zk, app, url=f"file://{theirs}", relativePath="elsewhere")
    done = publish(wait=False, url=None, relative_path=None)
    assert done["msg"].startswith("url, relative_path: give it; what is published now does not count for the key"), done
    assert publish(wait=False)["changed"]
    assert (config(zk, app)["url"], config(zk, app)["relativePath"]) == (repository.url, "site")


def test_a_policy_must_not_name_a_release_for_a_signed_record(
    zk: KazooClient, app: str, publish: Publish, repository: GitRepository
) -> None:
    plan = {"maxInFlight": 1, "minHealthy": 0}
    zk.create(f"{app}/policy", json.dumps({"rollout": {**plan, "from": repository.head}}).encode(), makepath=True)
    done = publish(wait=False)
    assert done["msg"].startswith(f"{app}/policy: rollout.from: the policy is not signed"), done
    assert zk.exists(f"{app}/config") is None
    zk.set(f"{app}/policy", json.dumps({"rollout": plan}).encode())
    publish(wait=False)
    assert config(zk, app)["rollout"] == plan


def test_before_the_first_signature_nobody_without_a_key_determines_its_serial(
    agent: Agent, zk: KazooClient, app: str, publish: Publish, repository: GitRepository, signer: Signer
) -> None:
    head = signer.commit(repository, "first")
    publish(sign_with=None, wait=False)
    forge(zk, app, serial=2**53 - 2)
    for given in ({}, {"signers": str(signer.key.with_name("signers"))}):
        done = publish(**given)
        assert done["msg"].startswith("serial: the record with the highest one, 9007199254740990, is not signed"), done
    done = publish(serial=1, signers=str(signer.key.with_name("signers")))
    assert (done.get("converged"), agent.live()) == (True, head), done
    signer.commit(repository, "second")
    done = publish(signers=str(signer.key.with_name("signers")))
    assert (done.get("converged"), config(zk, app)["serial"]) == (True, 2), done


def test_an_entry_with_a_high_serial_that_nobody_has_signed_delays_no_publication(
    agent: Agent, zk: KazooClient, app: str, publish: Publish, repository: GitRepository, signer: Signer, signers: str
) -> None:
    signer.commit(repository, "first")
    publish()
    for number in range(2, 5):
        forge(zk, app, serial=1_000_000 * number)
        head = signer.commit(repository, f"release {number}")
        done = publish(signers=signers)
        assert (done.get("converged"), agent.live(), config(zk, app)["serial"]) == (True, head, number), done


def test_a_date_may_be_the_serial_and_the_next_ones_follow_it(
    agent: Agent, zk: KazooClient, app: str, publish: Publish, repository: GitRepository, signer: Signer
) -> None:
    for given, serial in (({"serial": 20261131}, 20261131), ({}, 20261132), ({"serial": 20261201}, 20261201)):
        signer.commit(repository, f"release {serial}")
        done = publish(**given)
        assert (done.get("converged"), config(zk, app)["serial"]) == (True, serial), done
    live = repository.head
    signer.commit(repository, "a slip of the finger")
    done = publish(serial=202612010)
    assert done["msg"].startswith("serial: 202612010 is more than 1000000 above 20261201, the last one"), done
    assert (agent.live(), config(zk, app)["serial"]) == (live, 20261201)


def test_a_key_is_replaced_and_a_broken_signature_repaired_without_force(
    agent: Agent, zk: KazooClient, app: str, publish: Publish, repository: GitRepository, signer: Signer, signers: str
) -> None:
    head = signer.commit(repository, "first")
    publish()
    new = Signer(signer.key.parent, "new")
    name, key = signer.line.split(" ", 1)
    yesterday = (datetime.now(timezone.utc) - timedelta(days=1)).strftime("%Y%m%d")
    # The release was published before the key expired.
    before = datetime.now(timezone.utc) - timedelta(days=3)
    old = signer.sign_record(app, {**config(zk, app), "publishedAt": before.isoformat()}, 2)
    zk.set(f"{app}/config", json.dumps(old).encode())
    wait_for(lambda: agent.status.get("generation") == zk.get(f"{app}/config")[1].mzxid, "it is accepted")
    Path(signers).write_text(f'{new.line}{name} valid-before="{yesterday}" {key}')
    rotated = {"sign_with": str(new.key), "signers": signers}
    done = publish(**rotated)
    assert (done["changed"], done.get("converged"), config(zk, app)["serial"]) == (True, True, 3), done
    assert not publish(**rotated)["changed"]
    overwrite(zk, app, signature=JUNK)
    done = publish(**rotated)
    assert (done["changed"], done.get("converged"), config(zk, app)["serial"]) == (True, True, 4), done
    assert agent.live() == head


def test_a_record_is_renewed_once_half_of_its_lifetime_has_passed(
    zk: KazooClient, app: str, publish: Publish, repository: GitRepository
) -> None:
    publish(wait=False, sign_days=10)
    assert repository.head == config(zk, app)["commitId"]
    assert not publish(wait=False, sign_days=10)["changed"]
    assert not publish(wait=False, sign_days=19)["changed"]
    assert publish(wait=False, sign_days=21)["changed"]


def test_what_hosts_would_refuse_is_not_published(
    zk: KazooClient, app: str, publish: Publish, signer: Signer, signers: str
) -> None:
    Path(signers).write_text(signer.line.replace(" ", ' namespaces="git" ', 1))
    done = publish(wait=False, signers=signers)
    assert done["msg"].startswith(f"sign_with: {signer.key}: its signature does not count: "), done
    assert zk.exists(f"{app}/config") is None
