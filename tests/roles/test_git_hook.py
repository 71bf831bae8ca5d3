"""The role git_hook: a real `git push`, over SSH and to a path, and its effects in ZooKeeper and on servers."""

from __future__ import annotations

import getpass
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import make_acl, make_digest_acl

from ansible_collections.zoo.deploy.plugins.module_utils.records import AppPaths
from support.agent import Agent
from support.ensemble import Ensemble
from support.lonely import lonely_ensemble
from support.many_hosts import run_on_hosts
from support.playbook import ROOT, Run, run_playbook
from support.repository import IDENTITY, GitRepository
from support.signer import Signer
from support.ssh_server import SshServer
from support.waiting import wait_for

ROLE = ROOT / "roles" / "git_hook"
NOBODY = "127.0.0.1:1"
"""An ensemble that does not exist."""
GITEA = """\
#!/usr/bin/env bash
data=$(cat)
hookname=$(basename $0)
for hook in ${GIT_DIR:-.}/hooks/${hookname}.d/*; do
  echo "${data}" | "${hook}"
done
"""
"""Does what the hooks that Gitea puts into its repositories do."""


@dataclass
class Push:
    """The result of a `git push`; `output` includes the lines that the server's programs wrote."""

    status: int
    output: str

    @property
    def said(self) -> list[str]:
        """The hook's lines, as the pusher reads them."""
        return [line.removeprefix("remote: ").strip() for line in self.output.splitlines() if "zoo.deploy: " in line]


@dataclass(frozen=True)
class Role:
    """What the role has installed for another repository: both hooks, the configuration and the program."""

    hooks: Path
    config: Path
    install: Path


@dataclass
class Server:
    """A bare repository with a clone to push from. `role` is the result of one run of the role, for all tests."""

    root: Path
    role: Role
    clone: GitRepository
    hosts: str
    app: str

    @property
    def bare(self) -> Path:
        """The repository."""
        return self.root / "site.git"

    @property
    def hooks(self) -> Path:
        """Its hooks."""
        return self.bare / "hooks"

    @property
    def config(self) -> Path:
        """The only configuration that the role has written for it."""
        (config,) = (self.root / "etc").iterdir()
        return config

    @property
    def url(self) -> str:
        """The repository's address for servers."""
        return f"file://{self.bare}"

    @property
    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every hook with its mode and content."""
        return {
            str(path.relative_to(self.hooks)): (path.stat().st_mode, path.read_bytes())
            for path in sorted(self.hooks.rglob("*"))
            if path.is_file()
        }

    def told(self, **variables: Any) -> dict[str, Any]:
        """The role's variables: the server's, overridden by these."""
        return {
            "git_hook_repository": str(self.bare),
            "git_hook_url": self.url,
            "git_hook_branches": [{"branch": "main", "app": self.app, "relative_path": "site"}],
            "git_hook_hosts": self.hosts.split(","),
            "git_hook_install_dir": str(self.role.install),
            "git_hook_config_dir": str(self.root / "etc"),
            "git_hook_python": sys.executable,
            "git_hook_connect_timeout": 5,
            **variables,
        }

    def apply(self, *words: str, **variables: Any) -> Run:
        """Apply the role with the server's variables, overridden by these."""
        values = self.told(**variables)
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": values}
        playbook = self.root / "play.yml"
        playbook.write_text(json.dumps([{**play, "roles": ["zoo.deploy.git_hook"]}]))
        done = run_playbook(playbook, *words)
        return Run.of(done)

    def installed(self, *, refuse: bool = False, **keys: Any) -> Server:
        """Set the server up as the role does, with these keys of the configuration, and return it."""
        shutil.rmtree(self.hooks)
        shutil.copytree(self.role.hooks, self.hooks)
        if not refuse:
            (self.hooks / "pre-receive").unlink()
        config = {
            "url": self.url,
            "branches": [{"branch": "main", "app": self.app, "relative_path": "site"}],
            "hosts": self.hosts.split(","),
            "connect_timeout": 20,
            **keys,
        }
        self.role.config.write_text(json.dumps(config))
        return self

    def begin_push(self, *words: str, url: str = "", **environment: str) -> subprocess.Popen[str]:
        """Start `git push` in a process group of its own, as a terminal would."""
        return subprocess.Popen(
            ["git", "push", url or str(self.bare), *(words or ["main"])],
            cwd=self.clone.path,
            env={**os.environ, **IDENTITY, "LC_ALL": "C", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def push(self, *words: str, url: str = "", **environment: str) -> Push:
        """Push, `main` by default."""
        process = self.begin_push(*words, url=url, **environment)
        output = process.communicate(timeout=120)[1]
        assert "Traceback" not in output
        return Push(process.returncode, output)

    def head(self, ref: str = "refs/heads/main") -> str:
        """The commit that a branch of the bare repository is at; empty if there is none."""
        command = ["git", f"--git-dir={self.bare}", "rev-parse", "--verify", "--quiet", ref]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def bare_repository(path: Path) -> None:
    """Create a bare repository whose default branch may be deleted."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
    subprocess.run(["git", "config", "receive.denyDeleteCurrent", "ignore"], cwd=path, check=True)


@pytest.fixture(scope="module")
def applied_once(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A git server that the role was applied to, with `git_hook_refuse`; its `role` is a copy of the result."""
    root = tmp_path_factory.mktemp("git_hook")
    kept = root / "kept"
    made = Server(root, Role(kept / "hooks", kept / "config", root / "opt"), GitRepository(root), NOBODY, "/app/any")
    bare_repository(made.bare)
    run = made.apply(git_hook_refuse=True)
    assert run.failed == 0, run.output
    shutil.copytree(made.hooks, made.role.hooks)
    shutil.copy2(made.config, made.role.config)
    return made


@pytest.fixture
def applied(applied_once: Server) -> Server:
    """That server, restored to how the role left it."""
    shutil.rmtree(applied_once.hooks)
    shutil.copytree(applied_once.role.hooks, applied_once.hooks)
    shutil.copy2(applied_once.role.config, applied_once.config)
    return applied_once


@pytest.fixture(scope="module")
def role(applied_once: Server) -> Role:
    """The result of the role, applied only once because that takes seconds."""
    return Role(applied_once.role.hooks, applied_once.config, applied_once.role.install)


@pytest.fixture
def server(tmp_path: Path, role: Role, ensemble: Ensemble, app: str) -> Server:
    """A git server without the hook, and a clone with one commit."""
    made = Server(tmp_path, role, GitRepository.create(tmp_path / "clone"), ensemble.hosts, app)
    bare_repository(made.bare)
    return made


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[SshServer]:
    """A running sshd that knows alice by her key."""
    if os.geteuid() != 0:
        pytest.skip("sshd for another port needs root here")
    with SshServer(tmp_path / "ssh", REMOTE_USER="alice") as running:
        yield running


def published(zk: KazooClient, app: str) -> dict[str, Any]:
    """The desired release; empty if there is none."""
    return dict(json.loads(zk.get(f"{app}/config")[0])) if zk.exists(f"{app}/config") else {}


def closed_application(zk: KazooClient, app: str, *acl: Any) -> None:
    """Create an application's znode with this ACL; its parents stay open to the other tests."""
    zk.ensure_path(app.rsplit("/", 1)[0])
    zk.create(app, acl=list(acl))


def test_defaults_and_argument_specs_agree_to_the_letter() -> None:
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    options = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert {name: option["default"] for name, option in options.items() if "default" in option} == defaults
    keys = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["_git_hook_keys"]
    assert {f"git_hook_{key}" for key in keys} | {"git_hook_repository"} | set(defaults) == set(options)


def test_a_push_over_ssh_reaches_every_server_and_the_pusher_sees_it(
    server: Server, agents: Callable[..., Agent], zk: KazooClient, sshd: SshServer
) -> None:
    fleet = [agents(name).start().wait_live() for name in ("server1", "server2")]
    zk.create(f"{server.app}/roster/server3", b"{}", makepath=True)
    server.installed(wait=True, min_agents=2)
    done = server.push(url=sshd.url(server.bare), GIT_SSH_COMMAND=sshd.command)
    assert done.status == 0, done.output
    assert [agent.live() for agent in fleet] == [server.clone.head] * 2
    short = server.clone.head[:10]
    assert done.said[0] == f"zoo.deploy: main {short} is published to {server.app} by alice"
    assert re.fullmatch(rf"zoo.deploy: {server.app} {short}: 2 of 2 have proved it after [0-9.]+ s", done.said[-2])
    assert done.said[-1] == f"zoo.deploy: {server.app} {short}: missing, expected and not live: server3"
    assert published(zk, server.app)["publisher"] == "alice"


def test_a_commit_that_is_known_to_be_bad_is_published_by_force_only(server: Server, zk: KazooClient) -> None:
    def mark() -> str:
        bad = server.clone.commit({"index.html": os.urandom(4).hex()})
        why = {"reason": "web1 failed: no", "since": "2026-11-24T10:15:30+00:00", "by": "web1", "generation": 1}
        zk.create(f"{server.app}/bad/{bad}", json.dumps(why).encode(), makepath=True)
        return bad

    bad, why = mark(), "is known to be bad: web1 failed: no (since 2026-11-24T10:15:30+00:00, by web1)"
    server.installed()
    assert f"the push is done, but not published: {bad} {why}" in " ".join(server.push().said)
    refused = mark()
    server.installed(refuse=True)
    done = server.push()
    assert f"the push is refused, because it could not be published: {refused} {why}" in " ".join(done.said)
    assert (done.status, server.head(), published(zk, server.app)) == (1, bad, {})
    server.installed(refuse=True, force=True)
    assert server.push().status == 0
    assert published(zk, server.app)["commitId"] == refused


@pytest.mark.parametrize("force", [False, True], ids=["", "force"])
def test_nothing_is_published_while_somebody_holds_the_lock(server: Server, zk: KazooClient, force: bool) -> None:
    server.installed()
    server.push()
    first = server.clone.head
    lock = {"reason": "migration", "by": "ann", "since": "2026-11-29T08:00:00+00:00"}
    zk.set(f"{server.app}/lock", json.dumps(lock).encode())
    why = f"{server.app}/lock: locked by ann since {lock['since']} without an end: migration; push"
    second = server.clone.commit({"index.html": "second"})
    server.installed(force=force)
    done = server.push()
    assert f"the push is done, but not published: {why} a further commit, or publish" in " ".join(done.said)
    assert (server.head(), published(zk, server.app)["commitId"]) == (second, first)
    third = server.clone.commit({"index.html": "third"})
    server.installed(refuse=True, force=force)
    done = server.push()
    assert f"the push is refused, because it could not be published: {why} again, when" in " ".join(done.said)
    assert (done.status, server.head()) == (1, second)
    zk.set(f"{server.app}/lock", json.dumps({**lock, "until": "2026-11-29T07:00:00Z"}).encode())
    assert server.push().status == 0
    assert published(zk, server.app)["commitId"] == third


def test_the_pusher_sees_the_phases_of_the_rollout_and_how_it_ends(
    server: Server, agents: Callable[..., Agent], zk: KazooClient
) -> None:
    hooks = {"after_activate": ["/bin/sh", "-c", "! grep -q broken index.html"]}
    fleet = [agents(name, hooks=hooks).start().wait_live() for name in ("server1", "server2")]
    server.installed(wait=True)
    assert server.push().status == 0
    policy = {"rollout": {"minHealthy": 0, "steps": [{"hosts": 1, "soak": 1, "pause": True}]}}
    zk.create(f"{server.app}/policy", json.dumps(policy).encode())
    second = server.clone.commit({"index.html": "second"})
    done = server.push()
    said = [line.partition(f"{second[:10]}: ")[2] for line in done.said[3:]]
    assert "step 1 of 2 soaks for 1 s" in said, done.said
    assert said[-1] == ("the rollout is paused at step 1: step 1 waits for a person; promote it to go on (promote.yml)")
    assert sorted(agent.live() == second for agent in fleet) == [False, True]
    broken = server.clone.commit({"index.html": "broken"})
    failed = server.push().said
    assert f"{broken[:10]}: {server.app}/config: the rollout is halted: server" in failed[-1], failed
    assert "roll back (rollback.yml), or deploy a fix" in failed[-1]


def test_what_is_published_is_what_zk_release_publishes_and_the_subject(server: Server, zk: KazooClient) -> None:
    assert server.installed().push().status == 0
    config, stat = zk.get(f"{server.app}/config")
    (entry,) = zk.get_children(f"{server.app}/history")
    data, entry_stat = zk.get(f"{server.app}/history/{entry}")
    assert (data, entry_stat.czxid) == (config, stat.mzxid)
    found = json.loads(config)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found.pop("publishedAt"))
    assert found == {
        "url": server.url,
        "commitId": server.clone.head,
        "relativePath": "site",
        "ref": "main",
        "publisher": f"{getpass.getuser()}@{socket.gethostname()}",
        "subject": server.clone.git("log", "-1", "--format=%s"),
    }


def test_other_branches_tags_and_deletions_do_not_even_ask_the_ensemble(server: Server) -> None:
    server.installed(hosts=[NOBODY], refuse=True)
    server.clone.git("tag", "-a", "v1", "-m", "v1")
    server.clone.git("branch", "main-2")
    done = server.push("main:topic/main", "v1", "main-2", "main:refs/other/main")
    assert (done.status, done.said) == (0, []), done.output
    done = server.push(":topic/main")
    assert (done.status, done.said) == (0, []), done.output


def test_the_deletion_of_a_chosen_branch_undeploys_nothing(server: Server, zk: KazooClient) -> None:
    server.installed().push()
    before = zk.get(f"{server.app}/config")
    done = server.push(":main")
    assert (done.status, done.said, server.head()) == (0, [], ""), done.output
    assert zk.get(f"{server.app}/config") == before


def test_several_branches_in_one_push_go_each_to_its_app(server: Server, zk: KazooClient) -> None:
    branches = [
        {"branch": "main", "app": server.app, "relative_path": "site"},
        {"branch": "main", "app": f"{server.app}-copy", "relative_path": "copy"},
        {"branch": "staging", "app": f"{server.app}-staging", "relative_path": "site"},
    ]
    server.installed(branches=branches)
    first = server.clone.head
    second = server.clone.commit({"index.html": "two\n"})
    done = server.push(f"{first}:refs/heads/main", f"{second}:refs/heads/staging", "main:refs/heads/else")
    assert (done.status, len(done.said)) == (0, 6), done.output
    assert [line for line in done.said if "anybody who reaches the ensemble can deploy" in line] == done.said[1::2]
    seen = [(published(zk, one["app"])["commitId"], published(zk, one["app"])["relativePath"]) for one in branches]
    assert seen == [(first, "site"), (first, "copy"), (second, "site")]


@pytest.mark.parametrize(
    ("symbolic", "real", "pushed"),
    [("main", "trunk", ["main:trunk"]), ("prod", "main", ["main:prod"]), ("prod", "main", ["main", "main:prod"])],
)
def test_a_branch_that_is_moved_by_a_push_to_its_other_name_is_published(
    server: Server, zk: KazooClient, symbolic: str, real: str, pushed: list[str]
) -> None:
    server.installed(refuse=True).push(f"main:{real}")
    names = (f"refs/heads/{symbolic}", f"refs/heads/{real}")
    subprocess.run(["git", f"--git-dir={server.bare}", "symbolic-ref", *names], check=True)
    commit = server.clone.commit({"index.html": "two\n"})
    done = server.push(*pushed)
    assert (done.status, server.head()) == (0, commit), done.output
    assert len([line for line in done.said if "is published" in line]) == 1
    assert f"zoo.deploy: main {commit[:10]} is published to {server.app}" in done.output
    assert (published(zk, server.app)["commitId"], published(zk, server.app)["ref"]) == (commit, "main")


@pytest.mark.parametrize(("configured", "pushed"), [("prod", "main"), ("main", "main:prod")])
def test_a_push_that_creates_a_branch_is_refused_too_if_its_other_name_leads_nowhere_yet(
    server: Server, configured: str, pushed: str
) -> None:
    branches = [{"branch": configured, "app": server.app, "relative_path": "site"}]
    server.installed(refuse=True, branches=branches, hosts=["127.0.0.1:1"], connect_timeout=1)
    names = ("refs/heads/prod", "refs/heads/main")
    subprocess.run(["git", f"--git-dir={server.bare}", "symbolic-ref", *names], check=True)
    done = server.push(pushed)
    assert (done.status, server.head()) == (1, ""), done.output


def test_an_application_that_refuses_does_not_prevent_the_release_of_another(server: Server, zk: KazooClient) -> None:
    closed_application(zk, server.app, make_acl("world", "anyone", read=True))
    branches = [
        {"branch": "main", "app": server.app, "relative_path": "site"},
        {"branch": "main", "app": f"{server.app}-copy", "relative_path": "site"},
    ]
    done = server.installed(branches=branches).push()
    assert (done.status, len(done.said)) == (0, 3), done.output
    assert "the push is done, but not published: " in done.said[0]
    assert "permission denied (NoAuth)" in done.said[0]
    assert published(zk, f"{server.app}-copy")["commitId"] == server.clone.head


def test_a_force_push_goes_back_and_the_same_commit_is_published_once(server: Server, zk: KazooClient) -> None:
    server.installed()
    first = server.clone.head
    second = server.clone.commit({"index.html": "two\n"})
    server.push()
    assert published(zk, server.app)["commitId"] == second
    server.push("--force", f"{first}:refs/heads/main")
    assert published(zk, server.app)["commitId"] == first
    before = zk.get(f"{server.app}/config")
    server.push(":main")
    done = server.push(f"{first}:refs/heads/main")
    assert done.said == [f"zoo.deploy: main {first[:10]} is what {server.app} has already"]
    assert zk.get(f"{server.app}/config") == before
    server.installed(force=True).push(":main")
    server.push(f"{first}:refs/heads/main")
    assert published(zk, server.app)["commitId"] == first
    assert zk.exists(f"{server.app}/config").mzxid > before[1].mzxid


def test_the_commit_of_an_earlier_push_is_not_published_over_that_of_a_later_one(
    server: Server, zk: KazooClient
) -> None:
    server.installed()
    first = server.clone.head
    second = server.clone.commit({"index.html": "two\n"})
    server.push()
    # As when the hook of the first of two pushes runs late.
    late = subprocess.run(
        [str(server.hooks / "post-receive")],
        cwd=server.bare,
        input=f"{'0' * 40} {first} refs/heads/main\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"main {first[:10]} is not published to {server.app}: the branch has moved on" in late.stderr
    assert published(zk, server.app)["commitId"] == second


def test_the_git_servers_name_of_the_pusher_takes_precedence_over_a_web_servers(
    server: Server, zk: KazooClient
) -> None:
    server.installed()
    for environment, expected in (
        ({"REMOTE_USER": "web"}, "web"),
        ({"REMOTE_USER": "web", "GL_USER": "gitolite"}, "gitolite"),
        ({"REMOTE_USER": "web", "GL_USER": "", "GITEA_PUSHER_NAME": "gitea"}, "gitea"),
        ({"GL_USERNAME": "a\x1b[31m\nb"}, "a?[31m?b"),
    ):
        server.clone.commit({"index.html": expected})
        assert server.push(**environment).status == 0
        assert published(zk, server.app)["publisher"] == expected


def test_a_failed_publication_is_reported_in_one_line_and_the_push_is_done(server: Server, zk: KazooClient) -> None:
    server.installed(hosts=[NOBODY], connect_timeout=0.5)
    done = server.push()
    assert (done.status, server.head()) == (0, server.clone.head), done.output
    (line,) = done.said
    assert line.startswith(f"zoo.deploy: the push is done, but not published: can't reach ZooKeeper at {NOBODY}")
    server.installed()
    server.clone.commit({"index.html": "two\n"})
    server.push()
    assert published(zk, server.app)["commitId"] == server.clone.head


def test_a_push_that_cannot_be_published_is_refused_if_so_configured(server: Server) -> None:
    server.installed(hosts=[NOBODY], connect_timeout=0.5, refuse=True)
    done = server.push("main", "main:topic")
    assert (done.status, server.head(), server.head("refs/heads/topic")) == (1, "", ""), done.output
    (line,) = done.said
    assert line.startswith("zoo.deploy: the push is refused, because it could not be published: can't reach ZooKeeper")


def test_a_publisher_who_may_not_write_is_refused_and_the_check_leaves_no_trace(
    server: Server, zk: KazooClient
) -> None:
    read, everything = make_acl("world", "anyone", read=True), make_digest_acl("hook", "secret", all=True)
    closed_application(zk, server.app, read, everything)
    server.installed(refuse=True)
    done = server.push()
    assert (done.status, server.head()) == (1, ""), done.output
    (line,) = done.said
    assert f"could not be published: {server.app}/history: permission denied (NoAuth)" in line
    assert zk.get_children(server.app) == []
    server.installed(refuse=True, digest_username="hook", digest_password="secret")
    done = server.push()
    assert (done.status, len(done.said)) == (0, 1), done.output
    assert zk.get_children(f"{server.app}/history") == ["release-0000000000"]
    assert zk.get(f"{server.app}/config")[1].version == 0


def test_what_a_push_creates_has_the_configured_acl(server: Server, zk: KazooClient) -> None:
    acl = [
        {"scheme": "digest", "id": "hook", "password": "secret", "perms": ["all"]},
        {"scheme": "world", "perms": ["read"]},
    ]
    done = server.installed(refuse=True, digest_username="hook", digest_password="secret", acl=acl).push()
    assert done.status == 0, done.output
    # ZooKeeper shows the hash of a password only to clients that may administer the znode.
    wanted = {make_acl("world", "anyone", read=True), make_acl("digest", "hook:x", all=True)}
    for path in (server.app, f"{server.app}/config", f"{server.app}/history"):
        assert set(zk.get_acls(path)[0]) == wanted, path


def test_a_push_is_signed_with_the_configured_key_and_hosts_that_require_signatures_deploy_it(
    server: Server, zk: KazooClient, agents: Callable[..., Agent], tmp_path: Path
) -> None:
    signer, signers = Signer(tmp_path, "hook"), tmp_path / "signers"
    signers.write_text(signer.line)
    agent = agents(require_signature=str(signers)).start().wait_live()
    signer.commit(server.clone, "first")
    server.installed(refuse=True, wait=True, wait_timeout=30).push()
    wait_for(lambda: "its record is not signed" in (agent.status.get("message") or ""), "it is refused")
    server.installed(refuse=True, wait=True, wait_timeout=30, sign_with=str(signer.key), sign_days=30)
    second = signer.commit(server.clone, "second")
    done = server.push()
    assert (done.status, agent.live()) == (0, second), done.output
    record = published(zk, server.app)
    assert (record["serial"], record["app"], record["commitId"]) == (1, server.app, second)
    # A key that can't sign is found before the push is done.
    signer.key.write_text("no key\n")
    server.clone.commit({"index.html": "third"})
    done = server.push()
    assert (done.status, server.head()) == (1, second), done.output
    said = f"zoo.deploy: the push is refused, because it could not be published: sign_with: {signer.key}: ssh-keygen"
    assert done.said[0].startswith(said)
    signer.key.unlink()
    done = server.push()
    assert f'sign_with: no file at "{signer.key}"' in done.said[0]


def test_a_push_is_refused_if_its_record_would_not_be_published(
    server: Server, zk: KazooClient, tmp_path: Path
) -> None:
    signer, signers = Signer(tmp_path, "hook"), tmp_path / "signers"
    signers.write_text(Signer(tmp_path, "other").line)
    done = server.installed(refuse=True, sign_with=str(signer.key), signers=str(signers)).push()
    assert (done.status, server.head()) == (1, ""), done.output
    begin = "zoo.deploy: the push is refused, because it could not be published: sign_with: "
    assert done.said[0].startswith(f"{begin}{signer.key}: it is signed by nobody in {signers}")
    assert zk.exists(f"{server.app}/config") is None


def test_a_push_without_a_key_after_a_signed_one_causes_a_warning(
    server: Server, zk: KazooClient, tmp_path: Path
) -> None:
    signer, signers = Signer(tmp_path, "hook"), tmp_path / "signers"
    signers.write_text(signer.line)
    done = server.installed(sign_with=str(signer.key), signers=str(signers)).push()
    assert (done.status, published(zk, server.app)["serial"]) == (0, 1), done.output
    server.clone.commit({"index.html": "next"})
    done = server.installed().push()
    assert "signature" not in published(zk, server.app)
    said = "the previous release was signed, and this one is not: a host that demands a signature refuses it; give"
    assert any(said in line for line in done.said), done.output


@pytest.fixture
def pushers(server: Server, tmp_path: Path) -> Path:
    """The file of the signers whose pushes are published: alice, and carol for records only; mallory is not in it."""
    subprocess.run(["git", "config", "receive.certNonceSeed", "of the tests"], cwd=server.bare, check=True)
    names = {"alice": "", "carol": 'namespaces="zoo.deploy" ', "mallory": ""}
    lines = [Signer(tmp_path, name).line.replace(" ", f" {options}", 1) for name, options in names.items()]
    path = tmp_path / "pushers"
    path.write_text("".join(lines[:2]))
    subprocess.run(["git", "config", "gpg.ssh.allowedSignersFile", str(path)], cwd=server.bare, check=True)
    return path


def push_signed(server: Server, key: Path, refs: str = "main") -> Push:
    """Push a further commit with a certificate that is signed with a key."""
    server.clone.commit({"index.html": uuid.uuid4().hex})
    signing = {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "gpg.format", "GIT_CONFIG_VALUE_0": "ssh"}
    key_of = {"GIT_CONFIG_KEY_1": "user.signingKey", "GIT_CONFIG_VALUE_1": str(key)}
    return server.push("--signed=true", refs, **signing, **key_of)


def test_only_a_push_that_one_of_the_pushers_has_signed_is_published(
    server: Server, zk: KazooClient, pushers: Path
) -> None:
    server.installed(pushers=str(pushers))
    done = push_signed(server, pushers.with_name("alice"))
    assert done.said[0].endswith(f"is published to {server.app} by alice@example.org"), done.output
    assert "error" not in done.output
    record = published(zk, server.app)
    assert (record["commitId"], record["publisher"]) == (server.clone.head, "alice@example.org")
    begin = "zoo.deploy: the push is done, but not published: the push"
    for name, said in (
        ("mallory", f"{begin} does not count: it is signed by nobody in {pushers}: No principal matched."),
        ("carol", f"{begin} does not count: its signature does not count: "),
    ):
        done = push_signed(server, pushers.with_name(name))
        assert done.said[0].startswith(said), done.output
        assert server.head() == server.clone.head
    server.clone.commit({"index.html": "by nobody"})
    done = server.push(GITEA_PUSHER_NAME="alice@example.org")
    assert done.said == [f"{begin} is not signed; push with --signed, by a key of git_hook_pushers"], done.output
    assert published(zk, server.app) == record
    symbolic = ["git", "symbolic-ref", "refs/heads/production", "refs/heads/main"]
    subprocess.run(symbolic, cwd=server.bare, check=True)
    done = push_signed(server, pushers.with_name("alice"), "main:production")
    assert (done.status, published(zk, server.app)["commitId"]) == (0, server.clone.head), done.output


def test_a_push_without_a_valid_certificate_is_refused_and_an_earlier_certificate_is_useless(
    server: Server, zk: KazooClient, pushers: Path
) -> None:
    server.installed(refuse=True, pushers=str(pushers))
    first = push_signed(server, pushers.with_name("alice"))
    assert first.status == 0, first.output
    before = server.head(), published(zk, server.app)
    git = ["git", f"--git-dir={server.bare}", "cat-file"]
    listed = subprocess.run([*git, "--batch-all-objects", "--batch-check"], capture_output=True, text=True, check=True)
    blobs = [line.split()[0] for line in listed.stdout.splitlines() if " blob " in line]
    texts = [subprocess.run([*git, "blob", blob], capture_output=True, check=True).stdout for blob in blobs]
    assert sum(text.startswith(b"certificate version") for text in texts) == 1
    begin = "zoo.deploy: the push is refused, because it could not be published: the push"
    done = push_signed(server, pushers.with_name("mallory"))
    assert done.said[0].startswith(f"{begin} does not count: it is signed by nobody in {pushers}"), done.output
    for blob in blobs:
        done = server.push(GIT_PUSH_CERT=blob, GIT_PUSH_CERT_NONCE_STATUS="OK")
        assert done.said == [f"{begin} that is signed is not that of {server.clone.head} to main"], done.output
    done = server.push(GIT_PUSH_CERT=blobs[0], GIT_PUSH_CERT_NONCE_STATUS="BAD")
    assert [line.partition("; ")[0] for line in done.said] == [f"{begin} is not the one that was signed just now"]
    assert (server.head(), published(zk, server.app)) == before


def packet(line: str) -> bytes:
    """A line in the format of git's protocol."""
    return f"{len(line) + 4:04x}{line}".encode()


def asked_nonce(server: Server) -> str:
    """The nonce that git asks those who push over HTTP to sign."""
    command = ["git", "receive-pack", "--stateless-rpc", "--http-backend-info-refs", str(server.bare)]
    said = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    return said.partition("push-cert=")[2].split()[0]


def certificate(nonce: str, *commands: str) -> str:
    """The certificate that is signed in a push with `--signed`."""
    lines = ["certificate version 0.1", "pusher a 1 +0000", f"nonce {nonce}", "", *commands]
    return "".join(f"{line}\n" for line in lines)


def push_request(server: Server, text: str, signature: str, *unsigned: str) -> bytes:
    """What `git push --signed` sends over HTTP, with the clone's commits; the `unsigned` commands are not signed."""
    lines = ["push-cert\0report-status\n", *f"{text}{signature}".splitlines(keepends=True), "push-cert-end\n"]
    pack = ["git", "pack-objects", "--quiet", "--stdout", "--revs"]
    revisions = f"{server.clone.head}\n".encode()
    objects = subprocess.run(pack, cwd=server.clone.path, input=revisions, capture_output=True, check=True).stdout
    return b"".join(map(packet, [*lines, *unsigned])) + b"0000" + objects


def signed_request(server: Server, key: Path, nonce: str, branch: str = "main", unsigned: str | None = None) -> bytes:
    """Such a request for a further commit, signed with a key; its command for the branch `unsigned` is not signed."""
    before = server.clone.head
    server.clone.commit({"index.html": uuid.uuid4().hex})
    ref = f"refs/heads/{branch}"
    text = certificate(nonce, f"{server.head(ref) or '0' * 40} {server.clone.head} {ref}")
    more = [f"{before} {server.clone.head} refs/heads/{unsigned}"] if unsigned else []
    return push_request(server, text, sign(text, key), *more)


def sign(text: str, key: Path) -> str:
    """The signature of a text, as git makes it."""
    command = ["ssh-keygen", "-Y", "sign", "-n", "git", "-f", str(key)]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def received(server: Server, content: bytes) -> str:
    """Return what a server prints about a push over HTTP; it accepts certificates for an hour here."""
    subprocess.run(["git", f"--git-dir={server.bare}", "config", "receive.certNonceSlop", "3600"], check=True)
    receive = ["git", "receive-pack", "--stateless-rpc", str(server.bare)]
    return subprocess.run(receive, input=content, capture_output=True, check=True).stderr.decode()


@pytest.mark.parametrize("configured", [[], ["core.useReplaceRefs", "true"]])
def test_a_pushed_ref_replaces_no_certificate(
    server: Server, zk: KazooClient, pushers: Path, configured: list[str]
) -> None:
    server.installed(pushers=str(pushers))
    if configured:
        subprocess.run(["git", f"--git-dir={server.bare}", "config", *configured], check=True)
    first = server.clone.head
    text = certificate("another server's", f"{'0' * 40} {first} refs/heads/main")
    signed = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"],
        cwd=server.clone.path,
        input=text + sign(text, pushers.with_name("alice")),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert push_signed(server, pushers.with_name("alice")).status == 0
    second = server.clone.head
    text = certificate(asked_nonce(server), f"{second} {first} refs/heads/main")
    signature = sign(text, pushers.with_name("mallory"))
    command = ["git", "hash-object", "--stdin"]
    own = subprocess.run(command, input=text + signature, capture_output=True, text=True, check=True).stdout.strip()
    assert server.push(f"{signed}:refs/replace/{own}").status == 0
    said = received(server, push_request(server, text, signature))
    assert "the push does not count: it is signed by nobody in" in said
    assert (server.head(), published(zk, server.app)["commitId"]) == (first, second)


def test_a_commit_that_a_pusher_has_signed_is_not_a_certificate(server: Server, zk: KazooClient, pushers: Path) -> None:
    server.installed(pushers=str(pushers))
    ref = f"{'0' * 40} {server.clone.head} refs/heads/main"
    # git keeps headers that it does not know when somebody amends and signs another's commit.
    text = f"tree {'0' * 40}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\nnonce {asked_nonce(server)}\n\n{ref}\n"
    said = received(server, push_request(server, text, sign(text, pushers.with_name("alice"))))
    assert f"the push that is signed is not that of {server.clone.head} to main" in said
    assert (server.head(), published(zk, server.app)) == (server.clone.head, {})


def test_a_push_signed_with_another_kind_of_key_is_answered_with_the_right_kind(
    server: Server, zk: KazooClient, pushers: Path
) -> None:
    server.installed(pushers=str(pushers))
    text = certificate(asked_nonce(server), f"{'0' * 40} {server.clone.head} refs/heads/main")
    signature = "-----BEGIN PGP SIGNATURE-----\n\niHUEABYKAB0=\n-----END PGP SIGNATURE-----\n"
    said = received(server, push_request(server, text, signature))
    assert "not published: the push is not signed by a key of SSH; git config gpg.format ssh, and push again" in said
    assert (server.head(), published(zk, server.app)) == (server.clone.head, {})


def test_a_branch_that_somebody_adds_to_a_signed_push_is_not_published(
    server: Server, zk: KazooClient, pushers: Path
) -> None:
    assert server.push().status == 0
    server.installed(pushers=str(pushers))
    content = signed_request(server, pushers.with_name("alice"), asked_nonce(server), "staging", unsigned="main")
    said = received(server, content)
    # git itself accepts the unsigned command along with the signed one.
    assert server.head() == server.head("refs/heads/staging") == server.clone.head
    assert f"the push that is signed is not that of {server.clone.head} to main" in said
    assert not published(zk, server.app)


def test_the_request_of_a_signed_push_over_http_cannot_be_replayed(
    server: Server, zk: KazooClient, pushers: Path
) -> None:
    assert server.push().status == 0
    server.installed(pushers=str(pushers))
    git = ["git", f"--git-dir={server.bare}"]
    receive = ["git", "receive-pack", "--stateless-rpc", str(server.bare)]
    before, nonce = server.head(), asked_nonce(server)
    content = signed_request(server, pushers.with_name("alice"), nonce)
    wait_for(lambda: asked_nonce(server) != nonce, "git asks for another nonce, as it does each second")
    said = received(server, content)
    record = published(zk, server.app)
    assert (record["commitId"], record["publisher"]) == (server.clone.head, "alice@example.org"), said
    subprocess.run([*git, "config", "receive.certNonceSlop", "0"], check=True)
    zk.delete(f"{server.app}/config")
    subprocess.run([*git, "update-ref", "refs/heads/main", before], check=True)
    done = subprocess.run(receive, input=content, capture_output=True, check=True)
    assert server.head() == server.clone.head
    assert b"the push is not the one that was signed just now; push again, and over HTTP set" in done.stderr
    assert not published(zk, server.app)


class Newer:
    """A client of a server since ZooKeeper 3.9, which reveals nothing of a znode to clients that may not read it."""

    def __init__(self, client: KazooClient, hidden: str) -> None:
        self._client = client
        self._hidden = hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def exists(self, path: str) -> Any:
        """The client's answer, or NoAuthError for the hidden znode."""
        if path == self._hidden:
            raise NoAuthError
        return self._client.exists(path)


def test_the_parent_of_an_application_need_not_be_readable(
    zk: KazooClient, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROLE / "files" / "program"))
    rehearse = importlib.import_module("zoo_git_hook.rehearsal").rehearse
    zk.ensure_path(app)
    rehearse(Newer(zk, app.rsplit("/", 1)[0]), AppPaths(app))
    assert zk.get_children(app) == []


def test_an_invalid_policy_is_found_before_the_push_is_done(server: Server, zk: KazooClient) -> None:
    zk.create(f"{server.app}/policy", b'{"rollout": {"steps": 5}}', makepath=True)
    done = server.installed(refuse=True).push()
    assert (done.status, server.head()) == (1, ""), done.output
    (line,) = done.said
    assert f"could not be published: {server.app}/policy: rollout.steps: expected a list" in line


def test_a_missing_chroot_is_found_before_the_push_is_done(server: Server) -> None:
    done = server.installed(refuse=True, hosts=f"{server.hosts}/no/such/chroot".split(",")).push()
    assert (done.status, server.head()) == (1, ""), done.output
    assert "no such znode (NoNode)" in done.said[0]


def test_ctrl_c_does_not_come_between_a_push_and_its_publication(server: Server, zk: KazooClient) -> None:
    server.installed()
    hook = server.hooks / "post-receive.before-zoo-deploy"
    # The terminal's Ctrl-C goes to every program of the push, at the worst moment.
    hook.write_text("#!/bin/sh\ncat > /dev/null\nkill -INT 0\n")
    hook.chmod(0o755)
    process = server.begin_push()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    wait_for(lambda: published(zk, server.app).get("commitId") == server.clone.head, "the commit is published")


def test_ctrl_c_does_not_end_a_publication_that_waits_for_the_ensemble(server: Server, tmp_path: Path) -> None:
    with lonely_ensemble(tmp_path / "zookeeper") as (servers, client):
        server.installed(hosts=[servers.hosts])
        servers.members[0].signal(signal.SIGSTOP)
        process = server.begin_push()
        wait_for(lambda: running(server.role.config), "the hook's program runs")
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
        servers.members[0].signal(signal.SIGCONT)
        wait_for(lambda: published(client, server.app).get("commitId") == server.clone.head, "the commit is published")


def running(config: Path) -> bool:
    """Whether the hook's program runs with this configuration and has passed the start of Python."""
    found = [one.pid for one in psutil.process_iter(["cmdline"]) if str(config) in (one.info["cmdline"] or [])]
    return any(int(_status_of(pid)["SigIgn"], 16) & 1 << signal.SIGTERM - 1 for pid in found)


def _status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _colon, value in (line.partition(":") for line in lines)}


def test_ctrl_c_ends_the_waiting_and_not_the_deployment(
    server: Server, agents: Callable[..., Agent], zk: KazooClient
) -> None:
    agent = agents()
    server.installed(wait=True)
    process = server.begin_push()
    assert process.stderr is not None
    wait_for(lambda: "waiting for the servers" in process.stderr.readline(), "the push waits")  # type: ignore[union-attr]
    os.killpg(process.pid, signal.SIGINT)
    assert "Traceback" not in process.communicate(timeout=60)[1]
    assert server.head() == server.clone.head
    agent.start().wait_outcome(zk.get(f"{server.app}/config")[1].mzxid)
    assert agent.live() == server.clone.head


def test_a_fleet_that_does_not_prove_the_release_is_reported_in_its_own_words(
    server: Server, agents: Callable[..., Agent]
) -> None:
    agent = agents(hooks={"before_activate": ["sh", "-c", "echo no room; exit 4"]}).start().wait_live()
    done = server.installed(wait=True).push()
    assert done.status == 0, done.output
    assert "not deployed on 1 of 1" in done.said[-1]
    assert "no room" in done.said[-1]
    agent.end()
    server.clone.commit({"index.html": "two\n"})
    done = server.installed(wait=True, wait_timeout=0.5, min_agents=3).push()
    assert "waiting for agents: 0 live, at least 3 required" in done.said[-1]


def test_an_existing_hook_runs_too_and_is_restored_when_ours_is_removed(server: Server, zk: KazooClient) -> None:
    write_hook(server, f"#!/bin/sh\ncat > {server.root}/heard\n")
    before = server.files
    run = server.apply("--check", "--diff")
    assert (run.failed, run.changed > 0, server.files) == (0, True, before), run.output
    acl = [{"scheme": "digest", "id": "other", "password": "other-secret-word", "perms": ["read"]}]
    run = server.apply("--diff", git_hook_acl=acl)
    assert (run.failed, run.changed > 0, "secret-word" in run.output) == (0, True, False), run.output
    run = server.apply("--diff", git_hook_digest_username="hook", git_hook_digest_password="secret-word")
    assert (run.failed, run.changed > 0, "secret-word" in run.output) == (0, True, False), run.output
    (config,) = (server.root / "etc").iterdir()
    assert config.stat().st_mode & 0o777 == 0o600
    # Nor as the previous content.
    run = server.apply("--diff")
    assert (run.failed, run.changed > 0, "secret-word" in run.output) == (0, True, False), run.output
    server.push("main", "main:topic")
    heard = (server.root / "heard").read_text().splitlines()
    assert [line.split()[2] for line in heard] == ["refs/heads/main", "refs/heads/topic"]
    assert published(zk, server.app)["commitId"] == server.clone.head
    elsewhere = str(server.root / "elsewhere")
    for changed in (True, False):
        run = server.apply(git_hook_state="absent", git_hook_install_dir=elsewhere)
        assert (run.failed, run.changed > 0, server.files) == (0, changed, before), run.output
        assert not (server.root / "etc").exists()


def write_hook(server: Server, text: str) -> None:
    """Install somebody else's hook."""
    hook = server.hooks / "post-receive"
    hook.write_text(text)
    hook.chmod(0o755)


def test_a_hook_that_took_the_place_of_ours_is_not_lost(server: Server) -> None:
    server.installed()
    (server.hooks / "post-receive.before-zoo-deploy").write_text("#!/bin/sh\n# the first\n")
    write_hook(server, "#!/bin/sh\n# another, post-receive.d/ is not for it\n")
    before = server.files
    run = server.apply()
    assert run.failed == 1
    assert "has been replaced since this role put its own there" in run.output
    assert server.files == before


def test_a_hook_that_runs_a_directory_of_hooks_stays_as_it_is(server: Server, zk: KazooClient) -> None:
    write_hook(server, GITEA)
    before = server.files
    assert server.apply().failed == 0
    assert set(server.files) - set(before) == {"post-receive.d/zoo-deploy"}
    server.push()
    assert published(zk, server.app)["commitId"] == server.clone.head
    assert server.apply(git_hook_state="absent", git_hook_install_dir=str(server.root / "elsewhere")).failed == 0
    assert server.files == before


def test_a_second_run_changes_nothing_and_unsetting_refuse_removes_its_hook(applied: Server) -> None:
    for words in ((), ("--check",)):
        run = applied.apply(*words, git_hook_refuse=True)
        assert (run.failed, run.changed) == (0, 0), run.output
    before = applied.files
    run = applied.apply("--check", git_hook_state="absent")
    assert (run.failed, run.changed > 0, applied.files) == (0, True, before), run.output
    assert applied.apply().failed == 0
    assert set(before) - set(applied.files) == {"pre-receive", "pre-receive.d/zoo-deploy"}


def test_the_program_is_removed_with_the_last_repository_of_a_host(server: Server, tmp_path: Path) -> None:
    (tmp_path / "opt").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "another.json").write_text("{}")
    for left in (True, False):
        assert server.apply(git_hook_state="absent", git_hook_install_dir=str(tmp_path / "opt")).failed == 0
        assert ((tmp_path / "opt").exists(), (tmp_path / "etc").exists()) == (left, left)
        (tmp_path / "etc" / "another.json").unlink(missing_ok=True)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"git_hook_repository": "/nonexistent.git"}, "expected a bare repository, got /nonexistent.git"),
    ({"git_hook_hosts": []}, "expected git_hook_hosts, git_hook_url and git_hook_branches"),
    ({"git_hook_url": "ext::sh -c evil"}, "is not a repository address"),
    (
        {
            "git_hook_branches": [
                {"branch": "main", "app": "/a", "relative_path": "../x"},
                {"branch": "b", "app": "/a", "relative_path": "x"},
            ]
        },
        "branches[0]: relativePath: expected a normalised relative path",
    ),
    (
        {"git_hook_branches": [{"branch": "main", "app": "/a", "relativ_path": "x"}]},
        'git_hook_branches[0]: no such key "relativ_path"; did you mean relative_path',
    ),
    ({"git_hook_wait": "perhaps"}, "git_hook_wait"),
    ({"git_hook_wait_timeout": 0}, "wait_timeout: expected more than 0 and at most 1000000000 seconds, got 0"),
    ({"git_hook_python": "/bin/false"}, "/bin/false does not run as Python on this host"),
]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory, role: Role) -> list[tuple[Server, dict[str, Any], Run]]:
    """For each of `REFUSED` a server, the hooks that it had, and the role's run there; applied to all at once.

    After them come one whose repository has its hooks elsewhere, and one whose repository has a work tree.
    """
    root = tmp_path_factory.mktemp("refused")
    servers = []
    for number in range(len(REFUSED) + 2):
        directory = root / f"h{number}"
        directory.mkdir()
        servers.append(Server(directory, role, GitRepository(directory / "clone"), NOBODY, "/app/any"))
        bare_repository(servers[-1].bare)
    told = [server.told(**variables) for server, (variables, _words) in zip(servers, REFUSED)]
    elsewhere, strange = servers[-2:]
    subprocess.run(["git", "config", "core.hooksPath", "/srv/hooks"], cwd=elsewhere.bare, check=True)
    clone = GitRepository.create(strange.clone.path)
    told += [elsewhere.told(), strange.told(git_hook_repository=str(clone.path / ".git"))]
    before = [server.files for server in servers]
    hosts = {server.root.name: variables for server, variables in zip(servers, told)}
    runs = run_on_hosts(root, {"roles": ["zoo.deploy.git_hook"]}, hosts)
    return [(server, files, runs[server.root.name]) for server, files in zip(servers, before)]


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[words for _variables, words in REFUSED])
def test_a_mistake_is_reported_clearly_and_installs_no_hook(
    refused: list[tuple[Server, dict[str, Any], Run]], number: int
) -> None:
    server, before, run = refused[number]
    assert run.failed == 1
    assert REFUSED[number][1] in run.output.replace('\\"', '"')
    assert server.files == before


def test_a_repository_whose_hooks_are_elsewhere_is_refused(
    refused: list[tuple[Server, dict[str, Any], Run]],
) -> None:
    server, _before, run = refused[-2]
    assert run.failed == 1
    assert f"core.hooksPath has the hooks of {server.bare} in /srv/hooks" in run.output


def test_a_repository_with_a_work_tree_is_refused(refused: list[tuple[Server, dict[str, Any], Run]]) -> None:
    _server, _before, run = refused[-1]
    assert run.failed == 1
    assert "it is not bare" in run.output
