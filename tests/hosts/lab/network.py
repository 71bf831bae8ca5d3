"""The wire between a host and the bridge, and how it is cut."""

from __future__ import annotations

from typing import Literal

from hosts.lab.holder import Holder

NETWORK = "10.20.0"
BRIDGE = f"{NETWORK}.1/24"
"""The controller's address when it runs in the bridge's network. All labs use the same one; none sees another."""
Way = Literal["link", "in", "out"]
# Seen from the bridge, what a host sends comes in.
HOOKS: dict[str, str] = {"in": "egress", "out": "ingress"}


# A cut is removed together with its wire.
UNPLUG = """
if [ -e "/sys/class/net/$1" ]; then ip link delete "$1"; fi
if [ -e "/run/netns/$2" ]; then ip netns delete "$2"; fi
"""


def address(number: int) -> str:
    """The address of the host with this number."""
    return f"{NETWORK}.{number}"


def plug(holder: Holder, name: str, number: int) -> None:
    """Give a host its own network namespace, with a wire to the bridge."""
    wire = _wire(number)
    for words in (
        f"netns add {name}",
        f"link add {wire} type veth peer name eth0 netns {name}",
        f"link set {wire} master lab up",
        f"-netns {name} address add {address(number)}/24 dev eth0",
        f"-netns {name} link set eth0 up",
        f"-netns {name} link set lo up",
    ):
        holder.run("ip", *words.split())


def unplug(holder: Holder, name: str, number: int) -> None:
    """Remove whatever exists of a host's network. No process may be in it any more."""
    holder.run("sh", "-c", UNPLUG, "sh", _wire(number), name)


def cut(holder: Holder, number: int, way: Way) -> None:
    """Cut a host off: take its link down, or drop every frame that goes `in` to it or comes `out` of it."""
    mend(holder, number)
    wire = _wire(number)
    if way == "link":
        holder.run("ip", "link", "set", wire, "down")
    else:
        chain = f"type filter hook {HOOKS[way]} device {wire} priority 0; policy drop;"
        holder.run("nft", f"add table netdev {wire}; add chain netdev {wire} cut {{ {chain} }}")


def mend(holder: Holder, number: int) -> None:
    """Let everything pass again."""
    wire = _wire(number)
    # Adding the table first ensures that there is one to delete.
    holder.run("nft", f"add table netdev {wire}; delete table netdev {wire}")
    holder.run("ip", "link", "set", wire, "up")


def _wire(number: int) -> str:
    """The bridge's end of a host's wire."""
    return f"wire{number}"
