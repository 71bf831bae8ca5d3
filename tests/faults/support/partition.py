"""An ensemble whose members reach each other through proxies, so that one of them can be cut off from the others.

A member that asks another for its vote announces its own address, and the one with the greater number calls back there
(ZooKeeper's QuorumCnxManager). The proxies replace it with an address of their own. Otherwise such a call would bypass
them, and votes would pass through the partition.
"""

from __future__ import annotations

from pathlib import Path

from faults.support.proxy import Edit, Proxy
from support.ensemble import Ensemble, Member


class PartitionedEnsemble(Ensemble):
    """Three members, each of which knows the others by the ports of its own proxies to them."""

    def __init__(self, root: Path) -> None:
        # An isolated member asks for the others less and less often, in the end once a minute. A proxy accepts a
        # follower's call before the leader listens, then drops it: the leader soon stops waiting for that follower.
        often = ("-Dzookeeper.fastleader.maxNotificationInterval=1000",)
        super().__init__(root, extra=("initLimit=6",), jvm=often)
        self._ways: dict[tuple[int, int], list[Proxy]] = {}
        for member in self.members:
            self._reroute(member)
        self._announce()

    def _reroute(self, member: Member) -> None:
        """Rewrite the lines of the other members in one member's zoo.cfg."""
        path = member.directory / "zoo.cfg"
        lines = []
        for line in path.read_text().splitlines():
            key, _unused, place = line.partition("=127.0.0.1:")
            other = int(key.removeprefix("server.")) if key.startswith("server.") else member.number
            lines.append(line if other == member.number else f"{key}=127.0.0.1:{self._way(member, other, place)}")
        path.write_text("\n".join(lines) + "\n")

    def _way(self, member: Member, other: int, place: str) -> str:
        proxies = [Proxy(int(port)) for port in place.split(":")]
        self._ways[member.number, other] = proxies
        return ":".join(str(proxy.port) for proxy in proxies)

    def _announce(self) -> None:
        """Make every member announce, as its election address, the proxy by which the other member reaches it."""
        for (caller, called), (_peer, election) in self._ways.items():
            back = self._ways[called, caller][1]
            election.edit_request = _replacing(f":{back.target}", f":{back.port}")

    def cut_off(self, member: Member) -> None:
        """Let nothing pass between a member and the others. Clients still reach all of them."""
        for proxy in self._proxies(member):
            proxy.refuse()

    def reunite(self, member: Member) -> None:
        """Let everything pass again."""
        for proxy in self._proxies(member):
            proxy.listen()

    def _proxies(self, member: Member) -> list[Proxy]:
        return [proxy for ends, proxies in self._ways.items() if member.number in ends for proxy in proxies]

    def stop(self) -> None:
        """End every member and every proxy."""
        super().stop()
        for proxies in self._ways.values():
            for proxy in proxies:
                proxy.close()


def _replacing(old: str, new: str) -> Edit:
    """Replace `old` with `new`, of the same length, because the message states its length."""
    assert len(old) == len(new)
    return lambda data: data.replace(old.encode(), new.encode())
