"""All kinds of zk_znode tasks by two writers in turn: each reports what it did, and no other change is lost."""

from __future__ import annotations

import json
import uuid
from typing import Any, NamedTuple

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kazoo.client import KazooClient
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from ansible_collections.zoo.deploy.plugins.module_utils import znodes
from ansible_collections.zoo.deploy.plugins.module_utils.connection import ZooKeeperError
from ansible_collections.zoo.deploy.plugins.module_utils.znode_options import desired_znodes
from ansible_collections.zoo.deploy.plugins.module_utils.znode_values import acl_fields, acl_in_diff
from ansible_collections.zoo.deploy.plugins.modules import zk_znode

NAMES = ("a", "b", "a/child")
OPEN = [{"scheme": "world", "perms": ["all"]}]
NO_CREATE = [{"scheme": "world", "perms": ["read", "write", "delete", "admin"]}]
ACLS = {
    "open": (OPEN, list(OPEN_ACL_UNSAFE)),
    "no create": (NO_CREATE, [make_acl("world", "anyone", read=True, write=True, delete=True, admin=True)]),
}


class Znode(NamedTuple):
    """A znode as an observer sees it; a task's `diff` must show the same."""

    value: str
    version: int
    acl: Any
    diff_acl: Any = None


class Task(NamedTuple):
    """A task that the first or the second writer runs, for real or in check mode."""

    writer: int
    check: bool
    name: str
    options: dict[str, Any]
    version: str
    """The version that it expects: "any", the "present" one, or an "old" (wrong) one."""


def objects() -> st.SearchStrategy[dict[str, Any]]:
    """Values that are merged, or replace the value."""
    return st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 2), min_size=1)


def kinds() -> st.SearchStrategy[dict[str, Any]]:
    """A task's options without its path."""
    acl = st.sampled_from([None, "open", "no create"])
    return st.one_of(
        st.builds(lambda value, acl: {"value": json.dumps(value), "acl": acl}, objects(), acl),
        st.builds(lambda value, acl: {"value": value, "merge": True, "acl": acl}, objects(), acl),
        st.builds(lambda acl: {"acl": acl}, acl),
        st.builds(lambda recursive: {"state": "absent", "recursive": recursive}, st.booleans()),
    )


TASKS = st.lists(
    st.builds(
        Task,
        st.sampled_from([0, 1]),
        st.sampled_from([False, False, False, True]),
        st.sampled_from(NAMES),
        kinds(),
        st.sampled_from(["any", "any", "present", "old"]),
    ),
    min_size=1,
    max_size=14,
)


def observe(client: KazooClient, root: str) -> dict[str, Znode]:
    """Every znode of the tree by its name, read by the writer whose task has just ended."""
    client.sync(root)
    found = {}
    for name in NAMES:
        if client.exists(f"{root}/{name}"):
            data, stat = client.get(f"{root}/{name}")
            acl, _stat = client.get_acls(f"{root}/{name}")
            found[name] = Znode(data.decode(), stat.version, acl_fields(acl), acl_in_diff(acl))
    return found


def run(client: KazooClient, root: str, task: Task, before: dict[str, Znode]) -> dict[str, Any] | None:
    """Run a task; returns its result, or None if it is refused, in which case it must report no change."""
    wanted = {key: value for key, value in task.options.items() if value is not None}
    if "acl" in wanted:
        wanted["acl"] = ACLS[wanted["acl"]][0]
    version = before[task.name].version if task.name in before else 0
    if task.version != "any":
        wanted["version"] = version if task.version == "present" else version + 7
    given_options = {"hosts": "unused", "path": f"{root}/{task.name}", **wanted}
    checked = ArgumentSpecValidator(zk_znode.argument_spec()).validate(given_options)
    assert not checked.error_messages
    refused = None
    try:
        (result,) = znodes.converge(client, desired_znodes(checked.validated_parameters), check=task.check, timeout=10)
    except ZooKeeperError as exc:
        refused = exc
    if refused:
        assert not refused.details.get("changed")
        return None
    return dict(result)


def expected(task: Task, before: Znode | None) -> Znode | None:
    """The znode after a task that was not refused; its version does not matter."""
    options = task.options
    if options.get("state") == "absent":
        return None
    value = before.value if before else ""
    if options.get("merge"):
        value = json.dumps({**json.loads(value or "{}"), **options["value"]})
    elif "value" in options:
        value = options["value"]
    open_acl = acl_fields(ACLS["open"][1])
    acl = acl_fields(ACLS[options["acl"]][1]) if options.get("acl") else before.acl if before else open_acl
    return Znode(value, 0, acl)


def parsed(value: Any) -> Any:
    """A value as a diff may show it: JSON is shown decoded."""
    return json.loads(value) if isinstance(value, str) and value else value


def same(one: Znode | None, two: Znode | None, *, merged: bool) -> bool:
    """Whether two are equal apart from their versions; merged values are compared as JSON."""
    if one is None or two is None:
        return one is two
    values = (one.value, two.value)
    if merged:
        return bool(json.loads(values[0] or "{}") == json.loads(values[1] or "{}")) and one.acl == two.acl
    return values[0] == values[1] and one.acl == two.acl


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TASKS)
def test_each_task_does_what_it_reports_and_leaves_the_rest_unchanged(
    zk: KazooClient, other: KazooClient, app: str, tasks: list[Task]
) -> None:
    root = f"{app}-{uuid.uuid4().hex[:8]}"
    zk.ensure_path(root)
    before: dict[str, Znode] = {}
    for task in tasks:
        client = (zk, other)[task.writer]
        result = run(client, root, task, before)
        after = observe(client, root)
        if result is None or task.check:
            assert after == before
        if result is None:
            continue
        own = expected(task, before.get(task.name))
        merged = bool(task.options.get("merge"))
        assert result["changed"] == (not same(before.get(task.name), own, merged=merged))
        check_diff(task, result["diff"]["before"], before.get(task.name))
        if not task.check:
            assert same(after.get(task.name), own, merged=merged)
            check_diff(task, result["diff"]["after"], after.get(task.name))
        before = check_others(task, before, after)


def check_diff(task: Task, side: dict[str, Any], znode: Znode | None) -> None:
    """Check that a side of a diff shows the znode; a deleted value is omitted, because it may be a secret."""
    assert side["state"] == ("present" if znode else "absent")
    if znode and task.options.get("state") != "absent":
        assert parsed(side["value"]) == parsed(znode.value)
        if task.options.get("acl"):
            assert side["acl"] == znode.diff_acl


def check_others(task: Task, before: dict[str, Znode], after: dict[str, Znode]) -> dict[str, Znode]:
    """Check that a task touches only its own znode, parents that it creates, and descendants that it deletes."""
    own = {task.name, *(name for name in NAMES if f"{task.name}/".startswith(f"{name}/"))}
    if task.options.get("state") == "absent":
        own |= {name for name in NAMES if name.startswith(f"{task.name}/")}
    for name in NAMES:
        if name not in own:
            assert after.get(name) == before.get(name)
        elif name != task.name and name in before and name in after:
            assert after[name] == before[name]
    return after
