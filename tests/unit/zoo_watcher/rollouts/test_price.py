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
"""Seconds of a deployment at the most: as many hosts as may do are always about to change the rollout."""
LATENCY = 0.02
"""Seconds for which a change is not seen by those who change something too."""


def requests_of_a_host(begin: Begin, count: int) -> tuple[float, float]:
    """Those of the median host, and of the average one, in a whole rollout."""
    fleet = begin(count, count, ROLLOUT)
    fleet.ensemble.latency, fleet.deploys = LATENCY, DEPLOYS
    fleet.run(3600, until=lambda: bool(fleet.state and fleet.state.phase == "done"))
    fleet.run(20)
    assert {host.has for host in fleet.hosts} == {NEW}
    numbers = [host.session.requests for host in fleet.hosts if host.session]
    return statistics.median(numbers), statistics.fmean(numbers)


def test_a_host_of_a_large_fleet_sends_no_more_than_one_of_a_small_one(begin: Begin) -> None:
    small, large = requests_of_a_host(begin, 30), requests_of_a_host(begin, 240)
    assert large[0] <= 1.25 * small[0], (small, large)
    assert large[1] <= 1.25 * small[1], (small, large)
