"""An ensemble whose members reach each other through proxies, so that one of them can be cut off from the others."""

from __future__ import annotations

from pathlib import Path

from faults.proxy import Proxy
from support.ensemble import Ensemble, Member


class PartitionedEnsemble(Ensemble):
    """Three members; each knows the others by the ports of its own proxies to them."""

    def __init__(self, root: Path) -> None:
        # Who is alone asks for the others less and less often, at last once a minute.
        super().__init__(root, jvm=("-Dzookeeper.fastleader.maxNotificationInterval=1000",))
        self._ways: dict[tuple[int, int], list[Proxy]] = {}
        for member in self.members:
            self._reroute(member)

    def _reroute(self, member: Member) -> None:
        """Rewrite the lines of the other members in one member's zoo.cfg."""
        path = member.folder / "zoo.cfg"
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

    def cut_off(self, member: Member) -> None:
        """Let nothing pass between a member and the others; clients still reach all of them."""
        for proxy in self._proxies(member):
            proxy.refuse()

    def reunite(self, member: Member) -> None:
        """Let everything pass again."""
        for proxy in self._proxies(member):
            proxy.behave()

    def _proxies(self, member: Member) -> list[Proxy]:
        return [proxy for ends, proxies in self._ways.items() if member.number in ends for proxy in proxies]

    def stop(self) -> None:
        """End every member and every proxy."""
        super().stop()
        for proxies in self._ways.values():
            for proxy in proxies:
                proxy.close()
