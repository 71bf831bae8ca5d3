"""An agent's only ways to the members of an ensemble: a proxy to each."""

from __future__ import annotations

from contextlib import ExitStack, closing

from faults.support.proxy import Proxy
from support.ensemble import Ensemble, Member


class Ways:
    """The proxies, which end with `stack`."""

    def __init__(self, ensemble: Ensemble, stack: ExitStack) -> None:
        self.by_number = {
            member.number: stack.enter_context(closing(Proxy(member.client_port))) for member in ensemble.members
        }

    @property
    def hosts(self) -> str:
        """The connection string."""
        return ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.by_number.values())

    def lead_to(self, member: Member) -> None:
        """Begin with this member alone."""
        for number, proxy in self.by_number.items():
            if number != member.number:
                proxy.refuse()

    def refuse(self) -> None:
        """Let no member be reached."""
        for proxy in self.by_number.values():
            proxy.refuse()

    def swallow(self) -> None:
        """Pass nothing on, and let nobody know."""
        for proxy in self.by_number.values():
            proxy.swallow()

    def cut(self) -> None:
        """End every connection; new ones are taken."""
        for proxy in self.by_number.values():
            proxy.cut()

    def open(self) -> None:
        """Let all members be reached."""
        for proxy in self.by_number.values():
            proxy.behave()
