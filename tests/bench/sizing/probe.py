"""What a member of the ensemble takes of its machine: processor time, memory, files, disk space."""

from __future__ import annotations

import os
import re
from pathlib import Path

from support.ensemble import Member

TICKS = os.sysconf("SC_CLK_TCK")
RESIDENT = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
COLLECTED = re.compile(r"(\d+)M->(\d+)M\(\d+M\) ([\d.]+)ms")
"""A line of Java's garbage collection log: megabytes before and after, milliseconds of the pause."""
GC_LOG = "gc.log"


def processor_seconds(member: Member) -> float:
    """The processor time of a member since it was started, in seconds."""
    fields = _proc(member, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_megabytes(member: Member) -> float:
    """The peak memory of a member."""
    found = RESIDENT.search(_proc(member, "status"))
    assert found
    return int(found[1]) / 1024


def open_files(member: Member) -> int:
    """The number of open files and sockets of a member."""
    assert member.process
    return len(os.listdir(f"/proc/{member.process.pid}/fd"))


def heap(log: str) -> tuple[float, float]:
    """From a garbage collection log, the most megabytes in use after a collection, and the longest pause in seconds."""
    found = [(float(after), float(pause) / 1000) for _before, after, pause in COLLECTED.findall(log)]
    return max((after for after, _pause in found), default=0.0), max((pause for _after, pause in found), default=0.0)


def read_heap(member: Member) -> tuple[float, float]:
    """The `heap` of a member, from all of its logs: it begins one each time that it is started."""
    return heap("".join(path.read_text() for path in member.directory.glob(f"{GC_LOG}*")))


def logged_bytes(member: Member) -> int:
    """The bytes of a member's transactions on the disk, without the preallocated rest of the files."""
    return sum(len(path.read_bytes().rstrip(b"\0")) for path in _files(member, "log.*"))


def snapshot_bytes(member: Member) -> int:
    """The size of a member's newest snapshot, 0 if there is none."""
    newest = max(_files(member, "snapshot.*"), key=lambda path: path.stat().st_mtime_ns, default=None)
    return newest.stat().st_size if newest else 0


def monitored(member: Member, name: str) -> int:
    """A number in a member's answer to `mntr`, such as `zk_watch_count`."""
    found = re.search(rf"^{name}\t(\d+)", member.ask("mntr"), re.MULTILINE)
    return int(found[1]) if found else 0


def _files(member: Member, pattern: str) -> list[Path]:
    return list((member.directory / "data" / "version-2").glob(pattern))


def _proc(member: Member, name: str) -> str:
    assert member.process
    return Path(f"/proc/{member.process.pid}/{name}").read_text()
