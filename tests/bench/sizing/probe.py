"""What a member of the ensemble takes of its machine: processor, memory, files, disk."""

from __future__ import annotations

import os
import re
from pathlib import Path

from support.ensemble import Member

TICKS = os.sysconf("SC_CLK_TCK")
RESIDENT = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
COLLECTED = re.compile(r"(\d+)M->(\d+)M\(\d+M\) ([\d.]+)ms")
"""A line of Java's log of collections: megabytes before and after, milliseconds that all had to wait."""
GC_LOG = "gc.log"


def processor_seconds(member: Member) -> float:
    """What the process has taken of processors since it was started."""
    fields = _proc(member, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_megabytes(member: Member) -> float:
    """The most memory that the process has had."""
    found = RESIDENT.search(_proc(member, "status"))
    assert found
    return int(found[1]) / 1024


def open_files(member: Member) -> int:
    """How many files and sockets it has open."""
    assert member.process
    return len(os.listdir(f"/proc/{member.process.pid}/fd"))


def heap(log: str) -> tuple[float, float]:
    """Of a log of collections: the megabytes that are in use after one, at most, and the longest pause in seconds."""
    found = [(float(after), float(pause) / 1000) for _before, after, pause in COLLECTED.findall(log)]
    return max((after for after, _pause in found), default=0.0), max((pause for _after, pause in found), default=0.0)


def read_heap(member: Member) -> tuple[float, float]:
    """The same of a member that writes such logs, one each time that it is started."""
    return heap("".join(path.read_text() for path in member.directory.glob(f"{GC_LOG}*")))


def logged_bytes(member: Member) -> int:
    """What its transactions take on the disk; the files are longer, for what comes next."""
    return sum(len(path.read_bytes().rstrip(b"\0")) for path in _files(member, "log.*"))


def snapshot_bytes(member: Member) -> int:
    """The size of its newest snapshot, 0 where it has none."""
    newest = max(_files(member, "snapshot.*"), key=lambda path: path.stat().st_mtime_ns, default=None)
    return newest.stat().st_size if newest else 0


def monitored(member: Member, name: str) -> int:
    """A number of its `mntr` word, such as `zk_watch_count`."""
    found = re.search(rf"^{name}\t(\d+)", member.ask("mntr"), re.MULTILINE)
    return int(found[1]) if found else 0


def _files(member: Member, pattern: str) -> list[Path]:
    return list((member.directory / "data" / "version-2").glob(pattern))


def _proc(member: Member, name: str) -> str:
    assert member.process
    return Path(f"/proc/{member.process.pid}/{name}").read_text()
