"""Which release the options of zk_release name, with a real repository."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kazoo.handlers.threading import KazooTimeoutError

from ansible_collections.zoo.deploy.plugins.module_utils import rollouts
from ansible_collections.zoo.deploy.plugins.module_utils.connection import Overtaken, ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.git_refs import CommitError
from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths, InvalidRecord, Release
from ansible_collections.zoo.deploy.plugins.module_utils.release_signature import ARMOUR
from ansible_collections.zoo.deploy.plugins.module_utils.release_trust import ReleaseTrust
from ansible_collections.zoo.deploy.plugins.module_utils.releases import HistoryEntry, Published
from ansible_collections.zoo.deploy.plugins.module_utils.rollouts import Unknown
from ansible_collections.zoo.deploy.plugins.modules import zk_release
from ansible_collections.zoo.deploy.plugins.modules.zk_release import (
    argument_spec,
    converge,
    resolved_release,
    wait,
    wait_on,
    wanted_release,
    with_rollout,
)
from support.repository import GitRepository
from support.signer import Signer


@pytest.fixture
def tagged(repository: GitRepository) -> GitRepository:
    """A repository whose branch is one commit ahead of the tag `v1`."""
    repository.git("tag", "v1")
    repository.commit({"index.html": "newer\n"})
    return repository


def options(**given: Any) -> dict[str, Any]:
    """The module's options: their defaults, overridden by these."""
    return {**{name: spec.get("default") for name, spec in argument_spec().items()}, **given}


def published(repository: GitRepository, ref: str | None) -> Release:
    """The release of the tag, published as `ref`."""
    commit_id = repository.git("rev-parse", "v1").strip()
    return Release(url=repository.url, commit_id=commit_id, relative_path="site", ref=ref)


def test_what_is_left_out_is_as_previously_published_the_ref_too(tagged: GitRepository) -> None:
    before = published(tagged, "v1")
    assert resolved_release(options(), before) == before
    assert resolved_release(options(url=tagged.url), before) == before


def test_a_branch_that_was_published_is_looked_up_again(tagged: GitRepository) -> None:
    release = resolved_release(options(), published(tagged, "main"))
    assert (release.ref, release.commit_id) == ("main", tagged.head)


@pytest.mark.parametrize("ref", [None, "", 5, ["main"]])
def test_a_ref_is_demanded_where_the_published_release_has_none(tagged: GitRepository, ref: Any) -> None:
    with pytest.raises(InvalidRecord, match=r"^ref: give it; the release that is published now has none"):
        resolved_release(options(), published(tagged, ref))


def test_a_ref_is_demanded_for_another_repository(tagged: GitRepository) -> None:
    with pytest.raises(InvalidRecord, match=r"^ref: give it; what is published now is of another repository, "):
        resolved_release(options(url="file:///elsewhere"), published(tagged, "v1"))


def test_the_first_release_is_the_default_branch_where_no_ref_is_given(tagged: GitRepository) -> None:
    release = resolved_release(options(url=tagged.url, relative_path="site"), None)
    assert (release.ref, release.commit_id) == ("HEAD", tagged.head)


@pytest.mark.parametrize(("given", "missing"), [({}, "url"), ({"url": "file:///site"}, "relative_path")])
def test_what_cannot_be_left_out_is_demanded_and_the_application_named(given: dict[str, Any], missing: str) -> None:
    """Its path may contain a typo."""
    expected = f"^{missing}: give it; nothing is published at /app/shpo/config that it could be taken from$"
    with pytest.raises(InvalidRecord, match=expected):
        resolved_release(options(app="/app/shpo", **given), None)


def test_what_servers_have_meanwhile_may_be_named_as_a_ref_is(tagged: GitRepository) -> None:
    release = published(tagged, "main")
    for name in ("v1", release.commit_id[:7], release.commit_id.upper()):
        made = with_rollout(release, {"from": name, "maxInFlight": 2})
        assert made.extra["rollout"] == {"from": release.commit_id, "maxInFlight": 2}
    gone = with_rollout(release, {"from": "2" * 40})
    assert gone.extra["rollout"] == {"from": "2" * 40}, "servers may have what the repository has no more"


def test_what_names_no_commit_that_servers_could_have_meanwhile_is_refused(tagged: GitRepository) -> None:
    release = published(tagged, "main")
    with pytest.raises(CommitError, match=rf"^rollout\.from: {tagged.url} has no branch, tag or commit v9$"):
        with_rollout(release, {"from": "v9"})
    with pytest.raises(InvalidRecord, match=r"^rollout\.from: expected a commit, a tag or a branch, got 5$"):
        with_rollout(release, {"from": 5})


@pytest.mark.parametrize(("moves", "generation", "is_over"), [
    (3, None, True), (3, 7, False), (None, None, False), (3, 8, False),
])  # fmt: skip
def test_a_rollout_whose_release_was_deleted_is_no_longer_waited_for(
    monkeypatch: pytest.MonkeyPatch, moves: int | None, generation: int | None, is_over: bool
) -> None:
    """Its agents have left it, so that it never ends; the wait itself reports another release."""
    monkeypatch.setattr(zk_release, "read_published", lambda *_given: Published(generation))
    monkeypatch.setattr(zk_release, "wait", lambda *_given: {"waited": True})
    turn = {"generation": 7, "commit_id": "1" * 40, "agents": [], "left": 60.0, "stuck": 0.0, "moves": moves}
    given = options(_published=turn, app="/app/shop")
    if is_over:
        with pytest.raises(ZooKeeperError, match=r"^/app/shop/config: the release was deleted meanwhile, "):
            wait_on(None, given)
    else:
        assert wait_on(None, given) == {"waited": True}


@pytest.mark.parametrize("attended", [False, True])
def test_a_rollout_that_rests_and_can_not_be_read_is_not_left_at_its_gates(
    monkeypatch: pytest.MonkeyPatch, attended: bool
) -> None:
    """As in an outage: who attends it would not know that it waits for its gates, and would end well."""

    def lost(*_given: Any) -> None:
        raise ZooKeeperError("/app/shop/rollouts/7: ZooKeeper did not answer in time") from KazooTimeoutError()

    monkeypatch.setattr(zk_release, "prove", lambda *_given: {"converged": False, "msg": "the rollout is paused"})
    monkeypatch.setattr(rollouts, "read_rollout", lost)
    monkeypatch.setattr(zk_release, "read_published", lambda *_given: Published(7))
    result, given = {"generation": 7, "commit_id": "1" * 40}, options(app="/app/shop", _attended=attended)
    if not attended:
        assert wait(None, given, result, [], 0.0)["msg"] == "the rollout is paused"
        return
    with pytest.raises(ZooKeeperError, match="did not answer in time") as raised:
        wait(None, given, result, [], 0.0)
    assert raised.value.details["timed_out"], "it is waited for once more"


class History:
    """Publications in memory: `a`, which is proved, and `b`. Another publisher is faster once, with `third`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, third: Release) -> None:
        proved = {"provedAt": "2026-11-29T00:00:00Z"}
        self.releases = [release_of("a", **proved), release_of("b")]
        self._third = third
        monkeypatch.setattr(zk_release, "kept_closed", lambda *_given: contextlib.nullcontext())
        for name in ("check_not_bad", "why_without_steps"):
            monkeypatch.setattr(zk_release, name, lambda *_given: None)
        monkeypatch.setattr(zk_release, "unknown_hosts", lambda *_given: Unknown([], []))
        monkeypatch.setattr(zk_release, "with_plan_back", lambda _client, _paths, release: (release, None))
        monkeypatch.setattr(zk_release, "bad_commits", lambda *_given: [])
        for name in ("read_published", "known_releases", "publish"):
            monkeypatch.setattr(zk_release, name, getattr(self, name))

    def read_published(self, *_given: Any) -> Published:
        """The newest one."""
        return Published(len(self.releases), 0, self.releases[-1], None, "2026-11-30T00:00:00+00:00")

    def known_releases(self, *_given: Any) -> tuple[list[HistoryEntry], list[int]]:
        """The newest first; no rollout has proved any."""
        numbered = reversed(list(enumerate(self.releases, 1)))
        return [HistoryEntry(f"release-{number}", number, release, None) for number, release in numbered], []

    def publish(self, _client: Any, _paths: Any, release: Release, before: Published, _lock: Any) -> int:
        """Publish it, or be overtaken."""
        if len(self.releases) == 2:
            self.releases.append(self._third)
        if before.generation != len(self.releases):
            raise Overtaken("/app/shop/config: changed meanwhile")
        self.releases.append(release)
        return len(self.releases)


def release_of(letter: str, **extra: Any) -> Release:
    """A release, a different one for each letter."""
    return Release("https://git.example/site.git", letter * 40, "site", extra=extra)


@pytest.mark.parametrize(("to", "said"), [(None, "there is no other release"), ("main", "to: no entry of the history")])
def test_an_impossible_rollback_is_refused_and_the_application_named(
    monkeypatch: pytest.MonkeyPatch, to: str | None, said: str
) -> None:
    monkeypatch.setattr(zk_release, "known_releases", lambda *_given: ([], []))
    monkeypatch.setattr(zk_release, "bad_commits", lambda *_given: [])
    with pytest.raises(InvalidRecord, match=f"^/app/shpo/history: {said}"):
        zk_release.earlier_release(None, AppPaths("/app/shpo"), {"to": to}, Published(), None)


def test_a_rollback_does_not_roll_back_what_was_published_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The person rolling back has not seen that release: it may be the fix."""
    history = History(monkeypatch, release_of("c"))
    with pytest.raises(
        ZooKeeperError,
        match=r"^/app/shop/config: another release was published meanwhile, and not rolled back from: c+ is published ",
    ):
        converge(None, options(app="/app/shop", state="rolled_back", wait=False), check=False)
    assert len(history.releases) == 3


def test_two_simultaneous_rollbacks_both_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(monkeypatch, release_of("a", rolledBackFrom="b" * 40))
    done = converge(None, options(app="/app/shop", state="rolled_back", wait=False), check=False)
    assert (done["changed"], done["generation"], len(history.releases)) == (False, 3, 3)


PATHS = AppPaths("/app/business")
URL = "https://git.example.com/site.git"
FIRST, SECOND, NEVER = "1" * 40, "2" * 40, "3" * 40
Publisher = Callable[..., Release]


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """The signer."""
    return Signer(tmp_path, "publisher")


@pytest.fixture
def signed(signer: Signer) -> Publisher:
    """A function that makes a signed record of a commit."""

    def make(commit_id: str, serial: int, **keys: Any) -> Release:
        content = {"url": URL, "commitId": commit_id, "relativePath": "site", **keys}
        return Release.from_object(signer.sign_record(PATHS.root, content, serial))

    return make


@pytest.fixture
def want(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Release]:
    """A function: the release that options name, with a history (newest last), a current release and a policy."""

    def run(history: list[Release], current: Release | None, policy: Any = None, **given: Any) -> Release:
        entries = [HistoryEntry(f"release-{number}", number, one, None) for number, one in enumerate(history)]
        monkeypatch.setattr(zk_release, "known_releases", lambda *_given: ([], []))
        monkeypatch.setattr(zk_release, "bad_commits", lambda *_given: [])

        def planned(_client: Any, _paths: Any, release: Release) -> Release:
            return replace(release, extra={**({"rollout": policy} if policy else {}), **release.extra})

        monkeypatch.setattr(zk_release, "with_policy", planned)
        monkeypatch.setattr(zk_release, "with_plan_back", lambda *given: (planned(*given), None))
        asked = options(sign_with=str(signer.key), publisher="ci", **given)
        trust = ReleaseTrust(PATHS, str(signer.key), None, entries[::-1])
        return wanted_release(None, PATHS, asked, Published(5, 1, current), trust)[0]

    return run


def forged(release: Release, **keys: Any) -> Release:
    """A record by somebody who may write but not sign."""
    content = {**release.to_object(), "signature": f"{ARMOUR}\njunk\n", "provedAt": "2026-11-30T00:00:00+00:00", **keys}
    return Release.from_object(content)


def test_a_signed_rollback_goes_to_what_was_signed_whatever_else_is_in_the_history(
    want: Callable[..., Release], signed: Publisher
) -> None:
    first, second = signed(FIRST, 1, provedAt="2026-11-30T00:00:00+00:00"), signed(SECOND, 2)
    history = [first, second, forged(second, commitId=NEVER), forged(first, commitId=NEVER, serial=3)]
    back = want(history, second, state="rolled_back")
    assert (back.commit_id, back.extra["rolledBackFrom"]) == (FIRST, SECOND)
    assert not {"signature", "serial", "app", "provedAt"} & set(back.extra)
    # If what is published now does not count, nothing is taken from it, and a person must say where to roll back to.
    bad = forged(second, commitId=NEVER, rollout={"from": NEVER}, relativePath="elsewhere")
    with pytest.raises(
        InvalidRecord, match=f"^to: give it; .* does not count for .*, the latest first: {SECOND} or {FIRST}$"
    ):
        want([*history, bad], bad, state="rolled_back")
    for commit_id, left in ((FIRST, SECOND), (SECOND, None)):
        back = want([*history, bad], bad, state="rolled_back", to=commit_id)
        assert (back.commit_id, back.relative_path, back.extra.get("rolledBackFrom")) == (commit_id, "site", left)
        assert "rollout" not in back.extra
    for to in (NEVER, "release-3"):
        with pytest.raises(
            InvalidRecord, match=r"to: no entry .*; only what is signed by the key .* counts: any other"
        ):
            want(history, second, state="rolled_back", to=to)


def test_a_signed_rollback_takes_no_release_from_the_policy(want: Callable[..., Release], signed: Publisher) -> None:
    first, second = signed(FIRST, 1, provedAt="2026-11-30T00:00:00+00:00"), signed(SECOND, 2)
    plan = {"maxInFlight": 2, "from": NEVER}
    assert want([first, second], second, plan, state="rolled_back").extra["rollout"] == {"maxInFlight": 2}
    # An earlier record that is published again counts as unsigned.
    with pytest.raises(InvalidRecord, match=r"^to: give it; .* its record is replayed: its serial is 1, and 2 was"):
        want([first, second], first, state="rolled_back")
    own = signed(SECOND, 3, rollout=plan)
    assert want([first, own], own, state="rolled_back").extra["rollout"] == plan


def test_a_signed_release_takes_nothing_from_a_record_that_does_not_count(
    want: Callable[..., Release], signed: Publisher, tagged: GitRepository
) -> None:
    theirs = forged(signed(FIRST, 1), url=tagged.url, ref="main", relativePath="elsewhere")
    all_given = {"url": tagged.url, "ref": "v1", "relative_path": "site"}
    for missing in all_given:
        given = {name: value for name, value in all_given.items() if name != missing}
        with pytest.raises(
            InvalidRecord, match=f"^{missing}: give it; what is published now does not count for the key"
        ):
            want([], theirs, **given)
    with pytest.raises(InvalidRecord, match=r"^url, relative_path, ref: give it"):
        want([], theirs)
    assert want([], theirs, **all_given).relative_path == "site"
    assert want([], signed(FIRST, 1, url=tagged.url, ref="v1")).relative_path == "site"
    with pytest.raises(InvalidRecord, match=r"^url: give it; nothing is published at "):
        want([], None)


def test_a_signed_release_takes_its_plan_from_the_policy_but_no_release_that_the_policy_names(
    want: Callable[..., Release], tagged: GitRepository
) -> None:
    given = {"url": tagged.url, "ref": "v1", "relative_path": "site"}
    assert want([], None, {"maxInFlight": 2}, **given).extra["rollout"] == {"maxInFlight": 2}
    with pytest.raises(InvalidRecord, match=r"policy: rollout.from: the policy is not signed"):
        want([], None, {"maxInFlight": 2, "from": NEVER}, **given)
    named = want([], None, {"from": NEVER}, rollout={"from": FIRST}, **given)
    assert named.extra["rollout"] == {"from": FIRST}


@pytest.mark.parametrize("option", ["ref", "url", "relative_path"])
def test_an_empty_option_as_from_an_unset_variable_does_not_count_as_left_out(option: str) -> None:
    with pytest.raises(InvalidRecord, match=f"^{option}: it is empty; leave it out"):
        zk_release.check_state(options(**{option: ""}))
    zk_release.check_state(options())
    zk_release.check_state(options(state="rolled_back"))
