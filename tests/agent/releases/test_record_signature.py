"""Where a signature is required, only what a publisher has signed is deployed or rolled back to."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient

from support.agent import Agent
from support.repository import GitRepository
from support.signer import Signer
from support.waiting import wait_for
from zoo_watcher.signals import CONTROL

Agents = Callable[..., Agent]
HOUR = timedelta(hours=1)


def moment(distance: timedelta) -> str:
    """A time at this distance from now, in RFC 3339."""
    return (datetime.now(timezone.utc) + distance).isoformat(timespec="seconds")


class Publisher:
    """A publisher that signs its records, with the serials 1, 2, 3... unless given others."""

    def __init__(self, zk: KazooClient, app: str, repository: GitRepository, author: Signer, signer: Signer) -> None:
        self.zk = zk
        self.app = app
        self.repository = repository
        self.author = author
        self.signer = signer
        self.serial = 0

    def commit(self, text: str) -> str:
        """Make a commit that the author signs, and return its ID."""
        return self.author.commit(self.repository, text)

    def record(self, commit_id: str | None = None, **keys: Any) -> dict[str, Any]:
        """The record of a commit, without a signature."""
        url, what = self.repository.url, commit_id or self.repository.head
        return {"url": url, "commitId": what, "relativePath": "site", "ref": "main", **keys}

    def signed(self, commit_id: str | None = None, **keys: Any) -> dict[str, Any]:
        """The next signed record. `serial`, `signer`, `app`, `namespace` and `not_after` override the usual values."""
        signer, app = keys.pop("signer", self.signer), keys.pop("app", self.app)
        self.serial = max(self.serial, serial) if (serial := keys.pop("serial", None)) else self.serial + 1
        special = {key: keys.pop(key) for key in ("namespace", "not_after") if key in keys}
        return dict(signer.sign_record(app, self.record(commit_id, **keys), serial or self.serial, **special))

    def publish(self, record: dict[str, Any]) -> int:
        """Publish a record as it is, with its entry in the history, and return the generation."""
        data, history = json.dumps(record).encode(), f"{self.app}/history"
        self.zk.ensure_path(history)
        transaction = self.zk.transaction()
        if self.zk.exists(f"{self.app}/config"):
            transaction.set_data(f"{self.app}/config", data)
        else:
            transaction.create(f"{self.app}/config", data)
        transaction.create(f"{history}/release-", data, sequence=True)
        assert not any(isinstance(result, Exception) for result in transaction.commit())
        return int(self.zk.get(f"{self.app}/config")[1].mzxid)


@pytest.fixture
def author(tmp_path: Path) -> Signer:
    """A signer that may sign commits, and nothing else."""
    return Signer(tmp_path, "author")


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """A signer that may sign records, and nothing else."""
    return Signer(tmp_path, "publisher")


@pytest.fixture
def publisher(zk: KazooClient, app: str, repository: GitRepository, author: Signer, signer: Signer) -> Publisher:
    """The publisher of the application's releases."""
    return Publisher(zk, app, repository, author, signer)


def lines(*signers: tuple[Signer, str]) -> str:
    """The content of a file of allowed signers, each with the options of its line."""
    texts = []
    for signer, options in signers:
        name, key = signer.line.split(" ", 1)
        texts.append(f"{name} {options} {key}")
    return "".join(texts)


@pytest.fixture
def signers(tmp_path: Path, author: Signer, signer: Signer) -> Path:
    """The file of allowed signers, whose path needs quoting."""
    path = tmp_path / 'those "who" may'
    path.write_text(lines((author, 'namespaces="git"'), (signer, 'namespaces="zoo.deploy"')))
    return path


@pytest.fixture
def agent(agents: Agents, signers: Path) -> Agent:
    """An agent that requires signatures."""
    return agents(require_signature=str(signers)).start()


def refusal(agent: Agent, generation: int) -> str:
    """Why the agent refuses a generation."""
    status = agent.wait_outcome(generation)
    assert status["state"] == "failed", status
    begin = "the published release is refused: "
    assert status["message"].startswith(begin), status
    return str(status["message"])[len(begin) :]


Attempts = list[tuple[dict[str, Any], str]]
"""Records that are refused, each with the beginning of the reason."""


def forgeries(publisher: Publisher, bad: str, stranger: Signer, signers: Path) -> Attempts:
    """Records of a commit that no allowed signer has signed in this form, after the accepted serial 42."""
    good = publisher.signed(bad, serial=43)
    elsewhere = publisher.signed(bad, serial=43, app="/app/other")
    altered = "its signature does not count: Signature verification failed: incorrect signature"
    return [
        (publisher.record(bad), "its record is not signed"),
        ({**good, "signature": "x"}, "signature: expected what begins with -----BEGIN SSH SIGNATURE-----"),
        ({**good, "signature": good["signature"][:60]}, f"it is signed by nobody in {signers}: Couldn't parse"),
        (publisher.signed(bad, serial=43, signer=stranger), f"it is signed by nobody in {signers}: No principal"),
        (publisher.signed(bad, serial=43, signer=publisher.author), "its signature does not count: "),
        (publisher.signed(bad, serial=43, namespace="git"), "its signature does not count: Couldn't verify"),
        ({**good, "relativePath": "other"}, altered),
        ({**good, "ref": "v1"}, altered),
        ({**good, "rollout": True}, altered),
        ({**good, "serial": 44}, altered),
        ({**good, "notAfter": moment(HOUR)}, altered),
        (elsewhere, 'its record was signed for the application "/app/other", not for '),
        ({**elsewhere, "app": publisher.app}, altered),
        (publisher.signed(bad, serial=43, not_after=moment(-HOUR)), "its record has expired: it was valid until "),
    ]


def wrong_serials(publisher: Publisher, bad: str) -> Attempts:
    """Signed records with serials that may not follow the serial 42."""
    return [
        (publisher.signed(bad, serial=40), "serial 40 is lower than 42, which was accepted here"),
        (publisher.signed(bad, serial=1_000_043), "serial 1000043 is more than 1000000 above 42, which was accepted"),
        (publisher.signed(bad, serial=2**53), "serial: expected a whole number from 1 to 9007199254740991"),
        (publisher.signed(bad, serial=True), "serial: expected a whole number from 1 to 9007199254740991"),
    ]


def test_each_record_that_no_publisher_has_signed_in_this_form_is_refused_with_its_reason(
    agent: Agent, publisher: Publisher, signers: Path, tmp_path: Path
) -> None:
    first = publisher.commit("first")
    old = publisher.signed(serial=41)
    assert agent.wait_outcome(publisher.publish(old))["state"] == "active"
    good = publisher.commit("good")
    accepted = publisher.signed(serial=42, rollout=None)
    assert agent.wait_outcome(publisher.publish(accepted))["state"] == "active"
    bad = publisher.commit("bad")
    stranger = Signer(tmp_path, "stranger")
    attempts = [
        *forgeries(publisher, bad, stranger, signers),
        ({**publisher.signed(serial=43), "commitId": first}, "its signature does not count: Signature verification"),
        *wrong_serials(publisher, bad),
        (publisher.signed(bad, serial=42), f"serial 42 was accepted here with another content, {good}"),
        (old, "its record is replayed: serial 41 was accepted here, and 42 since"),
    ]
    for number, (record, reason) in enumerate(attempts):
        said = refusal(agent, publisher.publish(record))
        assert said.startswith(reason), (number, said)
        assert agent.live() == good
        assert not (agent.base / ".zoo/releases" / bad).exists(), number
        assert not (agent.base / "other").exists(), number
    # Refused records have used up no serial, and the live release is accepted whenever it is published again.
    assert agent.wait_outcome(publisher.publish(accepted))["state"] == "active"
    assert agent.wait_outcome(publisher.publish(publisher.signed(bad, serial=43)))["state"] == "active"
    assert agent.live() == bad


def test_nothing_of_a_refused_record_is_fetched(agent: Agent, publisher: Publisher) -> None:
    commit_id = publisher.commit("not signed for")
    refusal(agent, publisher.publish(publisher.record()))
    assert not (agent.base / ".zoo/repository.git").exists()
    assert agent.wait_outcome(publisher.publish(publisher.signed()))["state"] == "active"
    assert agent.live() == commit_id


def test_what_was_accepted_is_remembered_after_a_crash_and_not_verified_with_ssh_keygen_again(
    agent: Agent, publisher: Publisher, tmp_path: Path
) -> None:
    publisher.commit("first")
    old = publisher.signed()
    agent.wait_outcome(publisher.publish(old))
    publisher.commit("second")
    end = datetime.now(timezone.utc) + timedelta(seconds=3)
    generation = publisher.publish(publisher.signed(not_after=end.isoformat()))
    agent.wait_outcome(generation)
    agent.kill()
    wait_for(lambda: datetime.now(timezone.utc) > end, "its time is over")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ssh-keygen").write_text("#!/bin/sh\nexit 1\n")
    (broken / "ssh-keygen").chmod(0o755)
    agent.start(PATH=f"{broken}:/usr/bin:/bin")
    wait_for(lambda: any("was valid until" in line for line in agent.status.get("troubles", [])), "it is told as stale")
    assert agent.wait_outcome(generation)["state"] == "active"
    assert refusal(agent, publisher.publish(old)) == "its record is replayed: serial 1 was accepted here, and 2 since"


def test_a_damaged_memory_of_accepted_records_lets_nothing_through(agent: Agent, publisher: Publisher) -> None:
    good = publisher.commit("good")
    agent.wait_outcome(publisher.publish(publisher.signed(serial=5)))
    memory = agent.base / ".zoo/accepted.json"
    memory.write_text("{")
    publisher.commit("later")
    generation = publisher.publish(publisher.signed(serial=6))
    told = f"the published record can't be verified now: {memory}: not as an agent has written it; remove it"
    wait_for(lambda: any(line.startswith(told) for line in agent.status.get("troubles", [])), "it is told")
    assert agent.live() == good
    memory.unlink()
    assert agent.wait_outcome(generation)["state"] == "active"


def test_expired_and_revoked_keys_are_refused_and_certificates_count(
    agents: Agents, publisher: Publisher, signers: Path, author: Signer, signer: Signer, tmp_path: Path
) -> None:
    revoked = tmp_path / "revoked"
    revoked.write_text("")
    agent = agents(require_signature=str(signers), revoked_signers=str(revoked)).start()
    publisher.commit("first")
    first = publisher.publish(publisher.signed())
    assert agent.wait_outcome(first)["state"] == "active"
    only_git = (author, 'namespaces="git"')
    # The key has expired: records that it signed before stay accepted, new ones are not.
    signers.write_text(
        lines(only_git, (signer, f'namespaces="zoo.deploy",valid-before="{time.strftime("%Y%m%d%H%M")}"'))
    )
    publisher.commit("second")
    said = refusal(agent, publisher.publish(publisher.signed()))
    assert said.startswith(f"it is signed by nobody in {signers}: ")
    assert "key has expired" in said
    signers.write_text(lines(only_git, (signer, 'namespaces="zoo.deploy",valid-after="20990101"')))
    assert "key is not yet valid" in refusal(agent, publisher.publish(publisher.signed()))
    # A certificate of an authority, for an allowed principal.
    authority, user = Signer(tmp_path, "authority"), Signer(tmp_path, "user")
    names = ["-n", "publisher@example.org"]
    subprocess.run(["ssh-keygen", "-q", "-s", str(authority.key), "-I", "id", *names, f"{user.key}.pub"], check=True)
    user.identity = Path(f"{user.key}-cert.pub")
    _name, key = authority.line.split(" ", 1)
    signers.write_text(lines(only_git) + f"*@example.org cert-authority {key}")
    assert agent.wait_outcome(publisher.publish(publisher.signed(signer=user)))["state"] == "active"
    revoked.write_text(Path(f"{user.key}.pub").read_text())
    said = refusal(agent, publisher.publish(publisher.signed(signer=user)))
    assert said == f"the key of publisher@example.org, by which it is signed, is revoked in {revoked}"


def test_a_commit_by_a_revoked_key_is_refused_too(
    agents: Agents, publisher: Publisher, signers: Path, tmp_path: Path
) -> None:
    revoked = tmp_path / "revoked keys"
    revoked.write_text(Path(f"{publisher.author.key}.pub").read_text())
    agent = agents(require_signature=str(signers), revoked_signers=str(revoked)).start()
    commit_id = publisher.commit("by a stolen key")
    status = agent.wait_outcome(publisher.publish(publisher.signed()))
    assert (status["state"], agent.live()) == ("failed", None)
    assert f"{commit_id} is not signed by anybody in {signers}: its key is revoked in {revoked}" in status["message"]
    revoked.write_text("")
    assert agent.wait_outcome(publisher.publish(publisher.signed()))["state"] == "active"


def test_requiring_signatures_checks_the_live_release(agents: Agents, publisher: Publisher, signers: Path) -> None:
    agent = agents().start()
    live = publisher.commit("live")
    generation = publisher.publish(publisher.record())
    agent.wait_outcome(generation)
    agent.end()
    agent.config["require_signature"] = str(signers)
    agent.start()
    wait_for(lambda: "its record is not signed" in (agent.status.get("message") or ""), "it says so")
    assert (agent.status["state"], agent.live()) == ("failed", live)
    assert agent.wait_outcome(publisher.publish(publisher.signed()))["state"] == "active"
    agent.end()
    agent.start()
    wait_for(lambda: agent.status.get("state") == "active", "it is accepted")


def test_an_expired_record_is_reported_and_stays_live_until_a_newer_one_comes(
    agent: Agent, publisher: Publisher
) -> None:
    """Nothing prevents an attacker from withholding news from a host, and this is how it is found out."""
    live, end = publisher.commit("live"), moment(HOUR / 180)
    assert agent.wait_outcome(publisher.publish(publisher.signed(not_after=end)))["state"] == "active"
    trouble = (
        f"the published record was valid until {end}, and no newer one has come; publish, or find who keeps it back"
    )
    wait_for(lambda: agent.status.get("troubles") == [trouble], "it is told", 120)
    assert (agent.status["state"], agent.live()) == ("active", live)
    agent.end()
    agent.start()
    told = ("active", [trouble])
    wait_for(lambda: (agent.status.get("state"), agent.status.get("troubles")) == told, "it is told again")
    assert agent.live() == live
    assert agent.wait_outcome(publisher.publish(publisher.signed(not_after=moment(HOUR))))["state"] == "active"
    wait_for(lambda: "troubles" not in agent.status, "the trouble is over")


def test_a_host_goes_back_from_a_bad_release_only_to_what_it_has_accepted(
    agents: Agents, publisher: Publisher, signers: Path, registered: dict[str, Any], service: Any
) -> None:
    service.open()
    agent = agents(require_signature=str(signers), health_timeout=1, **registered).start()
    good = publisher.commit("good")
    agent.wait_outcome(publisher.publish(publisher.signed()))
    service.close()
    publisher.commit("bad")
    status = agent.wait_outcome(publisher.publish(publisher.signed()))
    assert agent.live() == good, status
    memory = agent.base / ".zoo/accepted.json"
    known = json.loads(memory.read_text())
    known[agent.app] = [one for one in known[agent.app] if one["commitId"] != good]
    memory.write_text(json.dumps(known))
    worse = publisher.commit("worse")
    status = agent.wait_outcome(publisher.publish(publisher.signed()))
    assert (status["state"], agent.live()) == ("failed", worse)
    assert "or it or its record not verified with the present require_signature" in status["message"]


def forge_stable(zk: KazooClient, app: str, generation: int, stable: dict[str, Any]) -> None:
    """Make the rollout of a generation go back to another release, as anybody with write access can."""
    root = f"{app}/rollouts/{generation}"
    forged = {"phase": "rolling_back", "reason": "forged"}

    def forge() -> bool:
        # If the agent has moved the rollout meanwhile, a repeated number of moves would be ignored.
        (state, of_state), (gate, of_gate) = zk.get(root), zk.get(f"{root}/gate")
        moves = json.loads(state)["moves"] + 1
        transaction = zk.transaction()
        changed = {**json.loads(state), **forged, "from": stable, "moves": moves}
        transaction.set_data(root, json.dumps(changed).encode(), of_state.version)
        changed = {**json.loads(gate), **forged, "moves": moves}
        transaction.set_data(f"{root}/gate", json.dumps(changed).encode(), of_gate.version)
        return all(not isinstance(result, Exception) for result in transaction.commit())

    wait_for(forge, "the rollout is forged")


PLAN = {"steps": [{"hosts": 1, "pause": True}], "minHealthy": 0}


def test_a_forged_rollout_takes_no_host_to_a_release_that_was_never_accepted(
    agents: Agents, zk: KazooClient, publisher: Publisher, signers: Path
) -> None:
    agent = agents(require_signature=str(signers)).start()
    old = publisher.commit("old, and signed, but never for this host")
    old_record = publisher.signed()
    forged = publisher.commit("signed by an author, published by nobody")
    good = publisher.commit("good")
    agent.wait_outcome(publisher.publish(publisher.signed(serial=7)))
    publisher.commit("new")
    new = publisher.signed(serial=8, rollout={**PLAN, "from": good})
    new_generation = publisher.publish(new)
    agent.wait_outcome(new_generation)
    live = agent.live()
    history = f"{agent.app}/history/release-"
    zk.create(history, json.dumps(old_record).encode(), sequence=True)
    for commit_id, reason in (
        (forged, "its record is not in the history"),
        (old, "serial 1 is lower than 7, and was never accepted here"),
    ):
        forge_stable(zk, agent.app, new_generation, publisher.record(commit_id))
        said = f"{commit_id} of {publisher.repository.url} is not deployed: it is to be the previous release, and was"

        def told(said: str = said, reason: str = reason) -> bool:
            return any(line.startswith(said) and reason in line for line in agent.status.get("troubles", []))

        wait_for(told, f"it is refused; its log:\n{agent.log}")
        assert agent.live() == live
    forge_stable(zk, agent.app, new_generation, publisher.record(good))
    wait_for(lambda: agent.live() == good, "what it has accepted it goes back to")


def test_a_new_host_deploys_the_stable_release_by_the_signature_in_the_history(
    agents: Agents, publisher: Publisher, signers: Path
) -> None:
    first = agents("server1", require_signature=str(signers)).start()
    good = publisher.commit("good")
    first.wait_outcome(publisher.publish(publisher.signed(rollout={"minHealthy": 0})))
    wait_for(lambda: "done" in str(first.zk.get(f"{first.app}/rollouts/{first.status['generation']}")[0]), "it is done")
    new = publisher.commit("new")
    first.wait_outcome(publisher.publish(publisher.signed(rollout=PLAN)))
    assert first.live() == new
    second = agents("server2", require_signature=str(signers)).start()
    wait_for(lambda: second.live() == good, f"it has the stable one; its log:\n{second.log}")


def test_where_no_signature_is_required_a_signed_record_is_deployed_like_any_other(
    agents: Agents, publisher: Publisher
) -> None:
    agent = agents().start()
    publisher.commit("first")
    record = publisher.signed(not_after=moment(-HOUR))
    assert agent.wait_outcome(publisher.publish({**record, "signature": "anything"}))["state"] == "active"
    assert not (agent.base / ".zoo/accepted.json").exists()


@pytest.mark.parametrize("looked_again", [False, True], ids=["at once", "after the next look"])
def test_a_host_goes_back_to_what_it_has_accepted_even_after_another_author_was_allowed(
    agents: Agents,
    publisher: Publisher,
    signers: Path,
    registered: dict[str, Any],
    service: Any,
    tmp_path: Path,
    looked_again: bool,
) -> None:
    service.open()
    agent = agents(require_signature=str(signers), health_timeout=1, **registered).start()
    good = publisher.commit("good")
    first = publisher.signed()
    agent.wait_outcome(publisher.publish(first))
    signers.write_text(signers.read_text() + Signer(tmp_path, "one_more").line)
    if looked_again:
        # Published again, it is accepted with the new file.
        agent.wait_outcome(publisher.publish(first))
    service.close()
    bad = publisher.commit("bad")
    status = agent.wait_outcome(publisher.publish(publisher.signed()))
    assert agent.live() == good, (bad, status)


def have_looked_again(agent: Agent) -> None:
    """Make the agent read what is published again."""
    assert agent.process is not None
    agent.process.send_signal(CONTROL)


def test_what_failed_is_not_tried_again_because_the_signers_were_wrong_for_a_moment(
    agents: Agents, publisher: Publisher, signers: Path, tmp_path: Path
) -> None:
    runs, hook = tmp_path / "runs", tmp_path / "hook.sh"
    hook.write_text(f"#!/bin/sh\necho run >> {runs}\nexit 1\n")
    hook.chmod(0o755)
    agent = agents(require_signature=str(signers), hooks={"before_activate": [str(hook)]}).start()
    publisher.commit("bad")
    generation = publisher.publish(publisher.signed())
    failed = agent.wait_outcome(generation)
    text = signers.read_text()
    signers.write_text("")
    have_looked_again(agent)
    wait_for(lambda: "is refused: " in (agent.status.get("message") or ""), "it is refused")
    signers.write_text(text)
    have_looked_again(agent)
    wait_for(lambda: agent.status.get("message") == failed["message"], "it is told as before")
    assert runs.read_text().count("run") == 1


def test_a_new_host_does_not_go_back_to_a_release_with_an_expired_record(
    agents: Agents, zk: KazooClient, publisher: Publisher, signers: Path
) -> None:
    old = publisher.commit("old, with a flaw")
    old_record = publisher.signed(serial=3, not_after=moment(-HOUR))
    publisher.commit("good")
    agent = agents("server9", require_signature=str(signers)).start()
    generation = publisher.publish(publisher.signed(serial=100, rollout=PLAN))
    agent.wait_outcome(generation)
    live = agent.live()
    zk.create(f"{agent.app}/history/release-", json.dumps(old_record).encode(), sequence=True)
    wait_for(lambda: zk.exists(f"{agent.app}/rollouts/{generation}"), "it has begun")
    forge_stable(zk, agent.app, generation, publisher.record(old))
    wait_for(
        lambda: any("its record has expired" in line for line in agent.status.get("troubles", [])), "it is refused"
    )
    assert agent.live() == live


def test_many_forged_entries_in_the_history_do_not_keep_the_agent_from_a_newer_release(
    agents: Agents, zk: KazooClient, publisher: Publisher, signers: Path
) -> None:
    good = publisher.commit("good")
    agent = agents("server9", require_signature=str(signers)).start()
    publisher.commit("new")
    generation = publisher.publish(publisher.signed(serial=100, rollout=PLAN))
    agent.wait_outcome(generation)
    for number in range(500):
        # Each entry is different, so that nothing that is cached for one helps with the next.
        junk = publisher.record(good, app=agent.app, serial=50, signature=f"-----BEGIN SSH SIGNATURE-----\n{number}")
        zk.create(f"{agent.app}/history/release-", json.dumps(junk).encode(), sequence=True)
    wait_for(lambda: zk.exists(f"{agent.app}/rollouts/{generation}"), "it has begun")
    forge_stable(zk, agent.app, generation, publisher.record(good))
    wait_for(lambda: agent.status.get("troubles"), "it is refused")
    newest = publisher.commit("newest")
    publisher.publish(publisher.signed(serial=101))
    wait_for(lambda: agent.live() == newest, "the next release is live", 15)


def test_the_releases_and_serials_of_a_stolen_key_are_undone_by_its_revocation(
    agents: Agents, publisher: Publisher, signers: Path, tmp_path: Path
) -> None:
    stolen, revoked = Signer(tmp_path, "stolen"), tmp_path / "revoked"
    revoked.write_text("")
    signers.write_text(signers.read_text() + stolen.line)
    agent = agents(require_signature=str(signers), revoked_signers=str(revoked)).start()
    publisher.commit("first")
    agent.wait_outcome(publisher.publish(publisher.signed(serial=5)))
    theirs = publisher.commit("by a thief")
    leap = publisher.signed(serial=2**53 - 1, signer=stolen)
    assert "is more than 1000000 above 5" in refusal(agent, publisher.publish(leap))
    thief = publisher.signed(serial=1_000_005, signer=stolen)
    assert agent.wait_outcome(publisher.publish(thief))["state"] == "active"
    assert agent.live() == theirs
    revoked.write_text(Path(f"{stolen.key}.pub").read_text())
    good = publisher.commit("good")
    assert agent.wait_outcome(publisher.publish(publisher.signed(serial=6)))["state"] == "active"
    assert agent.live() == good
    assert "is revoked in" in refusal(agent, publisher.publish(thief))
