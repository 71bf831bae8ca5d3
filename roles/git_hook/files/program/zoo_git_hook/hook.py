# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook's commands. What they say goes to standard error, which git shows to the person pushing.

`pre-receive` refuses a push whose commit could not be published; at that moment nobody could fetch it yet, so nothing
is published. `post-receive` publishes, and refuses nothing: the branch has moved already. `check` looks at a
configuration.
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

from .config import HookConfig, HookConfigError, Target
from .connection import MissingLibraryError, ZooKeeperError
from .fleet import live_names, outage
from .fleet_outcome import EarlierWait
from .push import Update, pusher, read_updates, tip
from .records import Release
from .rehearsal import rehearse
from .releases import ReleaseProof, begin_anew, now, prove, publish, read_published
from .znode_names import InvalidRecord
from .zookeeper import connect

DISTURBANCES = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
"""What a person who gives up, or a connection that ends, sends to a hook."""


class Publication(NamedTuple):
    """A release that has been published now, and where; `agents` were live before, where they are waited for."""

    target: Target
    release: Release
    generation: int
    agents: list[str]


def main(words: list[str]) -> int:
    """Run one of the commands; the exit status."""
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


def check(_config: HookConfig) -> int:
    """Nothing more to do: it could be read."""
    return 0


def pre_receive(config: HookConfig) -> int:
    """Have the ensemble rehearse what is to be published, where anything is."""
    targets = [target for _update, target in _wanted(config)]
    if targets:
        with connect(config.options) as client:
            for target in targets:
                rehearse(client, target.app)
    return 0


def post_receive(config: HookConfig) -> int:
    """Publish what was pushed, and wait for the fleet where that is wanted."""
    wanted = _wanted(config)
    if not wanted:
        return 0
    waits = config.options["wait"]
    with undisturbed() as end, connect(config.options, outage(config.options, waits=waits)) as client:
        with locked(config.path):
            made, failed = publish_each(client, config, wanted)
        end()
        proved = [wait_for(client, one, config.options) for one in made if waits]
    return 0 if all(proved) and not failed else 1


def _wanted(config: HookConfig) -> list[tuple[Update, Target]]:
    # A branch may have any bytes for a name; one that is no text is in no configuration.
    updates = read_updates(line.decode("utf-8", "surrogateescape") for line in sys.stdin.buffer)
    return [(update, target) for update in updates for target in config.targets_of(update.branch)]


def publish_each(
    client: Any, config: HookConfig, wanted: list[tuple[Update, Target]]
) -> tuple[list[Publication], list[Target]]:
    """Publish all that is wanted, say what was done; what was published, and where that failed.

    One application that refuses does not cost the others theirs.
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
    """Publish the commit that a branch is at, where that is news; say what was done.

    Hooks of two pushes to one branch run side by side. Each publishes its commit only while the branch is still at it,
    one after the other, so the last commit of the branch is the last one published.
    """
    what = f"{update.branch} {update.commit_id[:10]}"
    if tip(update.branch) != update.commit_id:
        say(f"{what} is not published to {target.app.root}: the branch has moved on, by a push of its own")
        return None
    release = Release(
        url=config.url,
        commit_id=update.commit_id,
        relative_path=target.relative_path,
        ref=update.branch,
        publisher=pusher(os.environ),
        published_at=now(),
    )
    published = read_published(client, target.app)
    same = release.same_as(published.release) and not config.force
    if same and published.generation is not None:
        say(f"{what} is what {target.app.root} has already")
        return Publication(target, release, published.generation, [])
    agents = live_names(client, target.app) if config.options["wait"] else []
    made = Publication(target, release, publish(client, target.app, release, published), agents)
    say(f"{what} is published to {target.app.root} by {release.publisher}")
    return made


def wait_for(client: Any, made: Publication, options: Mapping[str, Any]) -> bool:
    """Wait until the fleet has proved a publication; say how that ended. Whether it has."""
    began = time.monotonic()
    what = f"{made.target.app.root} {made.release.commit_id[:10]}"
    say(f"{what}: waiting for the servers, at most {options['wait_timeout']:g} s; Ctrl-C ends only the waiting")
    try:
        proof = ReleaseProof(made.target.app.config, made.generation, made.release.commit_id)
        result = prove(client, made.target.app, proof, options, EarlierWait(made.agents))
    except (ZooKeeperError, InvalidRecord) as exc:
        say(f"{what}: {exc}")
        return False
    proved = len(result["agents"]) - len(result["failed_agents"])
    say(f"{what}: {proved} of {len(result['agents'])} have proved it after {time.monotonic() - began:.1f} s")
    return True


@contextlib.contextmanager
def undisturbed() -> Iterator[Callable[[], None]]:
    """No Ctrl-C and no hang-up comes between a push and its publication. What this gives ends that early."""

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
def locked(path: str) -> Iterator[None]:
    """One hook of the repository at a time."""
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    """Tell the person pushing, who may have gone."""
    with contextlib.suppress(OSError):
        print(f"zoo.deploy: {' '.join(text.splitlines())}", file=sys.stderr, flush=True)  # noqa: T201  # that is its answer


COMMANDS = {"check": check, "post-receive": post_receive, "pre-receive": pre_receive}
FAILURES = {
    "check": "{}",
    "post-receive": "the push is done, but not published: {}",
    "pre-receive": "the push is refused, because it could not be published: {}",
}
