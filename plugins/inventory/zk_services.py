# Copyright (c) zoo.deploy contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An inventory of the services that are registered in ZooKeeper."""

from __future__ import annotations

DOCUMENTATION = r"""
name: zk_services
short_description: Hosts and groups from the services registered in ZooKeeper
version_added: 0.1.0
author:
  - zoo.deploy contributors (@zoo-deploy)
description:
  - Turns the children of a registry, a znode below which services register themselves, into hosts in the registry's
    group.
  - Reads the registrations of this collection's agent, and those of many other programs; O(registries) lists the
    formats.
  - The name of the inventory file must end in V(zk_services.yml), V(zk_services.yaml), V(zookeeper.yml) or
    V(zookeeper.yaml).
  - Every host gets C(ansible_host), C(zk_address), C(zk_port) (null if none is registered), C(zk_id) (the child's
    name), C(zk_path), C(zk_service) (the decoded data), C(zk_ephemeral), C(zk_session) (the owner, V(0x0) for a
    persistent child), C(zk_created) and C(zk_modified) (UTC), C(zk_age) (seconds since it was created) and
    C(zk_services). C(ansible_port) is never set.
  - C(zk_services) is a list of all entries that the host is registered as, including those from other files of this
    plugin, each with C(address), C(port), C(id), C(path) and C(service). If a host has several entries, its other
    variables come from the first; if they are in several files, from the last file.
  - A member of a Patroni cluster also gets C(zk_role), such as V(leader), V(standby_leader) or V(replica). If the
    registry's format is V(patroni), the leader key next to C(members) determines the leader; with V(auto), each member
    reports its own role. C(zk_service) has C(state), C(api_url) and the rest. C(zk_services) has the role as C(role),
    for a host that is in several clusters.
  - A host below a path with a V(*) also gets C(zk_segments), a list of the segments that each V(*) matched.
  - Registered data is never evaluated as a template. An entry whose address is neither a host name nor an IP address is
    left out with a warning, as is every other entry that can't be read.
  - Entries whose own data marks them as out of service are left out, such as a member of a serverset that is not
    V(ALIVE), or an instance of Curator that is not enabled.
  - If one name has several addresses, these become different hosts, called V(name@address), with a warning, or
    V(name@address@address) if another source already has such a host. A name of more than 240 bytes is shortened to its
    beginning, an V(@) and a digest of the whole.
  - A host is renamed in the same way if its name is that of a group, of a host that another source has at another
    address, or of the controller (V(localhost), V(127.0.0.1), V(::1)); a registration never replaces any of these. A
    group whose name would be that of a host, or V(localhost), gets an underscore at its end. Sources that Ansible reads
    later are not known yet, so this file should be the last; in a directory, files are read in the order of their
    names.
  - A registered value that can't be a group for O(keyed_groups), such as a number, causes a warning. It is an error if
    O(strict) is set, or if every host has such a value.
options:
  plugin:
    description: The name of this plugin, required in each of its files.
    type: str
    required: true
    choices: [zoo.deploy.zk_services]
  registries:
    description:
      - Where services are registered. An entry is a path, or a mapping with C(path), C(format), C(group) and
        C(listener).
      - In C(path), a V(*) matches any part of one segment, as in V(/dubbo/*/providers).
      - C(format) is one of the following, V(auto) by default.
      - V(auto) reads each child in the format that its name and data look like.
      - V(seed) reads what the agent of this collection registers.
      - V(host_port) reads children that are called by their address, such as V(app.example.com:12345).
      - V(dubbo) reads the providers of Dubbo 2.
      - V(hiveserver2) reads HiveServer2's instances.
      - V(hbase) reads HBase's region servers.
      - V(serverset) reads the serversets of Finagle and Aurora.
      - V(kafka) reads Kafka's brokers.
      - V(nerve) reads the services of Nerve and Synapse.
      - V(solr) reads SolrCloud's live nodes.
      - V(curator) reads the instances of Apache Curator, Spring Cloud Zookeeper and Dubbo 3.
      - V(clickhouse) reads ClickHouse's cluster discovery.
      - V(patroni) reads the members of Patroni's clusters.
      - C(listener) is for V(kafka), the listener whose address to use. Give its name, such as V(EXTERNAL), or a
        security protocol, such as V(SASL_SSL). A broker without such a listener is left out with a warning. The default
        is the broker's V(host), which is the listener V(PLAINTEXT), else its first listener.
      - C(group) is the hosts' group; a V(*) in it stands for the segment that its counterpart in C(path) matched. The
        default is the segment that the last V(*) matched, else the last segment that is not a general word, such as
        V(kafka) in V(/kafka/ids).
      - Characters that are not allowed in a group's name become underscores.
      - If a V(*) names groups, anybody who may create such a znode can put hosts into the group of that name, even into
        a group of another source. Give C(group) a prefix that no other group has, as in V(dubbo_*).
    type: list
    elements: raw
    required: true
  hostnames:
    description:
      - How to name a host, as a list of preferences; the first that gives a usable name is used. Each is a Jinja2
        expression over the entry's variables, such as V(zk_id), V(zk_service.name) or V(zk_address ~ '-' ~ zk_port), or
        a template with V({{ }}).
      - By default, and if no preference gives a name, it is the child's name for the format V(seed), and the address
        for the others.
      - Entries with the same name and the same address are one host, in the groups of all of them, even if they come
        from several files.
    type: list
    elements: str
    default: []
  override_hosts:
    description:
      - Whether an entry may change the address and the variables of a host that another source has under the same name
        at another address, or of the controller. Otherwise it becomes a separate host, V(name@address), with a warning.
      - Set it only if you trust everybody who may register with the connections to those hosts.
    type: bool
    default: false
  filters:
    description:
      - Which entries become hosts, by Jinja2 conditions over an entry's variables, evaluated in order.
      - A mapping with C(include) is a condition that, if true, makes the entry a host, whatever follows; one with
        C(exclude) leaves the entry out. The first that matches decides.
      - A plain condition leaves the entry out unless it is true, like C(exclude) with its negation. So in a list of
        plain conditions, all must be true.
      - An entry that none of them decides becomes a host. To leave it out instead, end with an C(exclude) that is
        V(true).
      - A condition that fails because a variable is undefined is an error if O(strict) is set, and counts as not true
        otherwise. A condition that is not valid Jinja2 is always an error.
      - A condition whose value is not a boolean is an error if that is so for every entry. If it is so for some entries
        only, these are left out with a warning, also with C(include) and C(exclude).
    type: list
    elements: raw
    default: []
  app:
    description:
      - The znode of an application that is deployed by this collection's agent, such as V(/app/business).
      - A host gets C(zk_release) if there is an agent with its name or with the name of its entry. It is a mapping with
        C(commit), C(generation), C(state) and C(drift), which is true if the host has not proved the published release.
      - An application without agents causes a warning.
    type: str
  shrink_limit:
    description:
      - What percentage of a registry's entries may disappear since the last good answer; it needs O(cache),
        and an O(cache_plugin) other than V(memory).
      - If more have disappeared, or all of them, O(shrink_action) applies. V(100) accepts everything.
      - Each registry is measured on its own, before O(filters).
    type: int
    default: 100
  shrink_action:
    description:
      - What to do if a registry has shrunk further than O(shrink_limit).
      - V(fail) fails, V(warn) warns and uses the new answer, V(last_good) warns and uses the last good answer for this
        registry, whose hosts then have C(zk_stale) set to true.
    type: str
    choices: [fail, warn, last_good]
    default: fail
  accept_shrunk:
    description:
      - Accept a registry that has shrunk as the new good answer, whatever O(shrink_limit) is.
      - Meant for a single run after servers were removed on purpose, as in C(ZK_ACCEPT_SHRUNK=true ansible-inventory
        --graph).
    type: bool
    default: false
    env:
      - name: ZK_ACCEPT_SHRUNK
  unreachable_action:
    description:
      - What to do if the ensemble can't be read. V(fail) fails. V(last_good) warns and uses the last good answer, whose
        hosts then have C(zk_stale) set to true; it needs O(cache), and an O(cache_plugin) other than V(memory), and
        fails if there is no such answer. If only the data for O(app) can't be read, no host has C(zk_release), with a
        warning.
    type: str
    choices: [fail, last_good]
    default: fail
notes:
  - With O(cache), the last answer is kept, and each run verifies in one pass over the same znodes that it still holds,
    so it is never older than the run. A change in a registry's children shows in its C(pzxid), and the children are
    then read again.
  - O(cache_timeout) also limits how long the last good answer of a registry is kept after it was last read and
    accepted; V(0) means for ever. The V(memory) cache ends with the process.
  - If this plugin fails, Ansible continues with an empty inventory, unless C(unparsed_is_failed) or
    C(any_unparsed_is_failed) is set in the section C(inventory) of C(ansible.cfg).
requirements:
  - ZooKeeper 3.5 or later, or a compatible server; from 3.6 on, thousands of children are read in a few requests
extends_documentation_fragment:
  - zoo.deploy.zookeeper_plugin
  - zoo.deploy.zookeeper
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
"""

EXAMPLES = r"""
# web.zk_services.yml: the servers that the agent has registered, in the group "what"
plugin: zoo.deploy.zk_services
hosts: [zk1:2181, zk2:2181, zk3:2181]
registries:
  - /service/business/what

# Everything below /services, one group per service; also grouped by port and by release
# plugin: zoo.deploy.zk_services
# hosts: zk1:2181/production
# registries:
#   - path: /services/*
#     format: nerve
#     group: service_*
# app: /app/business
# compose:
#   rack: zk_service.labels.rack | default('none')
# groups:
#   behind: zk_release is defined and zk_release.drift
# keyed_groups:
#   - key: zk_port | string
#     prefix: port
#   - key: zk_release.commit[:8]
#     prefix: commit

# The servers registered in this data centre, and one server elsewhere
# plugin: zoo.deploy.zk_services
# hosts: zk1:2181
# registries:
#   - /service/business/what
# filters:
#   - include: zk_id == 'reserve1'
#   - include: zk_service.labels.dc == 'fra'
#   - exclude: true

# Kafka brokers and Dubbo providers; an outage of the registry does not empty the inventory
# plugin: zoo.deploy.zk_services
# hosts: zk1:2181
# registries:
#   - path: /brokers/ids
#     format: kafka
#     group: kafka
#   - path: /dubbo/*/providers
#     group: dubbo_*
# hostnames:
#   - zk_service.name
#   - zk_address
# filters:
#   - zk_ephemeral
# cache: true
# cache_plugin: ansible.builtin.jsonfile
# cache_connection: /var/cache/ansible/zookeeper
# cache_timeout: 0
# shrink_limit: 30
# shrink_action: last_good
# unreachable_action: last_good
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.zoo.deploy.plugins.module_utils.connection import (
    CONNECTION_OPTIONS,
    ZooKeeperError,
    host_string,
)
from ansible_collections.zoo.deploy.plugins.module_utils.znode_names import printable
from ansible_collections.zoo.deploy.plugins.module_utils.zookeeper import connect, missing_chroot
from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.hosts import (
    CONTROLLER,
    CONTROLLER_NAMES,
    NO_ADDRESS,
    Host,
    known_address,
    merge,
    note_made,
    registered_as,
    untrusted,
    unused_group_name,
    with_services_of,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.own_options import converted, forget_empty_variables
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.discovery import (
    InvalidRegistry,
    Reading,
    Registry,
    discover,
)
from ansible_collections.zoo.deploy.plugins.plugin_utils.registry.registrations import (
    Registration,
    is_host_name,
    registrations,
)

# Ansible recompiles every file of a collection at each start, so what only some options need is imported there:
# ruff: noqa: PLC0415
if TYPE_CHECKING:
    from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.last_good import LastGood

FILE_NAMES = ("zk_services.yml", "zk_services.yaml", "zookeeper.yml", "zookeeper.yaml")
"""How the name of an inventory file for this plugin ends."""
MOST_WARNINGS = 20
"""How many warnings are printed at a time unless Ansible is verbose: thousands of entries may have one problem."""
MEMORY_CACHES = frozenset({"memory", "ansible.builtin.memory"})
"""The cache plugins of Ansible whose answers end with the process."""


class Answer(NamedTuple):
    """What is live in one registry; stale if that is the last good answer."""

    live: list[Registration]
    is_stale: bool = False


class _Names(NamedTuple):
    """The names of the groups and hosts that were in the inventory before."""

    groups: set[str]
    hosts: set[str]


def _line(text: str) -> str:
    """A string on one line, safe to print on a terminal: part of it may be somebody else's."""
    return printable(" ".join(text.splitlines()))


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Hosts and groups from the children of registries."""

    NAME = "zoo.deploy.zk_services"

    def verify_file(self, path: str) -> bool:
        """Whether `path` is, by its name, a file for this plugin."""
        return bool(super().verify_file(path)) and path.endswith(FILE_NAMES)

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        """Fill the inventory from the file at `path`. Raises `AnsibleParserError`.

        Without `cache` (`--flush-cache`, `meta: refresh_inventory`) everything is read again; the new answer is still
        checked against the last good one.
        """
        super().parse(inventory, loader, path, cache)
        forget_empty_variables()
        given = self._read_config_data(path)
        self._given_hosts = given.get("hosts")
        unknown = sorted(map(str, given.keys() - self.option_definitions.keys()))
        self._warn([f"{path}: no such option {name}, so it has no effect" for name in unknown])
        try:
            self._populate(self.get_cache_key(path), use_cache=cache)
        except (ZooKeeperError, InvalidRegistry) as exc:
            # Ansible would repeat the message of each cause.
            raise AnsibleParserError(_line(f"{path}: {exc}")) from None

    def _populate(self, cache_key: str, *, use_cache: bool) -> None:
        registries = [Registry.from_option(entry) for entry in self.get_option("registries")]
        last_good = self._load_last_good(cache_key, registries)
        readings, releases = self._read(registries, last_good, use_cache)
        answers = [self._answer(*parts) for parts in zip(registries, readings, last_good)]
        if any(readings):  # storing an old answer again does not make it newer
            self._store_last_good(cache_key, registries, readings, answers, last_good)
        live = self._filtered([entry for answer in answers for entry in answer.live])
        self._fill(live, registries, releases)

    def _fill(self, live: Sequence[Registration], registries: Sequence[Registry], releases: dict[str, Any]) -> None:
        """Add the hosts, the groups, and what is constructed from them.

        A group name that emerges only when hosts are added to it may be the name of one of them. Then everything is
        built again, and the group keeps the name.
        """
        before = _Names(set(self.inventory.groups), set(self.inventory.hosts))
        named = list(zip(self._names(live), live))
        taken = {**self._other_hosts(named), **dict.fromkeys([*before.groups, *self._own_groups(live, registries)])}
        hosts = self._add(named, taken, registries, releases)
        clashes = self._construct(hosts)
        others = before.hosts | {CONTROLLER}
        self._warn([f"{name}: a host has this name, so the group is {name}_" for name in clashes & others])
        if clashes - others:
            self._remove_all_but(before)
            taken.update(dict.fromkeys(clashes - others))
            hosts = self._add(named, taken, registries, releases)
            self._construct(hosts)
        note_made({self.inventory.hosts[host.name]: host.variables["zk_address"] for host in hosts})

    def _add(
        self,
        named: Sequence[tuple[str, Registration]],
        taken: dict[str, str | None],
        registries: Sequence[Registry],
        releases: dict[str, Any],
    ) -> list[Host]:
        hosts, problems = merge(named, taken)
        self._warn(problems)
        self._add_groups(registries)
        self._add_hosts(hosts, releases)
        return hosts

    def _construct(self, hosts: Sequence[Host]) -> set[str]:
        """Apply `compose`, `groups` and `keyed_groups`; the names of groups that are already names of hosts."""
        if not any(self.get_option(option) for option in ("compose", "groups", "keyed_groups")):
            return set()
        from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.constructed import Constructor

        constructor = Constructor(self)
        constructor.construct([host.name for host in hosts])
        self._warn(constructor.problems)
        return constructor.clashes

    def _connection(self) -> dict[str, Any]:
        """The connection options; they may be templates, as in `{{ lookup('env', 'ZK_PASSWORD') }}`."""
        self.templar.available_variables = self._vars
        options = {name: self.get_option(name) for name in CONNECTION_OPTIONS}
        # In the form of a list, Ansible has split a template at its commas.
        options["hosts"] = self._given_hosts or options["hosts"]
        return converted({name: self.templar.template(value) for name, value in options.items()})

    def _warn(self, problems: Sequence[str]) -> None:
        shown = problems if self.display.verbosity else problems[:MOST_WARNINGS]
        for problem in shown:
            self.display.warning(_line(problem))
        if len(problems) > len(shown):
            self.display.warning(f"and {len(problems) - len(shown):,} more like these; -v shows all of them")

    # The last good answer

    def _check_cache(self) -> None:
        """Warn of a cache that keeps no answer for the next run. Raises `ZooKeeperError` if one is needed and off."""
        for option, off in (("shrink_limit", 100), ("unreachable_action", "fail")):
            if self.get_option(option) == off:
                continue
            if not self.get_option("cache"):
                raise ZooKeeperError(f"{option} needs the last good answer; set cache: true")
            if self.get_option("cache_plugin") in MEMORY_CACHES:
                self._warn([f"{option}: the memory cache ends with this run; set cache_plugin, such as jsonfile"])

    def _load_last_good(self, cache_key: str, registries: Sequence[Registry]) -> list[LastGood | None]:
        """The last good answer of each registry; None if there is none, or if the option `cache` is off."""
        self._check_cache()
        if not self.get_option("cache"):
            return [None] * len(registries)
        from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.last_good import from_cache

        try:
            cached = self.cache.get(cache_key)
        except KeyError:
            cached = None
        except Exception as exc:  # noqa: BLE001 - what a damaged file raises is up to the cache plugin
            self._warn([f"the cache can't be read, so there is no last good answer: {exc}"])
            cached = None
        timeout = self.get_option("cache_timeout")
        since = time.time() - timeout if timeout else 0.0
        return from_cache(host_string(self._connection()["hosts"]), registries, cached, since)

    def _store_last_good(
        self,
        cache_key: str,
        registries: Sequence[Registry],
        readings: Sequence[Reading | None],
        answers: Sequence[Answer],
        before: Sequence[LastGood | None],
    ) -> None:
        if not self.get_option("cache"):
            return
        from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.last_good import LastGood, to_cache

        # With a time in it the cache changes, and so is written, even if the answer is the same.
        at = time.time() if self.get_option("cache_timeout") else 0.0
        last_good = [
            old if answer.is_stale or reading is None else LastGood(reading, len(answer.live), at)
            for reading, answer, old in zip(readings, answers, before)
        ]
        self.cache[cache_key] = to_cache(host_string(self._connection()["hosts"]), registries, last_good)
        self.update_cache_if_changed()

    # Reading

    def _read(
        self, registries: Sequence[Registry], last_good: Sequence[LastGood | None], use_cache: bool
    ) -> tuple[list[Reading | None], dict[str, Any]]:
        """What is registered, None where the last good answer must do, and what the agents of `app` run."""
        try:
            with connect(self._connection()) as client:
                earlier = [answer.reading if answer and use_cache else None for answer in last_good]
                readings: list[Reading | None] = list(discover(client, registries, earlier))
                releases, problems = self._agent_releases(client)
                missing = "" if any(reading and reading.children for reading in readings) else missing_chroot(client)
        except ZooKeeperError as exc:
            if self.get_option("unreachable_action") == "fail":
                raise
            if None in last_good:
                raise ZooKeeperError(f"{exc}; and there is no last good answer") from exc
            self._warn([f"{exc}; going on with the last good answer"])
            return [None] * len(registries), {}
        self._warn([*problems, *filter(None, [missing])])
        return readings, releases

    def _agent_releases(self, client: Any) -> tuple[dict[str, Any], list[str]]:
        """What the agents of `app` run, and a message per unreadable status, or one for all: no host is lost.

        Raises `ZooKeeperError` if none can be read and the option `unreachable_action` is `fail`.
        """
        if not self.get_option("app"):
            return {}, []
        from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.agent_releases import read_agent_releases

        try:
            return read_agent_releases(client, self.get_option("app"))
        except ZooKeeperError as exc:
            if self.get_option("unreachable_action") == "fail":
                raise
            return {}, [f"{exc}; going on without zk_release"]

    def _answer(self, registry: Registry, reading: Reading | None, last_good: LastGood | None) -> Answer:
        """What is live in a registry. Raises `ZooKeeperError` if it has shrunk too far."""
        if reading is None:
            return self._stale_answer(registry, last_good)
        live, problems = registrations(registry, reading, time.time())
        self._warn(problems)
        if last_good is not None and self._has_shrunk(last_good.live, len(live)):
            complaint = f"{registry.path}: {len(live)} entries, {last_good.live} in the last good answer"
            if self.get_option("shrink_action") == "fail":
                raise ZooKeeperError(f"{complaint}; where that is right, run once with ZK_ACCEPT_SHRUNK=true")
            if self.get_option("shrink_action") == "last_good":
                self._warn([f"{complaint}; going on with that one"])
                return self._stale_answer(registry, last_good)
            self._warn([f"{complaint}; going on without the others"])
        if last_good is None and not live and self.get_option("shrink_limit") < 100:
            self._warn([f"{registry.path}: nothing is registered, and there is no last good answer to compare it with"])
        return Answer(live)

    def _stale_answer(self, registry: Registry, last_good: LastGood | None) -> Answer:
        """What was live in the last good answer, each with `zk_stale`."""
        live, _problems = registrations(registry, last_good.reading, time.time()) if last_good else ([], [])
        stale = [entry._replace(variables={**entry.variables, "zk_stale": True}) for entry in live]
        return Answer(stale, is_stale=True)

    def _has_shrunk(self, before: int, now: int) -> bool:
        limit = self.get_option("shrink_limit")
        if limit >= 100 or self.get_option("accept_shrunk"):
            return False
        return now < before and (now == 0 or (before - now) * 100 > before * limit)

    # Names, groups and variables

    def _filtered(self, live: list[Registration]) -> list[Registration]:
        """The registrations that `filters` keeps. Raises `ZooKeeperError`."""
        given = self.get_option("filters")
        if not given:
            return live
        from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.filters import Filter

        decisions: dict[int, bool] = {}
        for each in [Filter.from_option(one) for one in given]:
            self._check_syntax("filters", each.condition)
            left = [place for place in range(len(live)) if place not in decisions]
            entries = [live[place] for place in left]
            paths = [entry.variables["zk_path"] for entry in entries]
            others = self._evaluated(each.condition, [live[place] for place in sorted(decisions)])
            judged, problems = each.judge(list(self._evaluated(each.condition, entries)), paths, others)
            self._warn(problems)
            decisions.update({place: verdict for place, verdict in zip(left, judged) if verdict is not None})
        return [entry for place, entry in enumerate(live) if decisions.get(place, True)]

    def _names(self, live: Sequence[Registration]) -> list[str]:
        """The names that `hostnames` gives, as plain strings: the result of a template may be marked."""
        names = [""] * len(live)
        for preference in self.get_option("hostnames"):
            self._check_syntax("hostnames", preference)
            results = self._evaluated(preference, live)
            names = [
                name or (result if is_host_name(result, registration.variables["zk_address"]) else "")
                for name, result, registration in zip(names, results, live)
            ]
        return ["".join(list(name)) or registration.name for name, registration in zip(names, live)]

    def _check_syntax(self, option: str, expression: object) -> None:
        """Raise `ZooKeeperError` for an expression that fails for every entry; failing for some may be intended."""
        from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.expressions import syntax_mistake

        mistake = syntax_mistake(expression)
        if mistake:
            raise ZooKeeperError(f"{option}: {expression}: {mistake}")

    def _other_hosts(self, named: Sequence[tuple[str, Registration]]) -> Mapping[str, str | None]:
        """The addresses of the hosts known from other sources, by name; the controller is one of them.

        With `override_hosts`, only of those that are not to be replaced.
        """
        known = {name: known_address(host) for name, host in self.inventory.hosts.items()}
        if self.get_option("override_hosts"):
            return registered_as(named, known)
        return {**dict.fromkeys(CONTROLLER_NAMES, NO_ADDRESS), **known}

    def _evaluated(self, expression: str | bool, live: Sequence[Registration]) -> Iterator[Any]:
        """The value of an expression or template for each registration; FAILS or None where it has none."""
        from ansible_collections.zoo.deploy.plugins.plugin_utils.inventory.expressions import (
            ASK,
            FAILS,
            bulk_expression,
            evaluate,
        )

        if isinstance(expression, bool):
            yield from [expression] * len(live)
            return
        extra = self._extra
        rows = [{**one.variables, **extra} if extra else one.variables for one in live]
        for one, value in zip(live, evaluate(self.templar, bulk_expression(expression), rows)):
            if value is ASK or (value is FAILS and self.get_option("strict")):
                yield self._evaluated_by_ansible(expression, one.variables)
            else:
                yield value

    @property
    def _extra(self) -> Mapping[str, Any]:
        """The extra variables, if the options ask for them; they take precedence over all others."""
        return self._vars if self.get_option("use_extra_vars") else {}

    def _evaluated_by_ansible(self, expression: str, variables: dict[str, Any]) -> Any:
        variables = untrusted(variables)
        try:
            if self.templar.is_possibly_template(expression):
                self.templar.available_variables = {**variables, **self._extra}
                return self.templar.template(expression)
            return self._compose(expression, variables)
        except Exception as exc:
            if self.get_option("strict"):
                where = f"can't be evaluated for {variables['zk_path']}"
                raise AnsibleError(_line(f"{expression}: {where}: {exc}")) from exc
            return None

    def _own_groups(self, live: Sequence[Registration], registries: Sequence[Registry]) -> set[str]:
        """The groups that this file names, and those that a `*` in it stands for."""
        named = [registry.group_of(()) for registry in registries if "*" not in registry.path]
        composed = self.get_option("groups") if isinstance(self.get_option("groups"), dict) else {}
        registered = {registration.group for registration in live}
        safe = {self._sanitize_group_name(name) for name in (*named, *composed, *registered)}
        return {unused_group_name(name, self.inventory) for name in safe}

    def _add_groups(self, registries: Sequence[Registry]) -> None:
        """Add the groups of registries without a `*`: they exist even if nothing is registered."""
        for registry in registries:
            if "*" not in registry.path:
                self._add_group(registry.group_of(()))

    def _add_group(self, name: str) -> str:
        """Add a group of this name or one close to it; its name."""
        safe = self._sanitize_group_name(name)
        unused = unused_group_name(safe, self.inventory)
        if unused != safe:
            self._warn([f"{safe}: a host has this name, so the group is {unused}"])
        return str(self.inventory.add_group(unused))

    def _add_hosts(self, hosts: Sequence[Host], releases: dict[str, Any]) -> None:
        for host in hosts:
            self.inventory.add_host(host.name)
            for group in host.groups:
                self.inventory.add_host(host.name, self._add_group(group))
            release = releases.get(host.variables["zk_id"]) or releases.get(host.name)
            entity = self.inventory.get_host(host.name)
            variables = with_services_of(entity.vars.get("zk_services"), host.variables)
            variables.update({"zk_release": release} if release else {})
            for key, value in variables.items():
                entity.set_variable(key, untrusted(value))

    def _remove_all_but(self, names: _Names) -> None:
        for host in [host for name, host in self.inventory.hosts.items() if name not in names.hosts]:
            self.inventory.remove_host(host)
        for group in [group for name, group in self.inventory.groups.items() if name not in names.groups]:
            # Ansible itself keeps its place among parents and children.
            for parent in group.parent_groups:
                parent.child_groups = [one for one in parent.child_groups if one is not group]
                parent.clear_hosts_cache()
            for child in group.child_groups:
                child.parent_groups = [one for one in child.parent_groups if one is not group]
            self.inventory.remove_group(group)
