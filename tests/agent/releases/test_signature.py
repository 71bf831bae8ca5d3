"""Where a signature is required, only a commit that an allowed signer has signed goes live."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from support.agent import Agent, publish
from support.openpgp_signer import OpenPgpSigner, openpgp_home
from support.repository import GitRepository
from support.signer import Signer
from support.waiting import wait_for

Agents = Callable[..., Agent]
Publish = Callable[..., int]


@pytest.fixture
def friend(tmp_path: Path) -> Signer:
    """A signer that may sign commits."""
    return Signer(tmp_path, "friend")


@pytest.fixture
def publisher(tmp_path: Path) -> Signer:
    """The signer of all records in this file."""
    return Signer(tmp_path, "publisher")


@pytest.fixture
def allow(tmp_path: Path, publisher: Signer) -> Callable[..., Path]:
    """Writes the file of allowed signers, always with the publisher, at a path that needs quoting."""

    def write(*signers: Signer) -> Path:
        path = tmp_path / 'those "who" may'
        path.write_text("".join(signer.line for signer in (*signers, publisher)))
        return path

    return write


@pytest.fixture
def signers(allow: Callable[..., Path], friend: Signer) -> Path:
    """The file of allowed signers with the friend in it."""
    return allow(friend)


@pytest.fixture
def release(zk: KazooClient, app: str, repository: GitRepository, publisher: Signer) -> Publish:
    """Publishes a commit of the repository, its head by default, with a signed record, and returns the generation."""
    serials = itertools.count(1)

    def make(commit_id: str | None = None, **keys: str) -> int:
        record = {"url": repository.url, "commitId": commit_id or repository.head, "relativePath": "site", **keys}
        return publish(zk, app, publisher.sign_record(app, record, next(serials)))

    return make


def test_a_commit_of_an_allowed_signer_goes_live_and_no_other(
    agents: Agents, repository: GitRepository, release: Publish, friend: Signer, signers: Path, tmp_path: Path
) -> None:
    agent = agents(require_signature=str(signers)).start()
    unsigned = repository.head
    status = agent.wait_outcome(release())
    assert (status["state"], agent.live()) == ("failed", None)
    assert f"{unsigned} is not signed by anybody in {signers}" in status["message"]
    good = friend.commit(repository, "good")
    assert agent.wait_outcome(release())["state"] == "active"
    Signer(tmp_path, "stranger").commit(repository, "strange")
    status = agent.wait_outcome(release())
    assert (status["state"], agent.live()) == ("failed", good)
    assert "No principal matched" in status["message"]


def test_a_commit_by_an_openpgp_key_in_the_file_goes_live_and_no_other(
    agents: Agents, repository: GitRepository, release: Publish, signers: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    with openpgp_home() as home:
        friend, stranger = OpenPgpSigner(home, "friend"), OpenPgpSigner(home, "stranger")
        keys.write_bytes(friend.public())
        agent = agents(require_signature=str(signers), openpgp_signers=str(keys)).start()
        good = friend.commit(repository, "good")
        assert agent.wait_outcome(release())["state"] == "active"
        strange = stranger.commit(repository, "strange")
        status = agent.wait_outcome(release())
        assert (status["state"], agent.live()) == ("failed", good)
        assert f"{strange} is not signed by anybody in {signers} or {keys}: gpg: Can't check" in status["message"]
        friend.revoke()
        keys.write_bytes(friend.public())
        agent.end()
        agent.start()
        wait_for(lambda: f"but {good} is not signed by anybody" in agent.log, "what is live is verified by it too")
        assert agent.live() == good


def test_a_file_of_signers_that_is_missing_for_a_moment_is_waited_for(
    agents: Agents, repository: GitRepository, release: Publish, friend: Signer, signers: Path
) -> None:
    agent = agents(require_signature=str(signers)).start()
    friend.commit(repository, "first")
    agent.wait_outcome(release())
    aside = signers.rename(signers.with_name("aside"))
    good = friend.commit(repository, "good")
    generation = release()
    missing = f"the published record can't be verified now: require_signature: {signers}: No such file or directory"
    wait_for(lambda: missing in agent.status.get("troubles", []), "it is missing")
    aside.rename(signers)
    assert agent.wait_outcome(generation)["state"] == "active"
    assert agent.live() == good


def test_a_release_on_disk_is_verified_again_when_the_signers_have_changed(
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    friend: Signer,
    allow: Callable[..., Path],
    tmp_path: Path,
) -> None:
    agent = agents(require_signature=str(allow(friend))).start()
    other = Signer(tmp_path, "other")
    first = friend.commit(repository, "first")
    agent.wait_outcome(release())
    allow(friend, other)
    second = other.commit(repository, "second")
    agent.wait_outcome(release())
    allow(other)
    status = agent.wait_outcome(release(first))
    assert (status["state"], agent.live()) == ("failed", second)
    allow(friend)
    assert agent.wait_outcome(release(first, ref="again"))["state"] == "active"
    assert agent.live() == first


def test_an_unsigned_live_release_stays_and_is_reported_until_a_signed_one_replaces_it(
    agents: Agents,
    repository: GitRepository,
    release: Publish,
    friend: Signer,
    allow: Callable[..., Path],
    tmp_path: Path,
) -> None:
    signers = allow(friend)
    agent = agents().start()
    unsigned = repository.head
    generation = release()
    agent.wait_outcome(generation)
    agent.end()
    agent.config["require_signature"] = str(signers)
    agent.start()
    trouble = f"the live release stays, but {unsigned} is not signed by anybody in {signers}: it is not signed"
    wait_for(lambda: agent.status.get("troubles") == [trouble], "the status says so")
    assert (agent.status["state"], agent.status["generation"], agent.live()) == ("active", generation, unsigned)
    signed = friend.commit(repository, "signed")
    agent.wait_outcome(release())
    assert agent.live() == signed
    wait_for(lambda: "troubles" not in agent.status, "the trouble is over")
    assert agent.log.count("the live release stays") == 1
    agent.end()
    allow(friend, Signer(tmp_path, "other"))
    agent.start()
    wait_for(lambda: agent.log.count(f"the live release is verified, commit={signed}") == 2, "others may sign by now")
    assert "troubles" not in agent.status


def test_a_live_release_that_the_object_store_lacks_is_not_reported_as_unsigned(
    agents: Agents, repository: GitRepository, release: Publish, friend: Signer, signers: Path
) -> None:
    agent = agents().start()
    signed = friend.commit(repository, "signed")
    agent.wait_outcome(release())
    agent.end()
    shutil.rmtree(agent.base / ".zoo/repository.git")
    agent.config["require_signature"] = str(signers)
    agent.start()
    lacking = "can't be verified: the object store of this host does not have the commit"
    trouble = f"the live release stays, but the signature of {signed} {lacking}"
    wait_for(lambda: agent.status.get("troubles") == [trouble], "the status says so")
