"""What each credential can do with a closed application: every attempt in the table of docs/security.md is made."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoAuthError, NoNodeError
from kazoo.security import OPEN_ACL_UNSAFE, make_acl, make_digest_acl

from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths
from ansible_collections.zoo.deploy.plugins.modules import zk_access
from support.client import connected
from support.documents import ROOT
from support.ensemble import Ensemble

WHO = ("publisher", "host", "agent", "reader", "stranger", "nobody")
"""The columns of the table: the owner of the stolen credential. The stranger's has no role."""
HOSTS = {"host": "web1", "web2": "web2", "agent": "web3"}
"""The host of each agent's identity: two hosts have their own, the third has the shared one."""
GENERATION, COMMIT = 7, "a" * 40
HIDDEN = [make_digest_acl("thief", "word of the thief", all=True)]


class Tree:
    """The znodes of an application, with its registry and its values beside it."""

    def __init__(self, root: str) -> None:
        self.app = AppPaths(root)
        self.above = f"/beside{root.replace('/', '-')}"
        self.registry, self.empty, self.values = (f"{self.above}/{name}" for name in ("service", "empty", "values"))
        self.entry = f"{self.app.history_prefix}0000000000"
        self.rollout = self.app.rollout(GENERATION)
        self.line = f"{self.rollout}/line"

    @property
    def persistent(self) -> list[str]:
        """The persistent znodes of an application in use."""
        app, states = self.app, ("gate", "hosts/web2", "in_flight/web2", "line")
        return [
            *(app.config, self.entry, app.policy, app.lock, app.bad(COMMIT), f"{self.values}/color", self.empty),
            *(self.rollout, *(f"{self.rollout}/{name}" for name in states)),
            *(app.roster_entry(name) for name in HOSTS.values()),
        ]

    def ephemerals(self, host: str) -> list[str]:
        """A host's own ephemeral znodes."""
        return [self.app.agent(host), f"{self.registry}/{host}", f"{self.line}/{host}-0000000000"]

    def everything(self, client: KazooClient) -> dict[str, Any]:
        """Each znode with its value and its stat, which also counts changes of the ACL; None if it may not be read."""
        found: dict[str, Any] = {}
        waiting = [self.app.root, self.above]
        while waiting:
            path = waiting.pop()
            found[path] = None
            with contextlib.suppress(NoAuthError):
                _value, stat = found[path] = client.get(path)
                waiting += [f"{path}/{name}" for name in (client.get_children(path) if stat.numChildren else ())]
        return found


Attempt = Callable[[KazooClient, Tree], Any]


def write(place: Callable[[Tree], str]) -> Attempt:
    """Change a value."""
    return lambda client, tree: client.set(place(tree), b"mine")


def create(place: Callable[[Tree], str], **options: Any) -> Attempt:
    """Create a znode."""
    return lambda client, tree: client.create(place(tree), b"mine", **options)


def delete(place: Callable[[Tree], str]) -> Attempt:
    """Delete a znode."""
    return lambda client, tree: client.delete(place(tree))


def read(*places: Callable[[Tree], str]) -> Attempt:
    """Read the values and children of some znodes."""
    return lambda client, tree: [(client.get(place(tree)), client.get_children(place(tree))) for place in places]


def transact(client: KazooClient, add: Callable[[Any], Any]) -> None:
    """Make several changes in one transaction. Raises the error of a refusal."""
    transaction = client.transaction()
    add(transaction)
    refusals = [result for result in transaction.commit() if isinstance(result, KazooException)]
    if refusals:
        raise next((one for one in refusals if isinstance(one, NoAuthError)), refusals[0])


def publish(client: KazooClient, tree: Tree) -> None:
    """Publish as `zk_release` does."""
    prefix = tree.app.history_prefix
    transact(client, lambda both: (both.set_data(tree.app.config, b"mine"), both.create(prefix, sequence=True)))


def replace_registry(client: KazooClient, tree: Tree) -> None:
    """Replace an empty registry by one's own."""
    transact(client, lambda both: (both.delete(tree.empty), both.create(tree.empty, acl=OPEN_ACL_UNSAFE)))


def open_anything(client: KazooClient, tree: Tree) -> None:
    """Open any znode that is not `web1`'s or `web3`'s own to everybody. Raises NoAuthError if all are refused."""
    others = [path for path in (*tree.persistent, *tree.ephemerals("web2")) if not re.search(r"/web[13]$", path)]
    parents = {path.rpartition("/")[0] for path in others}
    refused = 0
    for path in {*others, *parents, tree.app.access}:
        try:
            client.set_acls(path, OPEN_ACL_UNSAFE)
        except NoAuthError:
            refused += 1
    if refused == len({*others, *parents, tree.app.access}):
        raise NoAuthError


ATTEMPTS: Mapping[str, Attempt] = {
    "publish": publish,
    "write the desired release, without a history": write(lambda tree: tree.app.config),
    "delete the desired release": delete(lambda tree: tree.app.config),
    "add a release to the history": create(lambda tree: tree.app.history_prefix, sequence=True),
    "change a release of the history": write(lambda tree: tree.entry),
    "delete a release of the history": delete(lambda tree: tree.entry),
    "change the policy": write(lambda tree: tree.app.policy),
    "delete the policy": delete(lambda tree: tree.app.policy),
    "lock": write(lambda tree: tree.app.lock),
    "unlock": delete(lambda tree: tree.app.lock),
    "mark a commit as bad": create(lambda tree: tree.app.bad("b" * 40)),
    "change why a commit is bad": write(lambda tree: tree.app.bad(COMMIT)),
    "take a mark away": delete(lambda tree: tree.app.bad(COMMIT)),
    "move a rollout on, or stop it": write(lambda tree: tree.rollout),
    "begin the rollout of a release to come": create(lambda tree: tree.app.rollout(8)),
    "change what a host has come to": write(lambda tree: f"{tree.rollout}/hosts/web2"),
    "change another host's place in the line": write(lambda tree: tree.ephemerals("web2")[2]),
    "delete another host's place in the line": delete(lambda tree: tree.ephemerals("web2")[2]),
    "change the status of a host with an identity of its own": write(lambda tree: tree.app.agent("web2")),
    "change the status of the host itself": write(lambda tree: tree.app.agent("web1")),
    "change the status of hosts that share one": write(lambda tree: tree.app.agent("web3")),
    "delete another host's status": delete(lambda tree: tree.app.agent("web2")),
    "take the name of a host that is down": create(lambda tree: tree.app.agent("web9"), ephemeral=True),
    "change another host's registration": write(lambda tree: f"{tree.registry}/web2"),
    "delete another host's registration": delete(lambda tree: f"{tree.registry}/web2"),
    "register what is no server": create(lambda tree: f"{tree.registry}/web9", ephemeral=True),
    "delete a registry and make it again": replace_registry,
    "change another host's entry in the roster": write(lambda tree: tree.app.roster_entry("web2")),
    "delete a host from the roster": delete(lambda tree: tree.app.roster_entry("web2")),
    "add a host to the roster": create(lambda tree: tree.app.roster_entry("web9")),
    "change a value": write(lambda tree: f"{tree.values}/color"),
    "add a value": create(lambda tree: f"{tree.values}/size"),
    "delete a value": delete(lambda tree: f"{tree.values}/color"),
    "create what publishers can't read": create(lambda tree: tree.app.rollout(8), acl=HIDDEN),
    "change who may do what with any of these": open_anything,
    "change the roles": write(lambda tree: tree.app.access),
    "delete the roles": delete(lambda tree: tree.app.access),
    "add anything else to the application": create(lambda tree: f"{tree.app.root}/mine"),
    "read the roles, with the hashes of passwords": read(lambda tree: tree.app.access),
    "read who has locked": read(lambda tree: tree.app.lock),
    "read releases, statuses, registrations and values": read(
        lambda tree: tree.app.config,
        lambda tree: tree.entry,
        lambda tree: tree.app.agents,
        lambda tree: tree.app.agent("web2"),
        lambda tree: tree.registry,
        lambda tree: f"{tree.registry}/web2",
        lambda tree: f"{tree.values}/color",
    ),
    "create something beside it": create(lambda tree: f"{tree.above}/mine"),
}
READING = {name for name in ATTEMPTS if name.startswith("read ")}


def documented() -> dict[str, dict[str, str]]:
    """The table: each attempt by its name, with the answer for each credential."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in text.partition("| Attempt |")[2].partition("\n\n")[0].splitlines()
    ]
    heads, _line, *attempts = rows
    assert tuple(head.lower() for head in heads) == WHO
    return {name: dict(zip(WHO, cells)) for name, *cells in attempts}


TABLE = documented()


@pytest.fixture(scope="module")
def clients(ensemble: Ensemble) -> Iterator[dict[str, KazooClient]]:
    """A connection with each credential."""
    with contextlib.ExitStack() as stack:
        yield {
            user: stack.enter_context(
                connected(ensemble.hosts, auth_data=[] if user == "nobody" else [("digest", f"{user}:word of {user}")])
            )
            for user in (*WHO, "web2")
        }


def who_is(*users: str) -> list[dict[str, str]]:
    """Identities as the options of a module."""
    return [{"scheme": "digest", "id": user, "password": f"word of {user}"} for user in users]


@contextlib.contextmanager
def closed(clients: dict[str, KazooClient], root: str) -> Iterator[Tree]:
    """An application in use, with three live hosts, that was then closed."""
    made, publisher = Tree(root), clients["publisher"]
    others = make_acl("world", "anyone", read=True, create=True)
    publisher.create(made.above, acl=[make_digest_acl("publisher", "word of publisher", all=True), others])
    for path in made.persistent:
        clients["nobody"].create(path, b"{}", makepath=True)
    for user, host in HOSTS.items():
        for path in made.ephemerals(host):
            clients[user].create(path, b"{}", ephemeral=True, makepath=True)
    roles: dict[str, Any] = {f"{role}s": who_is(role) for role in ("publisher", "agent", "reader")}
    own = [{"name": HOSTS[user], **who} for user in ("host", "web2") for who in who_is(user)]
    places = {"registries": [made.registry, made.empty], "values": [made.values]}
    options = {name: spec.get("default") for name, spec in zk_access.argument_spec().items()}
    given = {**options, **roles, "host_agents": own, **places, "app": root, "force": True}
    zk_access.converge(publisher, given, check=False)
    try:
        yield made
    finally:
        with contextlib.suppress(NoNodeError):
            publisher.delete(made.app.rollout(8))  # publishers may not list its children
        for path in (root, made.above):
            publisher.delete(path, recursive=True)


@pytest.fixture
def tree(clients: dict[str, KazooClient], app: str) -> Iterator[Tree]:
    """An application that only one test uses."""
    with closed(clients, app) as made:
        yield made


@pytest.fixture(scope="module")
def shared(clients: dict[str, KazooClient]) -> Iterator[Tree]:
    """An application for attempts that change nothing."""
    with closed(clients, "/app/stolen-keys") as made:
        yield made


def cases(expected: str) -> list[tuple[str, str]]:
    """The credentials and attempts for which the table has this cell."""
    return [(who, name) for name, row in TABLE.items() for who, cell in row.items() if cell == expected]


def test_the_table_has_each_attempt_and_each_credential_allows_some() -> None:
    assert list(TABLE) == list(ATTEMPTS)
    for who in WHO:
        assert {row[who] for row in TABLE.values()} == ({"yes"} if who == "publisher" else {"yes", "no"})


@pytest.mark.parametrize(("who", "name"), cases("no"))
def test_a_credential_is_refused_what_the_table_does_not_allow(
    clients: dict[str, KazooClient], shared: Tree, who: str, name: str
) -> None:
    before = shared.everything(clients["publisher"])
    with pytest.raises(NoAuthError):
        ATTEMPTS[name](clients[who], shared)
    assert shared.everything(clients["publisher"]) == before


@pytest.mark.parametrize(("who", "name"), cases("yes"))
def test_a_credential_can_do_what_the_table_allows(
    clients: dict[str, KazooClient], tree: Tree, who: str, name: str
) -> None:
    before = tree.everything(clients["publisher"])
    ATTEMPTS[name](clients[who], tree)
    assert (tree.everything(clients["publisher"]) == before) == (name in READING)
