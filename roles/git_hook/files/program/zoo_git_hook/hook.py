# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's commands. Their messages go to standard error, which git shows to the person pushing.

`pre-receive` refuses a push whose commit could not be published; nobody can fetch the commit yet, so nothing is
published. `post-receive` publishes, and refuses nothing: the branch has already moved. `check` checks a configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, Callable, NamedTuple

from .access_rule import kept_closed, warning
from .config import HookConfig, HookConfigError, Target
from .connection import MissingLibraryError, ZooKeeperError, make_client
from .fleet import is_unanswered, live_names, outage
from .fleet_outcome import EarlierWait, absences
from .lock import unlocked
from .push import Update, certified, pusher, read_updates, real_names, subject, tip
from .records import Release
from .rehearsal import rehearse
from .release_signing import lacks_signature, sign, trust_of, why_refused, with_serial
from .release_trust import ReleaseTrust
from .releases import SUBJECT, Published, ReleaseProof, begin_anew, now, prove, publish, read_published
from .rollout_records import RolloutPaths, describe
from .rollouts import (
    check_not_bad,
    describe_unknown,
    read_rollout,
    unknown_hosts,
    why_without_steps,
    with_policy,
)
from .znode_names import InvalidRecord, without_control
from .zookeeper import connect

DISTURBANCES = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
"""The signals that a hook gets from a person who gives up, or from a connection that ends."""
NOT_PUBLISHED = "push a further commit, or publish (deploy.yml), when it is unlocked"
NOT_PUSHED = "push again, when it is unlocked"
NOT_BEGUN = -1
"""The moves of a rollout that has not been reported yet."""


class Publication(NamedTuple):
    """A release that has just been published, and where; `agents` were live before, if they are waited for."""

    target: Target
    release: Release
    generation: int
    agents: list[str]


def main(words: list[str]) -> int:
    """Run one of the commands; returns the exit status."""
    parser = argparse.ArgumentParser(prog="zoo_git_hook")
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("--config", required=True, metavar="FILE")
    given = parser.parse_args(words)
    try:
        config = HookConfig.load(given.config)
        return int(COMMANDS[given.command](config))
    except MissingLibraryError as exc:
        say(FAILURES[given.command].format(f"{exc}, or apply the role again"))
        return 1
    except (HookConfigError, ZooKeeperError, InvalidRecord) as exc:
        say(FAILURES[given.command].format(exc))
        return 1


def check(config: HookConfig) -> int:
    """Refuse options with which no session can be opened, or nothing signed, whatever the ensemble says."""
    make_client(config.options)
    key = config.options["sign_with"]
    if key:
        ReleaseTrust(config.targets[0].app, key, config.options["signers"])
    return 0


def pre_receive(config: HookConfig) -> int:
    """Let the ensemble rehearse what is to be published, if anything is."""
    wanted = _wanted(config)
    if wanted:
        with connect(config.options) as client:
            for _update, target in wanted:
                rehearse(client, target.app)
            for update, target in wanted:
                published, release = read_published(client, target.app), release_of(config, update, target)
                trust = trust_of(client, target.app, config.options)
                is_news = renews(config, trust, published) or not release.same_as(published.release)
                release = planned(client, trust, target, release)
                unlocked(client, target.app, NOT_PUSHED)
                if not config.force:
                    check_not_bad(client, target.app, release)
                if is_news:
                    signed(config, trust, target, release, published)
    return 0


def post_receive(config: HookConfig) -> int:
    """Publish what was pushed, and wait for the fleet if configured."""
    wanted = _wanted(config)
    if not wanted:
        return 0
    waits = config.options["wait"]
    with undisturbed() as end, connect(config.options, outage(config.options, waits=waits)) as client:
        with locked():
            made, failed = publish_each(client, config, wanted)
        end()
        proved = [wait_for(client, one, config.options) for one in made if waits]
    return 0 if all(proved) and not failed else 1


def _wanted(config: HookConfig) -> list[tuple[Update, Target]]:
    """What is to be published where. Of a symbolic ref and its target, git names only the one pushed to."""
    # A branch's name may be any bytes; one that can't be decoded is not in any configuration.
    updates = read_updates(line.decode("utf-8", "surrogateescape") for line in sys.stdin.buffer)
    names = {*(target.branch for target in config.targets), *(update.branch for update in updates)}
    real = real_names(names) if updates else {}
    wanted = {
        target.app.root: (update._replace(branch=target.branch), target)
        for update in updates
        for target in config.targets
        if real.get(target.branch, target.branch) == real.get(update.branch, update.branch)
    }
    return list(wanted.values())


def publish_each(
    client: Any, config: HookConfig, wanted: list[tuple[Update, Target]]
) -> tuple[list[Publication], list[Target]]:
    """Publish everything in `wanted`, and report it; returns what was published, and where that failed.

    If one application refuses, the others are published anyway.
    """
    made, failed = [], []
    for update, target in wanted:
        try:
            made.append(begin_anew(functools.partial(publish_one, client, config, update, target)))
        except (ZooKeeperError, InvalidRecord) as exc:
            say(FAILURES["post-receive"].format(exc))
            failed.append(target)
    return list(filter(None, made)), failed


def publish_one(client: Any, config: HookConfig, update: Update, target: Target) -> Publication | None:
    """Publish the commit that a branch is at, if that is new, and report it.

    Hooks of two pushes to one branch run in parallel. Each publishes its commit only while the branch is still at it,
    one after the other, so the last commit of the branch is the last one published.
    """
    what = f"{update.branch} {update.commit_id[:10]}"
    if tip(update.branch) != update.commit_id:
        say(f"{what} is not published to {target.app.root}: the branch has moved on, by a push of its own")
        return None
    release = release_of(config, update, target)
    published = read_published(client, target.app)
    trust = trust_of(client, target.app, config.options)
    same = release.same_as(published.release) and not renews(config, trust, published)
    if same and published.generation is not None:
        say(f"{what} is what {target.app.root} has already")
        return Publication(target, release, published.generation, [])
    release = planned(client, trust, target, release)
    if not config.force:
        check_not_bad(client, target.app, release)
    unknown = describe_unknown(unknown_hosts(client, target.app, release))
    if unknown:
        say(f"{what}: {unknown}")
    without_steps = why_without_steps(client, target.app, release, published.release)
    if without_steps:
        say(f"{what}: {without_steps}")
    # Also with `force`, which is set once in a configuration, and not by a person who knows of this lock.
    lock = unlocked(client, target.app, NOT_PUBLISHED)
    agents = live_names(client, target.app) if config.options["wait"] else []
    release = signed(config, trust, target, release, published)
    with kept_closed(client, target.app, config.options, config.acl) as rule:
        made = Publication(target, release, publish(client, target.app, release, published, lock), agents)
    say(f"{what} is published to {target.app.root} by {release.publisher}")
    refused = None if trust else why_refused(published.release)
    if refused:
        say(f"{what}: {refused}; give the hook a key (git_hook_sign_with)")
    if warning(rule):
        say(f"{what}: {warning(rule)}")
    return made


def renews(config: HookConfig, trust: ReleaseTrust | None, published: Published) -> bool:
    """Whether what is already published is to be published again."""
    return config.force or lacks_signature(trust, config.options, published.release)


def planned(client: Any, trust: ReleaseTrust | None, target: Target, release: Release) -> Release:
    """The release with the policy's plan, as far as the signer may use it. Raises `InvalidRecord`."""
    release = with_policy(client, target.app, release)
    if trust:
        trust.check_plan(release)
    return release


def signed(
    config: HookConfig, trust: ReleaseTrust | None, target: Target, release: Release, published: Published
) -> Release:
    """The release with the signature on its record, if the configuration has a key."""
    if trust is None:
        return release
    numbered = with_serial(target.app, trust, config.options, release, published)
    return sign(target.app, trust, config.options["sign_with"], numbered)


def release_of(config: HookConfig, update: Update, target: Target) -> Release:
    """The release a push asks for, without a rollout plan. Raises `InvalidRecord` if none of `pushers` signed it."""
    pushers = config.options["pushers"]
    said = subject(update.commit_id)
    return Release(
        url=config.url,
        commit_id=update.commit_id,
        relative_path=target.relative_path,
        ref=update.branch,
        publisher=certified(pushers, update, os.environ) if pushers else pusher(os.environ),
        published_at=now(),
        extra={SUBJECT: said} if said else {},
    )


def wait_for(client: Any, made: Publication, options: Mapping[str, Any]) -> bool:
    """Wait until the fleet has proved a publication, and report how that ended; returns whether it has."""
    began = time.monotonic()
    what = f"{made.target.app.root} {made.release.commit_id[:10]}"
    say(f"{what}: waiting for the servers, at most {options['wait_timeout']:g} s; Ctrl-C ends only the waiting")
    try:
        result = _follow(client, made, options, what)
    except (ZooKeeperError, InvalidRecord) as exc:
        say(f"{what}: {exc}")
        return False
    if "msg" in result:
        say(f"{what}: {result['msg']}")
        return True
    proved = len(result["agents"]) - len(result["failed_agents"])
    after = f"after {time.monotonic() - began:.1f} s"
    for text in (f"{proved} of {len(result['agents'])} have proved it {after}", *absences(result)):
        say(f"{what}: {text}")
    return True


def _follow(client: Any, made: Publication, options: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The outcome of the wait; reports the state of the rollout, if there is one, whenever it has moved."""
    app, deadline = made.target.app, time.monotonic() + options["wait_timeout"]
    gate = RolloutPaths(app.rollout(made.generation)).gate
    proof = ReleaseProof(app.config, made.generation, made.release.commit_id, gate=gate)
    seen, moves = {*made.agents}, NOT_BEGUN
    while True:
        left = max(0.0, deadline - time.monotonic())
        earlier = EarlierWait(sorted(seen), moves=moves)
        try:
            return prove(client, app, proof, {**options, "wait_timeout": left}, earlier)
        except ZooKeeperError as exc:
            if is_unanswered(exc):
                raise
            rollout = read_rollout(client, app, made.generation)
            has_moved = rollout is not None and rollout.state.moves != moves
            if rollout is None or not has_moved or not exc.details.get("timed_out"):
                raise
            seen.update(agent["name"] for agent in exc.details.get("agents", []))
            moves = rollout.state.moves
            say(f"{what}: {describe(rollout.state.parsed_plan(), rollout.state)}")


@contextlib.contextmanager
def undisturbed() -> Iterator[Callable[[], None]]:
    """Let no Ctrl-C or hang-up come between a push and its publication. The yielded function ends that early."""

    def end() -> None:
        for number in DISTURBANCES:
            signal.signal(number, signal.SIG_DFL)

    for number in DISTURBANCES:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield end
    finally:
        end()


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Run one hook at a time in the repository that git runs it in. Raises `HookConfigError` if that can't be read."""
    try:
        descriptor = os.open(os.curdir, os.O_RDONLY)
    except OSError as exc:
        raise HookConfigError(f"{os.getcwd()}: {exc.strerror}") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def say(text: str) -> None:
    """Tell the person pushing, who may have disconnected."""
    with contextlib.suppress(OSError):
        print(f"zoo.deploy: {without_control(' '.join(text.splitlines()))}", file=sys.stderr, flush=True)  # noqa: T201  # that is its answer


COMMANDS = {"check": check, "post-receive": post_receive, "pre-receive": pre_receive}
FAILURES = {
    "check": "{}",
    "post-receive": "the push is done, but not published: {}",
    "pre-receive": "the push is refused, because it could not be published: {}",
}
