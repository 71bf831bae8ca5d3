"""What a rollout costs a host does not depend on how many there are."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from support.simulated_fleet import NEW, OLD, Fleet

Begin = Callable[..., Fleet]
ROLLOUT = {
    "steps": [{"hosts": 1, "soak": 30}, {"percent": 10, "soak": 30}],
    "maxInFlight": "10%",
    "minHealthy": 0,
    "from": OLD,
}
DEPLOYS = 0.05
"""Seconds of a deployment at most, so that as many hosts as allowed are always about to change the rollout."""
LATENCY = 0.02
"""Seconds for which a change is not seen by other hosts that change something too."""


def price_of_a_host(begin: Begin, count: int) -> list[float]:
    """Median and average of the hosts' requests in a rollout, the same of watch events, and the most events of one."""
    fleet = begin(count, count, ROLLOUT)
    fleet.ensemble.latency, fleet.deploys = LATENCY, DEPLOYS
    fleet.run(3600, until=lambda: bool(fleet.state and fleet.state.phase == "done"))
    fleet.run(20)
    assert {host.has for host in fleet.hosts} == {NEW}
    sessions = [host.session for host in fleet.hosts if host.session]
    numbers = [session.requests for session in sessions], [session.events for session in sessions]
    assert min(map(min, numbers)) > 0
    return [*(of(each) for each in numbers for of in (statistics.median, statistics.fmean)), max(numbers[1])]


def test_a_host_of_a_large_fleet_sends_no_more_and_is_woken_no_more_than_one_of_a_small_one(begin: Begin) -> None:
    small, large = price_of_a_host(begin, 30), price_of_a_host(begin, 240)
    assert [more <= 1.25 * less for less, more in zip(small, large)] == [True] * 5, (small, large)
