"""zk_release and the modules that report on it in a real playbook: one run of many tasks, checked by the tests.

It publishes to four applications: `live` has an agent that deploys, `slow` one that reports that it is still fetching,
`spoiled` a znode that is not a release, `closed` one that may not be written.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl

from support.agent import Agent
from support.ensemble import Ensemble
from support.ports import free_ports
from support.repository import GitRepository
from support.tasks import Run, run_tasks

ABSENT = "0123456789" * 4
STATUS = {"name": "slow", "state": "fetching", "message": "no route to host; tried again in 4 s"}


@dataclass(frozen=True)
class Story:
    """The run, and its surroundings."""

    run: Run
    repository: GitRepository
    agent: Agent
    commits: dict[str, str]
    apps: dict[str, str]

    def __getitem__(self, name: str) -> dict[str, Any]:
        """A task's result."""
        return self.run[name]


class Book:
    """The tasks of a playbook, added one by one."""

    def __init__(self, hosts: str, apps: dict[str, str]) -> None:
        self.hosts = hosts
        self.apps = apps
        self.tasks: list[dict[str, Any]] = []

    def release(self, register: str, app: str = "live", **options: Any) -> None:
        """Add a zk_release task."""
        self._add("zk_release", register, {"app": self.apps.get(app, app), "wait_timeout": 30, **options})

    def check(self, register: str, **options: Any) -> None:
        """Add a zk_release task in check mode."""
        self.release(register, **options)
        self.tasks[-1]["check_mode"] = True

    def info(self, register: str, app: str = "live") -> None:
        """Add a zk_release_info task."""
        self._add("zk_release_info", register, {"app": self.apps[app]})

    def fleet(self, register: str, app: str = "live") -> None:
        """Add a zk_fleet_info task."""
        self._add("zk_fleet_info", register, {"app": self.apps[app]})

    def _add(self, module: str, register: str, options: dict[str, Any]) -> None:
        self.tasks.append(
            {
                f"zoo.deploy.{module}": {"hosts": self.hosts, **options},
                "register": register,
                "diff": True,
            }
        )


def good_tasks(book: Book, url: str, commits: dict[str, str]) -> None:
    """Publish, publish again, and publish by every kind of ref."""
    book.check("checked", url=url, relative_path="site")
    book.info("after_checked")
    book.fleet("fleet_after_checked")
    book.release("first", url=url, ref="main", relative_path="site", publisher="the tests")
    book.release("again")
    book.check("again_checked", ref=commits["two"])
    book.info("after_again")
    for name, ref in {"branch": "feature/x", "tag": "v1", "full": commits["two"], "short": commits["one"][:9]}.items():
        book.release(name, ref=ref, wait=False)
    book.release("not_any_more", ref=commits["two"], only_if=commits["x"], wait=False)
    book.release("not_the_first", ref=commits["two"], only_if="{{ none }}", wait=False)
    book.release("proved", ref=commits["one"], min_agents="100%")
    book.info("before_bad")
    book.fleet("fleet_before_bad")


def bad_tasks(book: Book, directory: str) -> None:
    """Add everything that is refused."""
    closed_port = free_ports(1)[0]
    wrong: dict[str, dict[str, Any]] = {
        "bad_ref": {"ref": "no-such-branch"},
        "bad_commit": {"ref": ABSENT},
        "bad_option": {"ref": "--upload-pack=x"},
        "bad_url": {"url": f"file://{directory}/none"},
        "bad_url_option": {"url": "--upload-pack=x"},
        "bad_helper": {"url": "ext::sh -c touch% /tmp/owned"},
        "bad_password": {"url": "https://user:hidden-word@example.org/x.git"},
        "bad_server": {"url": f"git://127.0.0.1:{closed_port}/x.git"},
        "bad_parent": {"relative_path": "../site"},
        "bad_absolute": {"relative_path": "/etc"},
        "bad_own": {"relative_path": ".zoo/x"},
        "bad_app": {"app": "app/business"},
        "bad_root": {"app": "/"},
        "bad_fresh": {"app": f"{book.apps['live']}-fresh"},
        "bad_hosts": {"hosts": f"127.0.0.1:{closed_port}", "connect_timeout": 0.5},
        "bad_no_hosts": {"hosts": None},
        "bad_number": {"min_agents": "many"},
        "bad_rollback": {"state": "rolled_back", "ref": "v1"},
        "bad_promotion": {"state": "promoted", "ref": "v1"},
        "bad_pause": {"state": "paused", "ref": None, "rollout": True},
        "bad_halt": {"state": "halted", "ref": None, "to": "1234567"},
        "bad_empty": {"ref": ""},
    }
    for register, options in wrong.items():
        book.release(register, **{"app": "live", "ref": "main", **options})
    book.info("after_bad")


def fleet_tasks(book: Book, url: str) -> None:
    """Add the releases whose waits differ in their results."""
    place = {"url": url, "ref": "v1", "relative_path": "site"}
    book.release("too_few", ref="main", min_agents=2, wait_timeout=0.3)
    book.release("failing", relative_path="taken")
    book.release("failing_allowed", relative_path="taken", max_failures="100%")
    book.release("mended", relative_path="site")
    book.release("pending", "slow", wait_timeout=0.3, **place)
    book.release("at_once", "slow", wait_timeout=0, **place)
    book.fleet("after_pending", "slow")
    book.info("spoiled_info", "spoiled")
    book.release("spoiled_kept", "spoiled", ref="v1")
    book.release("spoiled_mended", "spoiled", wait=False, **place)
    book.release("closed", "closed", wait=False, **place)


@pytest.fixture(scope="module")
def story(ensemble: Ensemble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The run with its agent and repository."""
    root = tmp_path_factory.mktemp("story")
    apps = {name: f"/app/test-{uuid.uuid4().hex[:12]}" for name in ("live", "slow", "spoiled", "closed")}
    repository = GitRepository.create(root / "origin")
    commits = {"one": repository.head}
    repository.git("tag", "-a", "-m", "release", "v1")
    repository.git("checkout", "-q", "-b", "feature/x")
    commits["x"] = repository.commit({"index.html": "x\n"})
    repository.git("checkout", "-q", "main")
    commits["two"] = repository.commit({"index.html": "two\n"})
    client = KazooClient(hosts=ensemble.hosts)
    client.start(timeout=20)
    client.create(f"{apps['slow']}/agents/slow", json.dumps(STATUS).encode(), ephemeral=True, makepath=True)
    client.create(f"{apps['spoiled']}/config", b"not a release", makepath=True)
    client.create(f"{apps['closed']}/config", b"", makepath=True)
    client.set_acls(f"{apps['closed']}/config", [make_acl("world", "anyone", read=True)])
    agent = Agent(root / "server1", ensemble.hosts, apps["live"], client)
    (agent.base / "taken").mkdir(parents=True)
    book = Book(ensemble.hosts, apps)
    good_tasks(book, repository.url, commits)
    bad_tasks(book, str(root))
    fleet_tasks(book, repository.url)
    try:
        agent.start().wait_live()
        yield Story(run_tasks(root, book.tasks), repository, agent, commits, apps)
    finally:
        agent.end()
        client.stop()
        client.close()


def error(result: dict[str, Any]) -> str:
    """The message of a failed task, which has one line and no traceback."""
    assert result["failed"]
    message = str(result["msg"])
    assert "\n" not in message
    assert "Traceback" not in json.dumps(result)
    return message


def test_no_task_shows_a_traceback_or_a_password(story: Story) -> None:
    assert "Traceback" not in story.run.output
    assert "hidden-word" not in json.dumps(story.run.results)


def test_check_mode_shows_what_would_be_published_and_writes_nothing(story: Story) -> None:
    checked = story["checked"]
    assert checked["changed"]
    assert checked["commit_id"] == story.commits["two"]
    assert not {"generation", "agents", "elapsed"} & set(checked)
    assert json.loads(checked["diff"]["after"])["commitId"] == story.commits["two"]
    after = story["after_checked"]
    assert (after["generation"], after["release"], after["problem"], after["history"]) == (None, None, None, [])


def test_a_release_is_published_and_every_live_agent_has_proved_it(story: Story) -> None:
    first = story["first"]
    assert first["changed"]
    assert first["commit_id"] == story.commits["two"]
    assert (first["failed_agents"], first["pending_agents"], first["lost_agents"]) == ([], [], [])
    (agent,) = first["agents"]
    assert (agent["name"], agent["state"], agent["generation"]) == ("server1", "active", first["generation"])
    assert agent["commitId"] == story.commits["two"]
    assert 0 < first["elapsed"] < 30


def test_the_release_has_the_articles_keys_and_who_published_which_ref(story: Story) -> None:
    release = story["after_again"]["release"]
    wanted = {"url": story.repository.url, "commitId": story.commits["two"], "relativePath": "site"}
    assert {key: release[key] for key in wanted} == wanted
    assert (release["ref"], release["publisher"]) == ("main", "the tests")
    assert release["publishedAt"].endswith("+00:00")


def test_the_diff_shows_the_release_before_and_after(story: Story) -> None:
    assert story["first"]["diff"]["before"] == ""
    assert json.loads(story["first"]["diff"]["after"]) == story["first"]["release"]
    assert json.loads(story["branch"]["diff"]["before"]) == story["first"]["release"]
    assert f'-  "commitId": "{story.commits["two"]}"' in story.run.output
    assert f'+  "commitId": "{story.commits["x"]}"' in story.run.output


def test_publishing_what_is_published_changes_nothing_and_still_waits_for_proof(story: Story) -> None:
    first = story["first"]
    for name in ("again", "again_checked"):
        assert not story[name]["changed"]
        assert story[name]["generation"] == first["generation"]
        assert story[name]["diff"]["before"] == story[name]["diff"]["after"]
    assert story["again"]["agents"][0]["state"] == "active"
    assert "agents" not in story["again_checked"]
    assert [entry["generation"] for entry in story["after_again"]["history"]] == [first["generation"]]


def test_a_branch_a_tag_a_full_and_a_short_id_are_resolved_to_their_commits(story: Story) -> None:
    expected = {"branch": "x", "tag": "one", "full": "two", "short": "one"}
    for name, commit in expected.items():
        assert story[name]["changed"]
        assert story[name]["commit_id"] == story.commits[commit]
        assert "agents" not in story[name]


def test_only_if_with_another_release_fails_with_what_is_desired_by_whom_and_since_when(story: Story) -> None:
    said = error(story["not_any_more"])
    desired = story["short"]["release"]
    assert f'only_if expects "{story.commits["x"]}", but {desired["commitId"]} is published by "' in said
    assert desired["publisher"] in said
    assert f"generation {story['short']['generation']}" in said


def test_only_if_none_overwrites_no_release(story: Story) -> None:
    said = error(story["not_the_first"])
    assert f'only_if expects "none", but {story["short"]["release"]["commitId"]} is published by "' in said


def test_the_history_has_every_publication_with_its_generation_the_newest_first(story: Story) -> None:
    published = [story[name]["generation"] for name in ("short", "full", "tag", "branch", "first")]
    info = story["before_bad"]
    assert [entry["generation"] for entry in info["history"]] == published
    assert [entry["problem"] for entry in info["history"]] == [None] * 5
    newest = info["history"][0]["release"]
    assert newest["provedAt"] >= newest["publishedAt"]
    assert {key: value for key, value in newest.items() if key != "provedAt"} == info["release"]
    assert info["generation"] == published[0] == story["proved"]["generation"]
    assert not story["proved"]["changed"]


def test_the_fleet_info_shows_which_agents_have_proved_what_is_published(story: Story) -> None:
    (agent,) = story["fleet_before_bad"]["agents"]
    assert (agent["name"], agent["converged"], agent["commitId"]) == ("server1", True, story.commits["one"])
    (idle,) = story["fleet_after_checked"]["agents"]
    assert (idle["state"], idle["converged"]) == ("idle", False)
    assert not story["fleet_after_checked"]["changed"]
    served = [{"commit_id": story.commits["one"], "desired": True, "agents": ["server1"]}]
    assert story["fleet_before_bad"]["served"] == served


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bad_ref", "ref: {url} has no branch, tag or commit no-such-branch"),
        ("bad_commit", f"ref: {{url}} has no commit {ABSENT}"),
        ("bad_option", "ref: expected a branch, a tag or a commit"),
        ("bad_url", "url: can't read file://"),
        ("bad_url_option", 'url: "--upload-pack=x" is not a repository'),
        ("bad_helper", "no transport helper"),
        ("bad_password", "url: carries a password"),
        ("bad_server", "url: can't read git://127.0.0.1:"),
        ("bad_parent", "relativePath: expected a normalised relative path"),
        ("bad_absolute", "relativePath: expected a normalised relative path"),
        ("bad_own", "relativePath: .zoo is the agent's own directory"),
        ("bad_app", "expected one that begins with /"),
        ("bad_root", "app: expected a znode path such as /app/business"),
        ("bad_fresh", "url: give it; nothing is published at "),
        ("bad_hosts", "can't reach ZooKeeper at 127.0.0.1:"),
        ("bad_no_hosts", "hosts: none given; set the option, or ZK_HOSTS in the environment"),
        ("bad_number", 'min_agents: expected a whole number of agents or a percentage such as "80%", got "many"'),
        ("bad_rollback", "ref: not with the state rolled_back; name the commit, or the entry of the history, with to"),
        ("bad_promotion", "ref: not with the state promoted; the commit that has to be the desired one is only_if"),
        ("bad_pause", "rollout: only with the state published"),
        ("bad_halt", "to: only with the state rolled_back"),
        ("bad_empty", "ref: it is empty; leave it out to have it as published before"),
    ],
)
def test_bad_input_is_a_one_line_error_that_says_what_is_wrong(story: Story, name: str, said: str) -> None:
    assert said.format(url=story.repository.url) in error(story[name])


def test_after_all_bad_input_nothing_is_lost_and_nothing_was_published(story: Story) -> None:
    before, after = story["before_bad"], story["after_bad"]
    for key in ("generation", "release", "history", "problem"):
        assert after[key] == before[key]


def test_too_few_live_agents_fail_the_task_and_the_release_stays_published(story: Story) -> None:
    too_few = story["too_few"]
    assert "published, but timed out waiting for agents: 1 live, at least 2 required" in error(too_few)
    assert too_few["commit_id"] == story.commits["two"]
    assert story["mended"]["release"]["commitId"] == too_few["commit_id"]


def test_an_agent_that_gives_up_fails_the_task_with_its_reason(story: Story) -> None:
    failing = story["failing"]
    message = error(failing)
    assert "not deployed on 1 of 1: server1 is failed (a directory is at " in message
    assert failing["generation"] == failing["agents"][0]["generation"]


def test_an_allowed_failure_does_not_fail_the_task_and_is_listed(story: Story) -> None:
    allowed = story["failing_allowed"]
    assert not allowed["changed"]
    assert allowed["agents"][0]["state"] == "failed"
    assert allowed["failed_agents"] == ["server1"]
    assert not allowed.get("failed"), "Ansible keeps the key `failed` for the task itself"
    assert story["mended"]["changed"]
    assert story["mended"]["agents"][0]["state"] == "active"


def test_an_agent_that_has_not_proved_it_in_time_is_named_with_its_state(story: Story) -> None:
    pending = story["pending"]
    said = "not proved in time by 1 of 1: slow is fetching (no route to host; tried again in 4 s)"
    assert said in error(pending)
    assert (pending["pending_agents"], pending["changed"], pending["timed_out"]) == (["slow"], True, True)
    assert story["after_pending"]["generation"] == pending["generation"]
    assert story["after_pending"]["agents"][0]["converged"] is False


def test_a_wait_timeout_of_zero_is_one_look_at_the_fleet(story: Story) -> None:
    looked = story["at_once"]
    assert "not proved in time by 1 of 1: slow is fetching" in error(looked)
    assert (looked["changed"], looked["timed_out"], looked["pending_agents"]) == (False, True, ["slow"])


def test_a_znode_that_is_not_a_release_is_reported_and_replaced_by_one(story: Story) -> None:
    info = story["spoiled_info"]
    assert info["release"] is None
    assert "not JSON" in info["problem"]
    assert isinstance(info["generation"], int)
    assert "url: give it" in error(story["spoiled_kept"])
    assert story["spoiled_mended"]["changed"]


def test_a_znode_that_may_not_be_written_is_named_with_its_path(story: Story) -> None:
    closed = story["closed"]
    assert error(closed).startswith(f"{story.apps['closed']}/config: permission denied")
    assert closed["path"] == f"{story.apps['closed']}/config"
