"""The figures of a fleet's load on an ensemble: their names, their extrapolation to more hosts, their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.markdown import number, table

BEYOND = 100_000
"""Hosts for which the figures are extrapolated, not simulated."""


@dataclass(frozen=True)
class Figure:
    """One figure, which grows linearly with the hosts, or stays the same, as a rate does."""

    text: str
    grows: bool = True


FIGURES = {
    "sessions": Figure("Sessions"),
    "znodes": Figure("Znodes"),
    "watches": Figure("Watches"),
    "gathering": Figure("All at once connect, register and read: seconds until the last has"),
    "descriptors": Figure("Open files of a member, at most"),
    "idle_cpu": Figure("Leader's processor, all at rest: % of a core"),
    "published": Figure("From a publication until the last host has read it: seconds"),
    "published_median": Figure("The same, the host in the middle: seconds"),
    "publication_cpu": Figure("Leader's processor for a publication: milliseconds"),
    "writes": Figure("Statuses written a second, each watched anew", grows=False),
    "write_cpu": Figure("Leader's processor for a status: microseconds", grows=False),
    "write_bytes": Figure("Transaction log: bytes a status", grows=False),
    "member_back": Figure("A follower is killed and started at once: seconds until it serves"),
    "member_hosts": Figure("The same: seconds until the hosts that it had are connected elsewhere"),
    "leader_back": Figure("The leader is killed: seconds until all hosts are connected"),
    "expired": Figure("Sessions that expired in all this"),
    "snapshot": Figure("Snapshot: MB"),
    "heap": Figure("Java's heap of a member after a collection, at most: MB"),
    "pause": Figure("Longest pause of a collection: seconds"),
    "resident": Figure("Memory of a member's process, at most: MB"),
}
"""All figures, in the order of the table."""


@dataclass(frozen=True)
class Load:
    """The figures with so many hosts, and so many observers beside the three members."""

    hosts: int
    observers: int
    figures: Mapping[str, float]

    @property
    def heading(self) -> str:
        """The heading of its column."""
        return f"{self.hosts:,}" + f" and {self.observers} observers" * bool(self.observers)


def extrapolate(name: str, loads: Sequence[Load], hosts: int) -> float:
    """A figure for more hosts, from the two largest of these loads, never below that of the largest."""
    smaller, larger = sorted(loads, key=lambda load: load.hosts)[-2:]
    least, most = smaller.figures[name], larger.figures[name]
    if not FIGURES[name].grows:
        return most
    slope = (most - least) / (larger.hosts - smaller.hosts)
    return max(most, most + slope * (hosts - larger.hosts))


def to_table(loads: Sequence[Load]) -> str:
    """A row for each figure, a column for each load, and one for the extrapolation."""
    plain = [load for load in loads if not load.observers]
    heading = ["Hosts", *(load.heading for load in loads), f"{BEYOND:,}, extrapolated"]
    rows = [
        [
            figure.text,
            *(number(load.figures[name]) for load in loads),
            number(extrapolate(name, plain, BEYOND)),
        ]
        for name, figure in FIGURES.items()
    ]
    return table(heading, rows)
