"""An agent's only ways to the members of an ensemble: one proxy for each."""

from __future__ import annotations

from contextlib import ExitStack, closing

from faults.support.proxy import Proxy
from support.ensemble import Ensemble, Member


class Ways:
    """The proxies to an ensemble, which `stack` closes."""

    def __init__(self, ensemble: Ensemble, stack: ExitStack) -> None:
        self.by_number = {
            member.number: stack.enter_context(closing(Proxy(member.client_port))) for member in ensemble.members
        }

    @property
    def hosts(self) -> str:
        """The connection string."""
        return ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.by_number.values())

    def lead_to(self, member: Member) -> None:
        """Let only this member be reached."""
        for number, proxy in self.by_number.items():
            if number != member.number:
                proxy.refuse()

    def refuse(self) -> None:
        """Let no member be reached."""
        for proxy in self.by_number.values():
            proxy.refuse()

    def swallow(self) -> None:
        """Accept everything, and pass nothing on."""
        for proxy in self.by_number.values():
            proxy.swallow()

    def cut(self) -> None:
        """End every connection, and still accept new ones."""
        for proxy in self.by_number.values():
            proxy.cut()

    def open(self) -> None:
        """Let all members be reached."""
        for proxy in self.by_number.values():
            proxy.behave()
