"""The git hook's program by itself: without one of its libraries, and with names that are not text."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.repository import GitRepository

PROGRAM = Path(__file__).resolve().parents[3] / "roles" / "git_hook" / "files" / "program"
OUTCOMES = {
    "pre-receive": "the push is refused, because it could not be published",
    "post-receive": "the push is done, but not published",
}
NO_PUBLIC_HALF = (
    "sign_with: /etc/hostname: its public half is not known, by which to verify what is published; give signers, the "
    "file of all who may publish, or have it in /etc/hostname.pub"
)
UPDATE = f"{'0' * 40} {'1' * 40} refs/heads/main\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that publishes the branch main."""
    branch = {"branch": "main", "app": "/app/site", "relative_path": "site"}
    path = tmp_path / "hook.json"
    path.write_text(json.dumps({"url": "ssh://git/site.git", "hosts": ["127.0.0.1:1"], "branches": [branch]}))
    return path


@pytest.mark.parametrize("command", OUTCOMES)
def test_without_kazoo_a_push_is_answered_in_one_line(config: Path, command: str) -> None:
    script = f"""
import sys
sys.modules["kazoo"] = None
sys.path.insert(0, {str(PROGRAM)!r})
from zoo_git_hook.hook import main
sys.exit(main([{command!r}, "--config", {str(config)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], input=UPDATE, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    missing = f"the Python library kazoo is missing; install it for {sys.executable}, or apply the role again"
    assert done.stdout + done.stderr == f"zoo.deploy: {OUTCOMES[command]}: {missing}\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"min_agents": 2, "max_failures": "10%", "max_missing": 0}, "2 10% 0\n"),
        ({"min_agents": "many"}, 'expected a whole number of agents or a percentage such as "80%", got "many"'),
        ({"max_failures": True}, 'expected a whole number of agents or a percentage such as "80%", got true'),
    ],
)
def test_how_many_servers_are_waited_for_is_a_number_or_a_percentage(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    branch = {"branch": "main", "app": "/app/site", "relative_path": "site"}
    config = tmp_path / "hook.json"
    content = {"url": "ssh://git/site.git", "hosts": ["127.0.0.1:1"], "branches": [branch], **given}
    config.write_text(json.dumps(content))
    script = f"""
import sys
sys.path.insert(0, {str(PROGRAM)!r})
from zoo_git_hook.config import HookConfig
options = HookConfig.load({str(config)!r}).options
print(options["min_agents"], options["max_failures"], options["max_missing"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert said in done.stdout + done.stderr


def test_a_tls_key_without_tls_is_refused_where_the_configuration_is_checked(config: Path) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), "tls_ca": "/etc/ca.pem", "tls_verify": False}))
    command = [sys.executable, str(PROGRAM), "check", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wanted = "tls_ca, tls_verify: given without tls, so nothing would be encrypted; set tls: true"
    assert (done.returncode, done.stderr) == (1, f"zoo.deploy: {config}: {wanted}\n")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"digest_username": "u"}, "digest_username and digest_password: give both or neither"),
        ({"sasl_mechanism": "DIGEST-MD5"}, "sasl_username and sasl_password: DIGEST-MD5 needs both"),
        ({"tls": True, "tls_key": "/etc/hostname"}, "tls_key: given without tls_cert"),
        ({"tls": True, "tls_ca": "/etc/none.pem"}, "tls_ca: no file at /etc/none.pem"),
        ({"hosts": ["a" * 64 + ":1"]}, f"hosts: '{'a' * 64}:1' is not a host name"),
        ({"hosts": ["a:99999"]}, "hosts: expected host:port with a port from 1 to 65535, got 'a:99999'"),
        ({"hosts": ["a:1", ":2181"]}, "hosts: bad hostname"),
        ({"hosts": ["a:1/../x"]}, "hosts: relative paths not allowed"),
        ({"hosts": 5}, "hosts: expected a list of strings, got 5"),
        ({"url": "FILE:///srv/site.git"}, "url: expected file:// as git has it, got FILE://"),
        ({"hosts": None}, "hosts: expected a list of strings, got null"),
        ({"hosts": [{"a": 1}]}, 'hosts: expected a list of strings, got [{"a": 1}]'),
        ({"hosts": []}, "hosts: none given"),
        ({"connect_timeout": 2e6}, "connect_timeout: expected more than 0 and at most 1000000 seconds, got 2000000.0"),
        ({"wait_timeout": 2e9}, "wait_timeout: expected more than 0 and at most 1000000000 seconds, got 2000000000.0"),
        (
            {"retry_timeout": float("nan")},
            "retry_timeout: expected more than 0 and at most 1000000000 seconds, got NaN",
        ),
        ({"pushers": "/etc/none"}, 'pushers: no file at "/etc/none"'),
        ({"signers": "/etc/hostname"}, "signers: only with sign_with, the key that signs the record"),
        ({"sign_with": "/etc/hostname", "signers": "/etc/none"}, 'signers: no file at "/etc/none"'),
        (
            {"sign_with": "/etc/hostname"},
            NO_PUBLIC_HALF,
        ),
    ],
)
def test_options_with_which_no_push_could_be_published_are_refused_where_the_configuration_is_checked(
    config: Path, given: dict[str, Any], line: str
) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), **given}))
    command = [sys.executable, str(PROGRAM), "check", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.replace(f" {config}:", "")) == (1, f"zoo.deploy: {line}\n")


def test_a_pusher_cannot_lead_the_hook_elsewhere_by_the_environment(config: Path, tmp_path: Path) -> None:
    """With git over SSH, pushers may set variables if sshd accepts them (AcceptEnv)."""
    elsewhere = {"ZK_HOSTS": "127.0.0.1:2", "ZK_DIGEST_USERNAME": "other", "ZK_TLS": "yes", "ZK_TLS_VERIFY": "no"}
    words = [sys.executable, str(PROGRAM), "post-receive", "--config", str(config)]
    repository = GitRepository.create(tmp_path / "site")
    update = f"{'0' * 40} {repository.commit({'a': 'b'})} refs/heads/main\n"
    keys = json.loads(config.read_text())
    for hosts, said in ((["127.0.0.1:1"], "can't reach ZooKeeper at 127.0.0.1:1 within 0.1 s"), ([], "none given")):
        config.write_text(json.dumps({**keys, "hosts": hosts, "connect_timeout": 0.1}))
        done = subprocess.run(
            words,
            input=update,
            capture_output=True,
            text=True,
            check=False,
            cwd=repository.path,
            env={**os.environ, **elsewhere},
        )
        assert done.returncode == 1
        assert said in done.stderr


SHAPE = (
    "acl: expected a list of objects with scheme, perms, and as the scheme takes it id or password, all strings; perms "
    "a list of read, write, create, delete, admin, all"
)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"acl": "digest:hook:word"}, SHAPE),
        ({"acl": [{"scheme": "digest", "id": "hook", "passwd": "word", "perms": ["all"]}]}, SHAPE),
        ({"acl": [{"scheme": "digest", "id": "hook", "password": ["word"], "perms": ["all"]}]}, SHAPE),
        ({"acl": [{"scheme": "world", "perms": ["word"]}]}, SHAPE),
        ({"acl": []}, "configuration: acl: expected at least one entry"),
        ({"acl": [{"scheme": "x509", "perms": ["all"]}]}, "configuration: acl: scheme x509 needs an id"),
        (
            {"acl": [{"scheme": "auth", "perms": ["all"]}]},
            "configuration: acl: scheme auth needs digest_username and digest_password; or name the id",
        ),
    ],
)
def test_an_acl_that_no_server_accepts_is_refused_without_showing_its_password(
    config: Path, given: dict[str, Any], line: str
) -> None:
    config.write_text(json.dumps({**json.loads(config.read_text()), **given}))
    command = [sys.executable, str(PROGRAM), "check", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.replace(f" {config}:", "")) == (1, f"zoo.deploy: {line}\n")


@pytest.mark.parametrize("command", OUTCOMES)
def test_a_branch_whose_name_is_not_utf_8_is_pushed_like_any_other(config: Path, command: str) -> None:
    update = f"{'0' * 40} {'1' * 40} refs/heads/".encode() + b"\xe9\n"
    done = subprocess.run(
        [sys.executable, str(PROGRAM), command, "--config", str(config)],
        input=update,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_configuration_that_is_replaced_meanwhile_lets_no_second_hook_publish_beside_the_first(config: Path) -> None:
    newer = config.with_suffix(".new")
    newer.write_bytes(config.read_bytes())
    script = f"""
import contextlib, fcntl, os, sys
sys.path.insert(0, {str(PROGRAM)!r})
from zoo_git_hook import hook

def publish_each(*_arguments):
    os.replace({str(newer)!r}, {str(config)!r})
    fcntl.LOCK_EX |= fcntl.LOCK_NB  # who would wait says so
    try:
        hook.main(command)
    except BlockingIOError:
        print("the second waits")
    return [], []

command = ["post-receive", "--config", {str(config)!r}]
hook._wanted = lambda _config: [None]
hook.connect = lambda *_options: contextlib.nullcontext()
hook.publish_each = publish_each
sys.exit(hook.main(command))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the second waits\n", "")


def test_a_configuration_is_read_once(config: Path) -> None:
    script = f"""
import contextlib, os, sys
sys.path.insert(0, {str(PROGRAM)!r})
from zoo_git_hook import hook

@contextlib.contextmanager
def connect(*_options):
    os.unlink({str(config)!r})
    yield None

hook.connect = connect
hook.publish_each = lambda _client, config, wanted: print(config.url) or ([], [])
sys.exit(hook.main(["post-receive", "--config", {str(config)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], input=UPDATE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ssh://git/site.git\n", "")


def test_what_is_printed_for_a_pusher_does_nothing_to_a_terminal() -> None:
    """A host of the fleet may have written it."""
    script = f"""
import sys
sys.path.insert(0, {str(PROGRAM)!r})
from zoo_git_hook.hook import say
say("a\\x1b[2J\\nb")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "zoo.deploy: a?[2J b\n"


def test_a_subject_is_what_was_written_whatever_the_encoding_of_the_repository(repository: GitRepository) -> None:
    repository.git("config", "i18n.commitEncoding", "ISO-8859-1")
    message = repository.path / "message"
    message.write_bytes("größer".encode("iso-8859-1"))
    repository.git("commit", "--allow-empty", "-qF", str(message))
    script = f"""
import sys
sys.path.insert(0, {str(PROGRAM)!r})
from zoo_git_hook.push import subject
print(ascii(subject("HEAD")))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=repository.path, capture_output=True, text=True, check=True)
    assert done.stdout == "'gr\\xf6\\xdfer'\n"


def test_git_is_not_asked_about_each_of_a_thousand_new_branches(tmp_path: Path) -> None:
    bare = tmp_path / "site.git"
    subprocess.run(["git", "init", "--bare", "--quiet", str(bare)], check=True)
    for name in (b"prod", b"caf\xe9/prod"):
        command = [b"git", b"symbolic-ref", b"refs/heads/" + name, b"refs/heads/main"]
        subprocess.run(command, cwd=bare, check=True)
    script = f"""
import sys
sys.path.insert(0, {str(PROGRAM)!r})
from zoo_git_hook import push

asked = []
said = push._said
push._said = lambda command: asked.append(command) or said(command)
new = ["main", "prod", "caf\\udce9/prod", *(f"new/{{number}}" for number in range(1000))]
print(ascii(push.real_names(new)), len(asked))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=bare, capture_output=True, text=True, check=True)
    assert done.stdout == "{'prod': 'main', 'caf\\udce9/prod': 'main'} 3\n"


@pytest.mark.parametrize("stamp", ['{"python": [3, 8], "packages": ["kazoo"]}', ""])
@pytest.mark.parametrize("failing", ["venv", "pip", "nothing"])
def test_hooks_have_their_environment_until_one_of_another_python_is_complete(
    tmp_path: Path, failing: str, stamp: str
) -> None:
    """Even if nothing records what it was made from."""
    directory = tmp_path / "environment"
    directory.mkdir()
    (directory / "pyvenv.cfg").write_text("old\n")
    (directory / "zoo-git-hook.json").write_text(stamp)
    functions = runpy.run_path(str(PROGRAM.with_name("install.py")))

    def run(command: list[str], advice: str) -> None:
        if command[2] == "venv":
            Path(command[-1]).mkdir(exist_ok=True)
            (Path(command[-1]) / "pyvenv.cfg").write_text("new\n")
            (Path(command[-1]) / "bin").mkdir(exist_ok=True)
            (Path(command[-1]) / "bin/python").symlink_to(sys.executable)
        if failing in command:
            raise functions["InstallError"](advice)

    functions["main"].__globals__["_run"] = run
    order = {"check": False, "environment": str(directory), "packages": ["kazoo"], "pip_args": []}
    if failing == "nothing":
        assert functions["_make_environment"](order)
        assert not functions["_make_environment"](order)
        (directory / "bin/python").unlink()
        assert functions["_make_environment"](order)
        assert not functions["_make_environment"](order)
    else:
        with pytest.raises(functions["InstallError"]):
            functions["_make_environment"](order)
    assert (directory / "pyvenv.cfg").read_text() == ("new\n" if failing == "nothing" else "old\n")
    assert list(tmp_path.iterdir()) == [directory]
