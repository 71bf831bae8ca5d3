"""An agent in an application whose znodes are closed to all but its roles."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import OPEN_ACL_UNSAFE, make_acl, make_digest_acl

from ansible_collections.zoo.deploy.plugins.module_utils.access import merged
from ansible_collections.zoo.deploy.plugins.module_utils.access_walk import await_agents
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.modules import zk_access
from support.access import everything, readable
from support.agent import Agent
from support.client import connected
from support.ensemble import Ensemble
from support.module import run_module
from support.playbook import ROOT
from support.repository import GitRepository
from support.service import Service
from support.waiting import wait_for

Agents = Callable[..., Agent]
WORDS = {"publisher": "word of the publisher", "agent": "word of the agent", "reader": "word of the reader"}
LONG = 30
"""A session timeout so long that an ephemeral that disappears much sooner did not just expire."""
ROLES: dict[str, Any] = {
    f"{role}s": [{"scheme": "digest", "id": role, "password": word}] for role, word in WORDS.items()
}


def log_in_as(user: str) -> dict[str, Any]:
    """The options of a connection."""
    return {"digest_username": user, "digest_password": WORDS[user]}


@pytest.fixture(autouse=True)
def _shared(zk: KazooClient) -> None:
    """The parent of all tests' applications, from which anybody may delete."""
    zk.ensure_path("/app")


@pytest.fixture
def publisher(ensemble: Ensemble) -> Iterator[KazooClient]:
    """A connection of a publisher."""
    with connected(ensemble.hosts, auth_data=[("digest", f"publisher:{WORDS['publisher']}")]) as client:
        yield client


@pytest.fixture
def set_access(publisher: KazooClient, app: str) -> Callable[..., dict[str, Any]]:
    """Closes or opens the test's application, and returns the module's result."""

    def run(check: bool = False, **given: Any) -> dict[str, Any]:
        options = {name: spec.get("default") for name, spec in zk_access.argument_spec().items()}
        return zk_access.converge(publisher, {**options, "app": app, **given}, check)

    return run


@pytest.fixture
def publish(ensemble: Ensemble, app: str, repository: GitRepository) -> Callable[..., int]:
    """Publishes the repository's head as a publisher, and returns the generation."""

    def run(**given: Any) -> int:
        options = {"url": repository.url, "ref": "main", "relative_path": "site", "wait": False, **given}
        login = log_in_as("publisher")
        result = run_module(ROOT / "plugins/modules/zk_release.py", hosts=ensemble.hosts, app=app, **login, **options)
        assert not result.get("failed"), result
        return int(result["generation"])

    return run


@pytest.fixture
def start(agents: Agents, publisher: KazooClient, registered: dict[str, Any], service: Service) -> Agents:
    """Starts an agent with an agent's credentials, and further keys of its configuration.

    With a `registry` it registers its service there, which is open. The publisher reads its status.
    """
    opened: list[Service] = []

    def run(name: str = "server1", registry: str | None = None, **config: Any) -> Agent:
        if registry is not None:
            opened[:] = opened or [service.open()]
            config["services"] = [{**registered["services"][0], "path": registry}]
        agent = agents(name, **{**log_in_as("agent"), **config})
        agent.zk = publisher
        return agent.start()

    return run


def begin_anew(agent: Agent) -> None:
    """Make a running agent reload its configuration and connect again."""
    begun = agent.log.count("watching, app=")
    assert agent.process is not None
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: agent.log.count("watching, app=") > begun, "it has begun anew")


def test_an_agent_that_starts_first_does_not_create_the_application(
    start: Agents, zk: KazooClient, publisher: KazooClient, app: str, publish: Callable[..., int]
) -> None:
    agent = start(**log_in_as("publisher"))
    wait_for(
        lambda: "is not there yet, or not for this agent; a publisher makes it" in agent.log,
        "it waits for the application",
    )
    assert zk.exists(app) is None
    generation = publish()
    assert agent.wait_outcome(generation)["state"] == "active"
    wait_for(lambda: publisher.exists(f"{app}/roster/{agent.name}"), "it is in the roster")
    assert readable(zk, everything(publisher, app)) == []


def test_znodes_that_a_thief_closes_to_others_stop_no_rollout_and_no_wait(
    start: Agents,
    publisher: KazooClient,
    app: str,
    ensemble: Ensemble,
    set_access: Callable[..., dict[str, Any]],
    publish: Callable[..., int],
) -> None:
    set_access(**ROLES)
    fleet = [start(name) for name in ("server1", "server2")]
    first = publish()
    for agent in fleet:
        assert agent.wait_outcome(first)["state"] == "active"
    own = make_digest_acl("thief", "word", all=True)
    known = [("digest", f"agent:{WORDS['agent']}"), ("digest", "thief:word")]
    commit = fleet[0].status["commitId"]
    with connected(ensemble.hosts, auth_data=known) as thief:
        for path in ("agents/thief", "roster/thief", "rollouts/999", f"rollouts/{10**18}", f"bad/{commit}"):
            thief.create(f"{app}/{path}", acl=[own])
            thief.create(f"{app}/{path}/more", acl=[own])
    waited = {"force": True, "wait": True, "wait_timeout": 60}
    rollout = {"steps": [{"hosts": 1}, {"percent": 100}]}
    second = publish(rollout=rollout, **waited)
    # The status of a host that never has the release, which no publisher can delete.
    with connected(ensemble.hosts, auth_data=known) as thief:
        seen = [own, make_acl("world", "anyone", read=True)]
        thief.create(f"{app}/agents/shown", b'{"name": "shown", "state": "idle"}', acl=seen)
        thief.create(f"{app}/agents/shown/more", acl=[own])
    third = publish(rollout=rollout, force=True)
    begun = [f"{app}/rollouts/{generation}" for generation in (second, third)]
    wait_for(lambda: all(publisher.exists(path) for path in begun), "both have begun")
    wait_for(lambda: {json.loads(publisher.get(path)[0])["phase"] for path in begun} == {"done"}, "both are done")
    for agent in fleet:
        assert agent.wait_outcome(third)["state"] == "active"


def give_acls_by_hand(publisher: KazooClient, app: str, registry: str, users: list[str], way: str) -> None:
    """Close an application by hand, without roles: publishers may do everything, readers read, agents what they need.

    By `way` the application's znode is also for readers and agents to read, for anybody to create in, or only for
    publishers.
    With "alike" publishers and agents may do everything, and readers may only read the registry.
    """
    own = [app, *(f"{app}/{name}" for name in ("config", "history", "agents", "roster", "rollouts", "bad"))]
    if way == "alike":
        words = {"publisher": WORDS["publisher"], **{user: f"word of {user}" for user in users}}
        alike = [make_digest_acl(user, word, all=True) for user, word in words.items()]
        for path in own:
            publisher.create(path, acl=alike)
        publisher.create(registry, acl=[*alike, make_digest_acl("reader", WORDS["reader"], read=True)])
        return
    everything = make_digest_acl("publisher", WORDS["publisher"], all=True)
    reads = [everything, make_digest_acl("reader", WORDS["reader"], read=True)]
    agents = [make_digest_acl(user, f"word of {user}", read=True) for user in users]
    creates = [make_digest_acl(user, f"word of {user}", read=True, create=True, delete=True) for user in users]
    roots = {
        "on the root": [*reads, *agents],
        "for anybody to create in": [everything, make_acl("world", "anyone", read=True, create=True)],
        "below the root": [everything],
    }
    publisher.create(app, acl=roots[way])
    publisher.create(f"{app}/lock", acl=[everything, make_acl("world", "anyone", read=True)])
    for name in ("config", "history"):
        publisher.create(f"{app}/{name}", acl=[*reads, *agents])
    for path in (*own[3:], registry):
        publisher.create(path, acl=[*reads, *creates])


@pytest.mark.parametrize("way", ["on the root", "below the root", "alike"])
@pytest.mark.parametrize("is_shared", [True, False])
def test_where_acls_were_set_by_hand_everybody_goes_on_as_before(
    start: Agents,
    publisher: KazooClient,
    zk: KazooClient,
    app: str,
    ensemble: Ensemble,
    publish: Callable[..., int],
    is_shared: bool,
    way: str,
) -> None:
    names, registry = ["server1", "server2"], f"{app}-service"
    known = dict.fromkeys(names, "agent") if is_shared else dict(zip(names, names))
    give_acls_by_hand(publisher, app, registry, sorted(set(known.values())), way)
    fleet = [
        start(name, registry, digest_username=user, digest_password=f"word of {user}") for name, user in known.items()
    ]
    for agent in fleet:
        agent.wait_live()
    # A wait that counts the agents, and a rollout that each of them advances.
    waits = {"wait": True, "wait_timeout": 60, "force": True}
    publish(**waits)
    second = publish(rollout={"steps": [{"hosts": 1}, {"percent": 100}], "maxInFlight": 1}, **waits)
    assert json.loads(publisher.get(f"{app}/rollouts/{second}")[0])["phase"] == "done"
    wait_for(lambda: sorted(publisher.get_children(registry)) == names, "both are registered")
    seen = [f"{parent}/{name}" for parent in (registry, f"{app}/agents", f"{app}/roster") for name in names]
    with connected(ensemble.hosts, auth_data=[("digest", f"reader:{WORDS['reader']}")]) as reader:
        # With "alike", readers may read only the registry.
        shown = seen[:2] if way == "alike" else seen
        assert [readable(client, seen) for client in (publisher, reader)] == [seen, shown]
    if way == "alike":
        assert readable(zk, [*everything(publisher, app), *everything(publisher, registry)]) == []
    assert [agent.status.get("troubles") for agent in fleet] == [None, None]
    # The history, from which a rollback publishes, is not readable without credentials.
    entries = [f"{app}/history/{name}" for name in publisher.get_children(f"{app}/history")]
    assert (len(entries), readable(zk, entries)) == (2, [])


def test_what_agents_create_in_a_closed_application_has_the_acls_of_its_roles(
    start: Agents,
    publisher: KazooClient,
    app: str,
    service: Service,
    set_access: Callable[..., dict[str, Any]],
    publish: Callable[..., int],
) -> None:
    set_access(**ROLES, registries=[f"{app}/service"])
    fleet = [start(name, f"{app}/service").wait_live() for name in ("server1", "server2")]
    generation = publish(rollout={"steps": [{"hosts": 1}, {"percent": 100}], "maxInFlight": 1})
    for agent in fleet:
        assert agent.wait_outcome(generation)["state"] == "active"
        wait_for(lambda: publisher.exists(f"{app}/service/{agent.name}"), "it is registered")  # called immediately
        assert "troubles" not in agent.status, agent.status
    assert publisher.get_children(f"{app}/rollouts/{generation}/hosts")
    # Everything was created with the ACLs that a walk would set.
    assert not set_access(check=True)["changed"]
    service.close()
    for agent in fleet:
        wait_for(lambda: not publisher.exists(f"{app}/service/{agent.name}"), "it is withdrawn")  # called immediately


def test_hosts_with_identities_of_their_own_register_in_a_new_ensemble_and_can_then_be_closed(
    start: Agents,
    publisher: KazooClient,
    app: str,
    set_access: Callable[..., dict[str, Any]],
    publish: Callable[..., int],
) -> None:
    registry = f"/service-{app.rpartition('/')[2]}/shop"
    hosts = [{"name": name, "scheme": "digest", "id": name, "password": "word"} for name in ("server1", "server2")]
    roles = {"publishers": ROLES["publishers"], "host_agents": hosts, "registries": [registry]}
    set_access(**roles)
    names = [host["name"] for host in hosts]
    fleet = [start(name, registry, digest_username=name, digest_password="word") for name in names]
    generation = publish()
    assert [agent.wait_outcome(generation)["state"] for agent in fleet] == ["active", "active"]
    for agent in fleet:
        agent.end()
    # The ensemble is a new one.
    for path in (registry, registry.rpartition("/")[0], app):
        publisher.delete(path, recursive=True)
    for agent in fleet:
        agent.start()
    wait_for(lambda: publisher.exists(registry) and sorted(publisher.get_children(registry)) == names, "both register")
    before = [publisher.exists(f"{registry}/{name}").czxid for name in names]
    assert publisher.exists(app) is None
    set_access(**roles)
    wait_for(lambda: publisher.get_children(f"{app}/agents") and not set_access(check=True)["changed"], "it is closed")
    assert [publisher.exists(f"{registry}/{name}").czxid for name in names] == before


def test_a_registry_may_be_called_agents(
    start: Agents,
    repository: GitRepository,
    publisher: KazooClient,
    app: str,
    set_access: Callable[..., dict[str, Any]],
    publish: Callable[..., int],
) -> None:
    registry = f"/service-{app.rpartition('/')[2]}/agents"
    set_access(**ROLES, registries=[registry])
    agent = start(registry=registry)
    assert agent.wait_outcome(publish())["state"] == "active"
    registration = f"{registry}/{agent.name}"
    wait_for(lambda: publisher.exists(registration), "it is registered")
    before = publisher.exists(registration).czxid
    begin_anew(agent)
    repository.commit({"index.html": "two\n"})
    assert agent.wait_outcome(publish())["state"] == "active"
    wait_for(lambda: publisher.exists(registration), "it is registered")
    assert publisher.exists(registration).czxid == before
    assert "former session" not in agent.log


def test_a_working_fleet_is_closed_and_opened_and_loses_no_registration(
    start: Agents,
    zk: KazooClient,
    publisher: KazooClient,
    app: str,
    repository: GitRepository,
    set_access: Callable[..., dict[str, Any]],
    publish: Callable[..., int],
) -> None:
    # Somebody without credentials was here before.
    zk.ensure_path(app)
    agent = start(registry=f"{app}/service")
    assert agent.wait_outcome(publish())["state"] == "active"
    registration, events = f"{app}/service/{agent.name}", []  # type: ignore[var-annotated]
    wait_for(lambda: publisher.exists(registration), "it is registered")
    before = publisher.exists(registration)
    publisher.get_children(f"{app}/service", watch=events.append)
    set_access(**ROLES, registries=[f"{app}/service"])
    repository.commit({"index.html": "two\n"})
    assert agent.wait_outcome(publish())["state"] == "active"
    assert readable(zk, everything(publisher, app)) == []
    assert not set_access(check=True)["changed"]
    set_access(state="open")
    repository.commit({"index.html": "three\n"})
    assert agent.wait_outcome(publish())["state"] == "active"
    assert {path for path in everything(zk, app) if zk.get_acls(path)[0] != OPEN_ACL_UNSAFE} == set()
    assert (publisher.exists(registration).czxid, events) == (before.czxid, [])


def test_an_agent_gets_another_password_and_keeps_its_registration(
    start: Agents,
    publisher: KazooClient,
    app: str,
    set_access: Callable[..., dict[str, Any]],
    publish: Callable[..., int],
    repository: GitRepository,
) -> None:
    set_access(**ROLES, registries=[f"{app}/service"])
    agent = start(registry=f"{app}/service")
    assert agent.wait_outcome(publish())["state"] == "active"
    wait_for(lambda: publisher.exists(f"{app}/service/{agent.name}"), "it is registered")
    before, new = (
        publisher.exists(f"{app}/service/{agent.name}"),
        {"scheme": "digest", "id": "agent", "password": "new"},
    )
    set_access(agents=[*ROLES["agents"], new])
    agent.config["digest_password"] = "new"
    agent.configure()
    begin_anew(agent)
    repository.commit({"index.html": "two\n"})
    assert agent.wait_outcome(publish())["state"] == "active"
    set_access(agents=[new])
    repository.commit({"index.html": "three\n"})
    assert agent.wait_outcome(publish())["state"] == "active"
    assert publisher.exists(f"{app}/service/{agent.name}").czxid == before.czxid
    assert make_digest_acl("agent", WORDS["agent"], all=True).id not in [
        entry.id for path in everything(publisher, app) for entry in publisher.get_acls(path)[0]
    ]


def log_in_again(agent: Agent, user: str | None) -> None:
    """Make a running agent use the credentials of a user, or none."""
    for key in ("digest_username", "digest_password"):
        agent.config.pop(key, None)
    agent.config.update({"digest_username": user, "digest_password": f"word of {user}"} if user else {})
    agent.configure()
    begin_anew(agent)
    wait_for(lambda: ("access" in agent.status) == bool(user), "it says whether it has credentials")


def users(*names: str) -> list[dict[str, str]]:
    """Identities of users, each with a password made of its name."""
    return [{"scheme": "digest", "id": name, "password": f"word of {name}"} for name in names]


def own(hosts: list[str], *shared: str) -> list[dict[str, str]]:
    """The identities of hosts: each has one of its own, and the shared ones."""
    return [{"name": host, **who} for host in hosts for who in users(host, *shared)]


def test_no_watch_of_a_registration_fires_while_a_fleet_is_closed_changes_credentials_and_is_opened(
    agents: Agents,
    zk: KazooClient,
    publisher: KazooClient,
    app: str,
    registered: dict[str, Any],
    service: Service,
    set_access: Callable[..., dict[str, Any]],
    publish: Callable[..., int],
    repository: GitRepository,
) -> None:
    zk.ensure_path(app)
    service.open()
    fleet = [agents(name, session_timeout=LONG, **registered).start() for name in ("server1", "server2", "server3")]
    hosts, registry = [agent.name for agent in fleet], f"{app}/service"
    for agent in fleet:
        agent.zk = publisher
        agent.wait_outcome(publish())
    wait_for(lambda: sorted(publisher.get_children(registry)) == hosts, "all are registered")
    before, events = [publisher.exists(f"{registry}/{host}").czxid for host in hosts], []  # type: ignore[var-annotated]
    publisher.get_children(registry, watch=events.append)
    for host in hosts:
        publisher.get(f"{registry}/{host}", watch=events.append)
    by_all = {"publishers": ROLES["publishers"], "agents": users("agent"), "registries": [registry]}
    steps: list[tuple[Callable[[str], str | None], dict[str, Any]]] = [
        (lambda _host: "agent", by_all),
        (lambda _host: "agent", {"agents": users("agent", "renewed")}),
        (lambda _host: "renewed", {"agents": users("renewed"), "host_agents": own(hosts, "renewed")}),
        (lambda host: host, {"agents": [], "host_agents": own(hosts)}),
        (lambda host: host, {"state": "open"}),
        (lambda _host: None, {}),
    ]
    for user_of, given in steps:
        for agent in fleet:
            if agent.config.get("digest_username") != user_of(agent.name):
                log_in_again(agent, user_of(agent.name))
        if given:
            set_access(**given)
        repository.commit({"index.html": f"{given}\n"})
        generation = publish(rollout={"minHealthy": 0, "maxInFlight": 3})
        assert [agent.wait_outcome(generation)["state"] for agent in fleet] == ["active"] * len(fleet)
        assert ([publisher.exists(f"{registry}/{host}").czxid for host in hosts], events) == (before, [])


def test_an_agent_without_credentials_goes_on_and_warns_that_anybody_can_deploy(
    agents: Agents, zk: KazooClient, app: str
) -> None:
    agent = agents().start().wait_live()
    assert zk.get_acls(app)[0] == OPEN_ACL_UNSAFE
    report = json.loads(agent.control("status", "--json").stdout)
    assert report["status"]["open"] is True
    assert "anybody who reaches the ensemble can deploy" in agent.control("status").stdout


def test_nothing_is_closed_to_a_live_agent_without_credentials_unless_that_is_forced(
    agents: Agents,
    start: Agents,
    zk: KazooClient,
    publisher: KazooClient,
    app: str,
    set_access: Callable[..., dict[str, Any]],
) -> None:
    zk.ensure_path(app)
    good, bare = start("server1").wait_live(), agents("server2").start().wait_live()
    wait_for(lambda: good.status.get("access") == 0, "it says that it has credentials, and that no roles are recorded")
    assert "access" not in bare.status
    for check in (True, False):
        with pytest.raises(ZooKeeperError, match=f"^{app}/agents: server2: without credentials of a role.*force"):
            set_access(check=check, **ROLES)
    assert zk.exists(f"{app}/access") is None
    assert {path for path in everything(zk, app) if zk.get_acls(path)[0] != OPEN_ACL_UNSAFE} == set()
    set_access(**ROLES, force=True)
    record = publisher.exists(f"{app}/access")
    wait_for(lambda: good.status.get("access") == record.mzxid, "it has read the roles")


def test_nothing_is_closed_to_a_live_agent_with_an_unknown_password(
    start: Agents,
    zk: KazooClient,
    publisher: KazooClient,
    app: str,
    set_access: Callable[..., dict[str, Any]],
    publish: Callable[..., int],
) -> None:
    zk.ensure_path(app)
    agent = start(digest_password="another word").wait_live()
    with pytest.raises(ZooKeeperError, match=f"^{app}/agents: {agent.name}: without credentials of a role"):
        set_access(**ROLES, wait_timeout=2.0)
    assert zk.exists(f"{app}/access") is None
    # It goes on as before.
    assert agent.wait_outcome(publish())["state"] == "active"
    assert zk.get_acls(f"{app}/agents/{agent.name}")[0] == OPEN_ACL_UNSAFE
    # No watch fires for a znode that the agent may not read: it looks again after a minute, or when it reloads.
    begin_anew(agent)
    wrong = {"scheme": "digest", "id": "agent", "password": "another word"}
    set_access(**{**ROLES, "agents": [*ROLES["agents"], wrong]})
    recorded = publisher.get(f"{app}/access")[0]
    # Nor can the password that the agent uses be taken from it.
    with pytest.raises(ZooKeeperError, match=f"{agent.name}: without credentials of a role"):
        set_access(agents=ROLES["agents"], wait_timeout=2.0)
    assert publisher.get(f"{app}/access")[0] == recorded
    assert not set_access(check=True)["changed"]


def test_roles_without_an_agent_that_a_killed_run_left_behind_are_corrected(
    monkeypatch: pytest.MonkeyPatch,
    start: Agents,
    zk: KazooClient,
    publisher: KazooClient,
    app: str,
    set_access: Callable[..., dict[str, Any]],
) -> None:
    zk.ensure_path(app)
    agent = start().wait_live()

    def end(*_arguments: Any) -> None:
        # No watch fires for a znode that the agent may not read: it looks again after a minute, or when it reloads.
        begin_anew(agent)
        wait_for(lambda: "access" not in agent.status, "the agent has seen that it has no role")
        raise KeyboardInterrupt

    def go_on(*arguments: Any) -> Any:
        begin_anew(agent)
        return await_agents(*arguments)

    wait_for(lambda: agent.status.get("access") == 0, "the agent has seen that there are no roles")
    with monkeypatch.context() as patched:
        patched.setattr(zk_access, "await_all", end)
        with pytest.raises(KeyboardInterrupt):
            set_access(**{**ROLES, "agents": [{"scheme": "digest", "id": "other", "password": "word"}]})
    monkeypatch.setattr(zk_access, "await_agents", go_on)
    assert set_access(**ROLES)["changed"]
    assert agent.status["access"] == publisher.exists(f"{app}/access").mzxid


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_a_password_is_changed_by_a_reload_or_a_restart_without_losing_a_registration(
    agents: Agents,
    publisher: KazooClient,
    app: str,
    registered: dict[str, Any],
    service: Service,
    set_access: Callable[..., dict[str, Any]],
    publish: Callable[..., int],
    number: int,
) -> None:
    """A restart by systemd sends SIGUSR2."""
    old, new = ROLES["agents"][0], {"scheme": "digest", "id": "agent2", "password": "another word"}
    registries = [f"{app}/service"]
    set_access(**ROLES, registries=registries)
    agent = agents(session_timeout=LONG, **registered, **log_in_as("agent"))
    agent.zk = publisher
    service.open()
    agent.start().wait_live()
    (registration,) = wait_for(lambda: publisher.get_children(registries[0]), "it is registered")
    before = publisher.exists(f"{registries[0]}/{registration}")
    set_access(**{**ROLES, "agents": [old, new]})
    agent.config |= {"digest_username": new["id"], "digest_password": new["password"]}
    agent.configure()
    if number == signal.SIGUSR2:
        agent.end(number)
        agent.start()
    elif agent.process:
        agent.process.send_signal(number)
    wait_for(lambda: agent.log.count("session SyncConnected") == 2, "it has logged in anew")
    set_access(**{**ROLES, "agents": [new]})
    assert publisher.exists(f"{registries[0]}/{registration}").czxid == before.czxid
    assert agent.wait_outcome(publish())["state"] == "active"
    thief_is = [("digest", f"agent:{WORDS['agent']}")]
    with connected(agent.hosts, auth_data=thief_is) as thief, pytest.raises(NoAuthError):
        thief.get(f"{app}/config")


def rename(agent: Agent) -> None:
    """Take another name."""
    agent.name = "server9"


def serve_another(agent: Agent) -> None:
    """Serve another application, with the same roles."""
    agent.app += "-other"


@pytest.mark.parametrize("change", [rename, serve_another])
def test_an_agent_leaves_no_status_under_a_former_name_though_it_may_delete_none(
    start: Agents,
    publisher: KazooClient,
    app: str,
    set_access: Callable[..., dict[str, Any]],
    change: Callable[[Agent], None],
) -> None:
    for one in (app, f"{app}-other"):
        set_access(**ROLES, app=one, registries=[f"{app}/service"])
    agent = start(registry=f"{app}/service", session_timeout=LONG).wait_live()
    wait_for(lambda: publisher.get_children(f"{app}/service"), "it is registered")
    status, entry = f"{agent.app}/agents/{agent.name}", f"{agent.app}/roster/{agent.name}"
    wait_for(lambda: publisher.exists(entry), "it is in the roster")
    agent.end(signal.SIGUSR2)
    change(agent)
    agent.start().wait_live()
    wait_for(lambda: not publisher.exists(status), "its former status is gone", LONG / 3)
    wait_for(lambda: publisher.get_children(f"{app}/service"), "it is registered again")
    # Of what it may not delete, only the persistent roster entry is left.
    left = f"former roster entry not deleted: {entry}: permission denied"
    wait_for(lambda: [left in trouble for trouble in agent.status.get("troubles", [])] == [True], "it says so")
    thief_is = [("digest", f"agent:{WORDS['agent']}")]
    with connected(agent.hosts, auth_data=thief_is) as thief, pytest.raises(NoAuthError):
        thief.delete(f"{agent.app}/agents/{agent.name}")


@pytest.mark.parametrize("by_hand", [None, "on the root", "below the root", "for anybody to create in"])
def test_a_thief_of_a_hosts_credentials_does_not_choose_what_the_others_deploy(
    ensemble: Ensemble,
    start: Agents,
    publisher: KazooClient,
    app: str,
    set_access: Callable[..., dict[str, Any]],
    publish: Callable[..., int],
    repository: GitRepository,
    by_hand: str | None,
) -> None:
    word = WORDS["agent"]
    if by_hand is None:
        set_access(**ROLES)
    else:
        word = "word of agent"
        give_acls_by_hand(publisher, app, f"{app}-service", ["agent"], by_hand)
    agent = start(digest_password=word).wait_live()
    assert agent.wait_outcome(publish(rollout=True))["state"] == "active"
    good = repository.head
    evil = repository.commit({"index.html": "evil\n"})
    second = repository.commit({"index.html": "two\n"})
    generation = publish(rollout=True)
    assert agent.wait_outcome(generation)["commitId"] == second
    with connected(ensemble.hosts, auth_data=[("digest", f"agent:{word}")]) as thief:
        root = f"{app}/rollouts/{generation}"
        forge(thief, root, evil)
        wait_for(lambda: "no publisher has published it" in str(agent.status.get("troubles")), "it is refused")
        assert agent.live() == second
        # It does go back to a release that was published before.
        forge(thief, root, good)
        wait_for(lambda: agent.live() == good, f"it goes back; {agent.log}")


def test_agents_that_may_publish_themselves_go_back_to_a_release_that_is_in_no_history(
    start: Agents, publisher: KazooClient, app: str, repository: GitRepository
) -> None:
    """A script that writes only `config` keeps no history, and the policy makes its releases rollouts."""
    give_acls_by_hand(publisher, app, f"{app}-service", ["agent"], "alike")
    publisher.create(f"{app}/policy", json.dumps({"rollout": {"minHealthy": 0}}).encode(), publisher.get_acls(app)[0])
    agent = start(digest_password="word of agent").wait_live()
    good, bad = repository.head, repository.commit({"index.html": "two\n"})
    for commit in (good, bad):
        value = {"url": repository.url, "commitId": commit, "relativePath": "site"}
        generation = publisher.set(f"{app}/config", json.dumps(value).encode()).mzxid
        root = f"{app}/rollouts/{generation}"
        assert agent.wait_outcome(generation)["commitId"] == commit
        wait_for(lambda: json.loads(publisher.get(root)[0])["phase"] == "done", "it is done")  # called immediately
    assert json.loads(publisher.get(root)[0])["from"]["commitId"] == good
    forge(publisher, root, good)
    wait_for(lambda: agent.live() == good, "it goes back")


def test_an_application_that_is_closed_to_all_but_some_addresses_stays_so_without_credentials(
    agents: Agents, ensemble: Ensemble, zk: KazooClient, app: str, repository: GitRepository
) -> None:
    acl = [make_acl("ip", "127.0.0.1", all=True), make_acl("world", "anyone", read=True)]
    zk.create(app, acl=acl)
    agent = agents("server1").start().wait_live()
    options: dict[str, Any] = {"url": repository.url, "ref": "main", "relative_path": "site", "wait": False}
    options["rollout"] = {"minHealthy": 0}
    result = run_module(ROOT / "plugins/modules/zk_release.py", hosts=ensemble.hosts, app=app, **options)
    assert not result.get("warnings"), result
    assert agent.wait_outcome(result["generation"])["state"] == "active"
    gate = f"{app}/rollouts/{result['generation']}/gate"
    wait_for(lambda: json.loads(zk.get(gate)[0])["phase"] == "done", "it is done")
    found = {path: zk.get_acls(path)[0] for path in everything(zk, app)}
    assert {path for path, given in found.items() if merged(given) != merged(acl)} == set()


def forge(thief: KazooClient, root: str, commit: str) -> None:
    """Make the hosts of a rollout go back to a commit."""
    state = json.loads(thief.get(root)[0])
    state = {**state, "phase": "rolling_back", "moves": state["moves"] + 1}
    thief.set(root, json.dumps({**state, "from": {**state["release"], "commitId": commit}}).encode())
    gate = json.loads(thief.get(f"{root}/gate")[0])
    thief.set(f"{root}/gate", json.dumps({**gate, "phase": "rolling_back", "moves": state["moves"]}).encode())


def test_a_thief_who_prepares_the_rollouts_of_future_releases_does_not_choose_what_is_deployed(
    ensemble: Ensemble,
    start: Agents,
    publisher: KazooClient,
    app: str,
    set_access: Callable[..., dict[str, Any]],
    publish: Callable[..., int],
    repository: GitRepository,
) -> None:
    set_access(**ROLES)
    agent = start("server1").wait_live()
    first, good = publish(rollout=True), repository.head
    assert agent.wait_outcome(first)["state"] == "active"
    evil = repository.commit({"index.html": "evil\n"})
    repository.commit({"index.html": "two\n"})
    with connected(ensemble.hosts, auth_data=[("digest", f"agent:{WORDS['agent']}")]) as thief:
        prepare(thief, f"{app}/rollouts", first, evil)
    second = publish(rollout=True)
    assert publisher.exists(f"{app}/rollouts/{second}").czxid < second
    newcomer = start("server2").wait_live()
    wait_for(lambda: "no publisher has published it" in str(newcomer.status.get("troubles")), "it is refused")
    wait_for(lambda: agent.status["state"] == "halted", "the other one sees the rollout that was prepared")
    assert (newcomer.live(), agent.live()) == (None, good)


def prepare(thief: KazooClient, rollouts: str, real: int, commit: str) -> None:
    """Create the rollouts of the next releases as copies of a real one that go back to a commit."""
    state, gate = (json.loads(thief.get(f"{rollouts}/{path}")[0]) for path in (f"{real}", f"{real}/gate"))
    state = {**state, "phase": "rolling_back", "from": {**state["release"], "commitId": commit}}
    values = {"gate": json.dumps({**gate, "phase": "rolling_back"}).encode()}
    names = thief.get_children(f"{rollouts}/{real}")
    transaction = thief.transaction()
    for coming in range(thief.last_zxid + 1, thief.last_zxid + 100):
        transaction.create(f"{rollouts}/{coming}", json.dumps(state).encode())
        for name in names:
            transaction.create(f"{rollouts}/{coming}/{name}", values.get(name, b""))
    assert not [result for result in transaction.commit() if isinstance(result, Exception)]


def test_the_host_of_a_removed_agent_stays_in_a_roster_that_only_publishers_may_clear(
    start: Agents, publisher: KazooClient, app: str, set_access: Callable[..., dict[str, Any]]
) -> None:
    set_access(**ROLES)
    agent = start().wait_live()
    wait_for(lambda: publisher.exists(f"{app}/roster/{agent.name}"), "it is in the roster")
    agent.end()
    left = agent.control("leave")
    assert left.returncode != 0
    assert f"{app}/roster/{agent.name}: still in the roster: permission denied (NoAuth)" in left.stderr
    assert "Traceback" not in left.stderr
