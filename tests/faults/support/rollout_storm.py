"""Troubles that befall a fleet during a rollout, of a random kind, target and duration."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timezone

from faults.support.host import patiently
from faults.support.rolling_fleet import RollingFleet
from faults.support.storm import Trouble
from support.agent import Agent
from support.rollout import Rollout
from zoo_watcher.releases.going_back import MOST_ATTEMPTS

LONGEST = 5.0
"""Seconds that a trouble lasts at most: longer than the session timeout of the fleet."""
PAUSE = 0.6
"""Seconds from one trouble to the next, at most."""
MEMBER = "a member"


class RolloutStorm:
    """Troubles of the hosts in a rollout and of the ensemble's members, of which only one is hit at a time.

    No agent is killed `MOST_ATTEMPTS` times: if each kill hit it while it activates or checks the release, its host
    would rightly give up, and the rollout would finish without it.
    """

    def __init__(self, fleet: RollingFleet, made: Rollout, chance: random.Random) -> None:
        self._fleet, self._made, self._chance = fleet, made, chance
        self._troubled: dict[str, tuple[float, Callable[[], object]]] = {}
        self._kills: Counter[str] = Counter()

    def step(self) -> None:
        """Begin a trouble, end those that have lasted long enough, and let some time pass."""
        make = self._chance.choice([self._agent_trouble, self._agent_trouble, self._member_trouble])
        lasts = self._chance.uniform(0, LONGEST)
        whom, trouble = make()
        if self._is_well(whom):
            self._fleet.ledger.inject(f"in a rollout, by chance: {trouble.name}")
            # Shown beside the agents' logs if the test fails.
            print(f"{datetime.now(timezone.utc):%T.%f} {whom}, for {lasts if trouble.end else 0:.1f} s: {trouble.name}")
            trouble.begin()
            if trouble.end:
                self._troubled[whom] = (time.monotonic() + lasts, trouble.end)
        time.sleep(self._chance.uniform(0, PAUSE))
        self._end(time.monotonic())

    def _is_well(self, whom: str) -> bool:
        """Whether a trouble may hit this target. While a killed member does not serve, the others are spared."""
        others = self._fleet.servers.members if whom == MEMBER else []
        return whom not in self._troubled and all(member.mode for member in others)

    def calm(self) -> None:
        """End all troubles."""
        self._end(float("inf"))
        self._fleet.servers.start()

    def _end(self, now: float) -> None:
        for whom, (until, end) in list(self._troubled.items()):
            if until <= now:
                del self._troubled[whom]
                end()

    def _agent_trouble(self) -> tuple[str, Trouble]:
        """A trouble of an agent, usually of one that is admitted."""
        agent, role = self._agent()
        ways = self._fleet.ways[agent.name]

        def send(number: int) -> None:
            if agent.process is not None:
                agent.process.send_signal(number)

        def kill() -> None:
            self._kills[agent.name] += 1
            agent.kill()

        def restart() -> None:
            if agent.process is not None:
                agent.end(signal.SIGUSR2)
            agent.start()

        may_kill = self._kills[agent.name] < MOST_ATTEMPTS - 1
        return agent.name, self._chance.choice(
            [
                *([Trouble(f"kill -9 of {role}", kill, agent.start)] if may_kill else []),
                Trouble(f"SIGSTOP of {role}", lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT)),
                Trouble(f"connections of {role} swallowed", ways.swallow, ways.open),
                Trouble(f"connections of {role} refused", ways.refuse, ways.open),
                Trouble(f"connections of {role} cut", ways.cut),
                Trouble(f"restart of {role} by SIGUSR2", restart),
            ]
        )

    def _agent(self) -> tuple[Agent, str]:
        entries = patiently(lambda: self._made.entries) if patiently(lambda: self._made.state) else {}
        names = sorted(name for name, entry in entries.items() if entry == "admitted")
        if names and self._chance.random() < 0.6:
            return self._fleet.named(self._chance.choice(names)), "an admitted agent"
        waiting = [agent for agent in self._fleet.agents if agent.name not in entries]
        if waiting:
            return self._chance.choice(waiting), "an agent that waits"
        return self._chance.choice(self._fleet.agents), "an agent"

    def _member_trouble(self) -> tuple[str, Trouble]:
        """A trouble of one member, while the other two go on."""
        member = self._chance.choice(self._fleet.servers.members)
        # Nothing waits until it serves, or the troubles of hosts would last as long.
        kill = Trouble("kill -9 of a member", member.kill, member.start)
        stop = Trouble(
            "SIGSTOP of a member",
            lambda: member.signal(signal.SIGSTOP),
            lambda: member.signal(signal.SIGCONT),
        )
        return MEMBER, self._chance.choice([kill, stop])
