"""What the suite did to hosts and ensembles, and the results: every number in the summary is counted here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

COMMITS = "wrong commits"
REGISTRATIONS = "lost registrations"
HOSTS = "hosts stuck"
FLAPS = "registrations that flapped"
ESCAPES = "writes outside the base"
TORN = "files seen half written"
FILES = "files with a wrong value"
INTERVALS = "actions sooner than min_interval"
LIMITS = "rollouts beyond their limits"
WINNERS = "publications at once without one winner"
COMMANDS = "commands to a rollout without their answer"
QUESTIONS = (COMMITS, REGISTRATIONS, HOSTS, FLAPS, ESCAPES, TORN, FILES, INTERVALS, LIMITS, WINNERS, COMMANDS)


@dataclass
class Ledger:
    """Faults by kind, and for each question how often it was asked and each wrong answer."""

    zookeeper: str = ""
    """The version that the ensemble reports."""
    faults: Counter[str] = field(default_factory=Counter)
    rollouts: Counter[str] = field(default_factory=Counter)
    """The number of rollouts and of the commands to them, by their descriptions in the table."""
    points: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[str]] = field(default_factory=lambda: {question: [] for question in QUESTIONS})

    def inject(self, kind: str) -> None:
        """Count a fault."""
        self.faults[kind] += 1

    def see_rollout(self, what: str) -> None:
        """Count a rollout, or a person's command to one."""
        self.rollouts[what] += 1

    def kill_at(self, point: str) -> None:
        """Count a kill -9 at a point of a program's run."""
        self.points.add(point)
        self.inject(f"kill -9 of {point.partition(':')[0]} at a system call")

    def judge(self, question: str, trouble: str) -> None:
        """Count an answer. Raises `AssertionError` if `trouble` is not empty."""
        self.asked[question] += 1
        if trouble:
            self.wrong[question].append(trouble)
            raise AssertionError(f"{question}: {trouble}")

    @property
    def summary(self) -> str:
        """The counts in one line."""
        answers = [f"{question} {len(self.wrong[question])} of {self.asked[question]} checks" for question in QUESTIONS]
        return ", ".join([f"faults injected {self.faults.total()}", f"kill points {len(self.points)}", *answers])
