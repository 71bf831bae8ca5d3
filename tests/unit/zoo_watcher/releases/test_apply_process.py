"""The apply process: how it runs, what limits it, and what becomes of it when it or the agent ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zoo_watcher
from support.repository import GitRepository
from support.signer import Signer
from support.waiting import wait_for
from zoo_watcher.config.config import Config
from zoo_watcher.errors import CancelledError, DeployError, KilledError, PassingError
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases import apply, apply_process
from zoo_watcher.releases.apply_process import ApplyProcess, stage_job, tidy_job, verify_job
from zoo_watcher.releases.manifest import Manifest
from zoo_watcher.releases.release_directory import allowed_signers, is_deployable
from zoo_watcher.releases.repository import Access, Repository
from zoo_watcher.wire.records import Release

FIRST_PATH = """
import sys
sys.path.insert(0, sys.argv[1])
from zoo_watcher.releases.apply_process import _environment
print(_environment()["PYTHONPATH"])
"""


def test_a_package_that_is_a_link_is_imported_by_the_name_of_the_link(tmp_path: Path) -> None:
    shutil.copytree(Path(zoo_watcher.__file__).parent, tmp_path / "versions" / "agent-1")
    (tmp_path / "zoo_watcher").symlink_to("versions/agent-1")
    command = [sys.executable, "-c", FIRST_PATH, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={})
    assert done.stdout == f"{tmp_path}\n"


def replaced(monkeypatch: pytest.MonkeyPatch, script: str, tmp_path: Path, **config: object) -> ApplyProcess:
    """An apply process that is replaced by a shell script."""

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    monkeypatch.setattr(apply_process, "_start", start)
    return ApplyProcess(Config.from_object({"hosts": "zk1", "base": str(tmp_path), **config}))


def test_packing_may_take_longer_than_a_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = """cat >/dev/null; sleep 1.5; echo '{"done": {}, "untidy": false}'"""
    process = replaced(monkeypatch, script, tmp_path, fetch_timeout=1)
    assert process.run({"tidy": True}) == {"done": {}, "untidy": False}
    monkeypatch.setattr(apply_process, "PACKING", 1.0)
    with pytest.raises(PassingError, match=r"^not done within 1 s$"):
        process.run({"tidy": True})


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("kill -KILL $$", "was killed by signal 9 without a result"),
        ("exit 3", "ended with status 3 without a result"),
        ('echo \'{"step": "fetching"}\'; exit 0', "ended with status 0 without a result"),
        ('printf \'{"step": "fetching"}\\n{"done": {\'; exit 1', "ended with status 1 without a result"),
    ],
)
def test_a_process_that_ends_without_a_result_says_how(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, words: str
) -> None:
    process = replaced(monkeypatch, f"cat >/dev/null; {script}", tmp_path)
    with pytest.raises(KilledError, match=words):
        process.run({})


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [("final", DeployError, None), ("disk", PassingError, "disk"), ("killed", KilledError, "killed")],
)
def test_an_error_that_the_process_reports_is_raised_as_its_kind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, error: type[DeployError], reason: str | None
) -> None:
    said = f'{{"error": "no room", "kind": "{kind}"}}'
    process = replaced(monkeypatch, f"cat >/dev/null; echo '{said}'; exit 1", tmp_path)
    with pytest.raises(DeployError, match=r"^no room$") as raised:
        process.run({})
    assert raised.type is error
    assert getattr(raised.value, "reason", None) == reason


def apply_without_a_reader(job: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the apply process with `job` on its standard input, and no reader of its output."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [sys.executable, "-m", "zoo_watcher", "apply"],
            input=job,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(zoo_watcher.__file__).parents[1]), **environment},
            check=False,
            timeout=60,
        )
    finally:
        os.close(writing)


@pytest.mark.parametrize("sent", [1.0, 0.5, 0.0], ids=["all of the job", "half of it", "nothing"])
@pytest.mark.parametrize("tidy", [True, False], ids=["packing", "staging"])
def test_a_process_whose_agent_ended_before_it_could_ask_to_die_with_it_does_nothing(
    tmp_path: Path, tidy: bool, sent: float
) -> None:
    base, marker = tmp_path / "base", tmp_path / "git-was-started"
    Layout(base).make()
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text(f"#!/bin/sh\ntouch {marker}\nexec sleep 600\n")
    git.chmod(0o755)
    config = Config.from_object({"hosts": "zk1", "base": str(base)})
    release = Release(url="https://example.org/site", commit_id="a" * 40, relative_path="site")
    job = json.dumps(tidy_job(config) if tidy else stage_job(config, release, []))
    before = sorted(base.rglob("*"))
    done = apply_without_a_reader(job[: int(len(job) * sent)], PATH=f"{git.parent}:{os.environ['PATH']}")
    assert (done.returncode, done.stderr) == (1, "")
    assert sorted(base.rglob("*")) == before
    assert not marker.exists()


def test_a_process_whose_parent_is_no_longer_its_agent_does_nothing(tmp_path: Path) -> None:
    base = tmp_path / "base"
    job = tidy_job(Config.from_object({"hosts": "zk1", "base": str(base)}))
    # The shell stands for whatever process has become the parent. This process can read the output.
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m zoo_watcher apply; exit $?"],
        input=json.dumps({**job, "agent": os.getpid()}),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(zoo_watcher.__file__).parents[1])},
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert not base.exists()


def test_the_process_is_told_which_agent_is_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = tmp_path / "job"
    process = replaced(monkeypatch, f"""cat >{job}; echo '{{"done": {{}}, "untidy": false}}'""", tmp_path)
    process.run({"tidy": True})
    assert json.loads(job.read_text()) == {"tidy": True, "agent": os.getpid()}


def test_the_error_of_a_release_that_is_too_large_names_the_option(tmp_path: Path, repository: GitRepository) -> None:
    keys = {"hosts": "zk1", "base": str(tmp_path / "base"), "allowed_schemes": ["file"], "max_release_bytes": 1}
    config = Config.from_object(keys)
    release = Release(url=repository.url, commit_id=repository.head, relative_path="site")
    with pytest.raises(DeployError, match=r"more than 1 bytes \(max_release_bytes\)$"):
        ApplyProcess(config).run(stage_job(config, release, []))


def test_all_releases_are_packed_together_even_if_the_pack_is_larger_than_a_release_may_be(
    tmp_path: Path, repository: GitRepository
) -> None:
    keys = {"allowed_schemes": ["file"], "max_release_bytes": 8_000_000, "min_free_bytes": 0}
    config = Config.from_object({"hosts": "zk1", "base": str(tmp_path / "base"), **keys})
    layout, process = Layout(config.base), ApplyProcess(config)
    kept: list[str] = []
    layout.make()
    for _number in range(2):
        (repository.path / "app").write_bytes(os.urandom(6_000_000))
        repository.git("add", "app")
        repository.git("commit", "-q", "-m", "another")
        release = Release(url=repository.url, commit_id=repository.head, relative_path="site")
        process.run(stage_job(config, release, kept))
        kept.append(release.commit_id)
    process.run(tidy_job(config))
    (pack,) = (layout.repository / "objects" / "pack").glob("*.pack")
    assert pack.stat().st_size > 12_000_000


def test_what_the_process_has_started_does_not_outlive_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    process = replaced(monkeypatch, f"sleep 600 >/dev/null & echo $! > {file}; kill -KILL $$", tmp_path)
    with pytest.raises(KilledError):
        process.run({})
    wait_for(lambda: not _runs(int(file.read_text())), "git, as it were, has ended too")


NO_FORK = """
import errno, subprocess, sys
def fail(*words, **options):
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
subprocess.Popen.__init__ = fail
sys.argv = ["zoo_watcher", "apply"]
from zoo_watcher.__main__ import main
sys.exit(main())
"""


def test_a_host_that_can_start_no_further_process_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = Config.from_object({"hosts": "zk1", "base": str(tmp_path / "base"), "allowed_schemes": ["file"]})
    start = apply_process._start

    def start_without_fork() -> subprocess.Popen[str]:
        with monkeypatch.context() as patches:
            python = tmp_path / "python"
            (tmp_path / "script.py").write_text(NO_FORK)
            python.write_text(f"#!/bin/sh\nexec {sys.executable} {tmp_path}/script.py\n")
            python.chmod(0o755)
            patches.setattr(sys, "executable", str(python))
            return start()

    monkeypatch.setattr(apply_process, "_start", start_without_fork)
    release = Release(url="file:///srv/site.git", commit_id="a" * 40, relative_path="site")
    with pytest.raises(PassingError, match="Resource temporarily unavailable") as raised:
        ApplyProcess(config).run(stage_job(config, release, []))
    assert not isinstance(raised.value, KilledError)


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=True)
child.wait()
"""
CHILD = """
import subprocess
from zoo_watcher.host.linux import die_with_parent
die_with_parent()
git = subprocess.Popen(["sleep", "600"])
print(git.pid, flush=True)
git.wait()
"""


def test_git_ends_with_the_agent_even_if_that_is_killed() -> None:
    words = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=apply_process._environment()) as agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        assert _runs(pid)
        agent.kill()
    wait_for(lambda: not _runs(pid), "git, as it were, has ended too")


FETCHING = """
import sys
from zoo_watcher.config.config import Config
from zoo_watcher.releases.apply_process import ApplyProcess, stage_job
from zoo_watcher.wire.records import Release
config = Config.from_object({"hosts": "zk1", "base": sys.argv[1], "allowed_schemes": ["git"], "min_free_bytes": 0})
ApplyProcess(config).run(stage_job(config, Release(url=sys.argv[2], commit_id="a" * 40, relative_path="site"), []))
"""


def test_a_process_that_has_given_up_its_rights_ends_with_the_agent_too(tmp_path: Path) -> None:
    """A process that may not send signals to the agent still gets the one for the agent's end."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/site.git"
        words = [sys.executable, "-c", FETCHING, str(tmp_path / "base"), url]
        with subprocess.Popen(words, env=apply_process._environment()) as agent:
            silent.settimeout(30)
            with silent.accept()[0]:
                pids = _tree(agent.pid)[1:]
                agent.kill()
                assert len(pids) > 1
                wait_for(lambda: not any(map(_runs, pids)), "it and git have ended")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_that_ends_because_the_agent_is_being_installed_is_not_a_failure_of_the_release(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def start() -> subprocess.Popen[str]:
        script = "import sys; sys.exit('No module named zoo_watcher')"
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    monkeypatch.setattr(apply_process, "_start", start)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if not Path(one, "zoo_watcher").is_dir()])
    with pytest.raises(PassingError, match="the apply process lacks the Python package zoo_watcher; is the") as lacks:
        ApplyProcess(Config.from_object({"hosts": "zk1", "base": str(tmp_path)})).run({})
    assert lacks.value.reason == "process"


def test_a_process_that_cannot_be_started_now_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_words: object, **_options: object) -> None:
        raise BlockingIOError(11, os.strerror(11))

    monkeypatch.setattr("subprocess.Popen", refuse)
    process = ApplyProcess(Config.from_object({"hosts": "zk1", "base": str(tmp_path)}))
    with pytest.raises(
        PassingError, match="the apply process can't be started: Resource temporarily unavailable"
    ) as refused:
        process.run({})
    assert refused.value.reason == "process"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[(name, kind) for name in ("gitconfig", "apply.lock") for kind in ("link", "directory", "fifo")],
        *[(name, "file") for name in ("releases", "manifests", "staging")],
    ],
)
def test_what_is_in_the_way_of_the_agents_own_files_is_named_until_it_is_removed(
    tmp_path: Path, repository: GitRepository, name: str, kind: str
) -> None:
    config = Config.from_object({"hosts": "zk1", "base": str(tmp_path / "base"), "allowed_schemes": ["file"]})
    obstacle = config.base / ".zoo" / name
    obstacle.parent.mkdir(parents=True)
    if kind == "link":
        obstacle.symlink_to(tmp_path / "none" / "of" / "it")
    elif kind == "directory":
        obstacle.mkdir()
    elif kind == "fifo":
        os.mkfifo(obstacle)
    else:
        obstacle.touch()
    release = Release(url=repository.url, commit_id=repository.head, relative_path="site")
    with pytest.raises(PassingError) as caught:
        ApplyProcess(config).run(stage_job(config, release, []))
    assert caught.value.reason == "disk"
    assert str(obstacle) in str(caught.value)
    obstacle.rmdir() if kind == "directory" else obstacle.unlink()
    assert "done" in ApplyProcess(config).run(stage_job(config, release, []))


class Immortal:
    """Apply processes that don't end when they are killed, like one that waits for a broken disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.process = replaced(monkeypatch, "cat >/dev/null; exec sleep 600", tmp_path, fetch_timeout=1)
        self.next = ApplyProcess(Config.from_object({"hosts": "zk1", "base": str(tmp_path)}))
        self.started: list[subprocess.Popen[str]] = []
        self._start = apply_process._start
        self._killpg = os.killpg
        monkeypatch.setattr(apply_process, "_start", self.start)
        monkeypatch.setattr(apply_process, "KILLED", 0.2)
        monkeypatch.setattr(os, "killpg", lambda _group, _number: None)

    def start(self) -> subprocess.Popen[str]:
        """Start a process."""
        self.started.append(self._start())
        return self.started[-1]

    def die(self) -> None:
        """End the processes that were started, as when the disk has answered."""
        for process in self.started:
            if process.poll() is None:
                self._killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def immortal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Immortal]:
    """Such a process, which times out after a second."""
    made = Immortal(monkeypatch, tmp_path)
    yield made
    made.die()


def test_a_process_that_cannot_be_killed_is_reported_and_no_other_is_started_beside_it(
    immortal: Immortal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(PassingError) as stuck:
        immortal.process.run({})
    (process,) = immortal.started
    assert str(stuck.value) == (
        f"the apply process {process.pid} was killed and does not end: it waits for a disk; "
        "no other is started until it has ended, which a restart of the host brings about"
    )
    assert stuck.value.reason == "process"
    with pytest.raises(PassingError) as refused:
        immortal.next.run({})
    assert str(refused.value) == str(stuck.value)
    assert len(immortal.started) == 1
    immortal.die()
    said = "cat >/dev/null; echo '{\"done\": {}}'"
    process_after = replaced(monkeypatch, said, tmp_path)
    assert process_after.run({}) == {"done": {}}


def test_a_newer_release_does_not_wait_for_a_process_that_cannot_be_killed(
    immortal: Immortal,
) -> None:
    immortal.process.timeout = 600
    ended: list[type[BaseException]] = []

    def run() -> None:
        try:
            immortal.process.run({})
        except CancelledError as exc:
            ended.append(type(exc))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_for(lambda: immortal.started, "it is started")
    immortal.process.end()
    thread.join(30)
    assert ended == [CancelledError]
    with pytest.raises(PassingError, match="was killed and does not end"):
        immortal.next.run({})


def _limits(pid: int) -> dict[str, str]:
    """The hard limits of a process by name, see proc_pid_limits(5)."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return {line[:26].strip(): line[47:68].strip() for line in lines[1:]}


def _tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    text = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [pid, *(one for child in text.split() for one in _tree(int(child)))]


def test_the_limits_of_memory_descriptors_and_files_are_in_force_in_the_process_and_in_git(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"git://127.0.0.1:{silent.getsockname()[1]}/site.git"
        keys = {"allowed_schemes": ["git"], "max_release_bytes": 20_000_000, "min_free_bytes": 0}
        config = Config.from_object({"hosts": "zk1", "base": str(tmp_path / "base"), **keys})
        process = ApplyProcess(config)
        job = stage_job(config, Release(url=url, commit_id="a" * 40, relative_path="site"), [])
        runner = threading.Thread(target=_run_to_its_end, args=(process, job))
        runner.start()
        try:
            silent.settimeout(30)
            with silent.accept()[0]:
                assert process._process is not None
                pids = _tree(process._process.pid)
                names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids]
                limits = [_limits(pid) for pid in pids]
        finally:
            process.end()
            runner.join()
    assert "git" in names[1:]
    own = _limits(os.getpid())
    expected = {"Max address space": 4 * 2**30, "Max open files": 1024, "Max file size": 20_000_000}
    for name, most in expected.items():
        allowed = str(most if own[name] == "unlimited" else min(most, int(own[name])))
        assert [one[name] for one in limits] == [allowed] * len(pids), name


def _run_to_its_end(process: ApplyProcess, job: dict[str, Any]) -> None:
    with contextlib.suppress(CancelledError):
        process.run(job)


@pytest.mark.parametrize("refuses", [False, True], ids=["verified", "refused"])
@pytest.mark.parametrize("change", [Path.unlink, Path.touch], ids=["removed", "changed"])
def test_a_commit_that_was_verified_while_the_file_of_signers_changed_is_verified_again(
    tmp_path: Path, change: Callable[[Path], None], refuses: bool
) -> None:
    class Verifying(Repository):
        def verify(self, commit_id: str) -> None:
            signers.write_text("another ssh-ed25519 AAAA\n")
            change(signers)
            if refuses:
                raise DeployError(f"{commit_id} is not signed by anybody")

    signers = tmp_path / "signers"
    signers.write_text("somebody ssh-ed25519 AAAA\n")
    repository = Verifying(Layout(tmp_path), Access(("file",)))
    with pytest.raises(PassingError, match=r"^require_signature: "):
        apply._verify({"access": {"signers": str(signers), "revoked": None, "openpgp": None}}, "a" * 40, repository)


def test_a_release_that_was_verified_may_go_live_again_once_it_is_verified_with_other_signers(
    tmp_path: Path, repository: GitRepository
) -> None:
    author, signers = Signer(tmp_path, "author"), tmp_path / "signers"
    signers.write_text(author.line)
    keys = {"allowed_schemes": ["file"], "require_signature": str(signers)}
    config = Config.from_object({"hosts": "zk1", "base": str(tmp_path / "base"), **keys})
    layout, commit_id = Layout(config.base), author.commit(repository, "signed")
    layout.make()
    ApplyProcess(config).run(stage_job(config, Release(repository.url, commit_id, "site"), []))
    signers.write_text(author.line + Signer(tmp_path, "another").line)
    assert not is_deployable(layout, commit_id, (), allowed_signers(str(signers)))
    ApplyProcess(config).run(verify_job(config, commit_id))
    assert is_deployable(layout, commit_id, (), allowed_signers(str(signers)))
    signers.write_text(Signer(tmp_path, "stranger").line)
    with pytest.raises(DeployError, match="is not signed by anybody in"):
        ApplyProcess(config).run(verify_job(config, commit_id))
    manifest = Manifest.load(layout.manifest(commit_id))
    assert manifest is not None
    assert manifest.signers != allowed_signers(str(signers))
