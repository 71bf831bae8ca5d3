"""Git as a process: what it prints, how it fails, and that it is not waited for when its output is read no further."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest

from support.waiting import wait_for
from zoo_watcher.releases.git_command import Git, GitError, GitMissingError


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in place of git."""
    path = tmp_path / "bin" / "git"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    return path


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n")


def test_what_git_prints_is_returned_as_bytes_or_as_text_without_the_last_newline(
    program: Path, tmp_path: Path
) -> None:
    write(program, "printf 'a\\377\\n\\n'")
    assert Git(tmp_path).run("log") == b"a\xff\n\n"
    assert Git(tmp_path).text("log") == os.fsdecode(b"a\xff\n")


def test_git_gets_the_arguments_the_input_and_the_variables_of_its_call(program: Path, tmp_path: Path) -> None:
    write(program, 'echo "$@" "$LC_ALL" "$OWN" "$FURTHER" "$(pwd)" "$(cat)"')
    (tmp_path / "input").write_text("read")
    git = Git(tmp_path, {"OWN": "own", "FURTHER": "before"})
    with (tmp_path / "input").open("rb") as input_:
        printed = git.run("a", "b c", environment={"FURTHER": "further"}, input_=input_)
    assert printed.decode() == f"a b c C own further {tmp_path} read\n"
    assert git.text("a") == f"a C own before {tmp_path} "


def test_a_failure_has_the_status_and_what_git_wrote(program: Path, tmp_path: Path) -> None:
    write(program, "echo printed; echo 'fatal: no' >&2; exit 3")
    with pytest.raises(GitError) as raised:
        Git(tmp_path).run("log")
    assert (raised.value.status, raised.value.stderr) == (3, "fatal: no")


def test_the_end_of_what_a_talkative_server_says_is_kept(program: Path, tmp_path: Path) -> None:
    write(program, "yes 'remote: more' | head -n 100000 >&2; echo 'fatal: no' >&2; exit 3")
    with pytest.raises(GitError) as raised:
        Git(tmp_path).run("fetch")
    assert len(raised.value.stderr) < 100_000
    assert raised.value.stderr.endswith("remote: more\nfatal: no")


def test_what_git_prints_is_all_there_whatever_it_writes_to_standard_error(program: Path, tmp_path: Path) -> None:
    write(program, "yes a | head -c 1000000; yes b | head -c 1000000 >&2; yes c | head -c 10")
    assert Git(tmp_path).run("log") == b"a\n" * 500_000 + b"c\n" * 5


def test_a_git_that_is_killed_has_the_negative_number_of_the_signal(program: Path, tmp_path: Path) -> None:
    write(program, "kill -KILL $$")
    with pytest.raises(GitError) as raised:
        Git(tmp_path).run("log")
    assert raised.value.status == -9


def test_a_git_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(GitMissingError) as raised:
        Git(tmp_path, {"PATH": str(tmp_path)}).run("log")
    assert raised.value.status == 127


@pytest.mark.parametrize("content", [b"", b"\x7fELF"], ids=["empty", "half written"])
def test_a_git_that_cannot_be_started_was_not_run(program: Path, tmp_path: Path, content: bytes) -> None:
    """As after a crash during an upgrade. It is not a script, because a shell would start that."""
    program.write_bytes(content)
    with pytest.raises(GitError) as raised:
        Git(tmp_path, {"PATH": str(program.parent)}).run("log")
    assert (raised.value.status, raised.value.stderr) == (126, "Exec format error")


def test_git_runs_even_where_its_directory_does_not_exist(program: Path, tmp_path: Path) -> None:
    write(program, "echo ran")
    assert Git(tmp_path / "none").text("log") == "ran"


def test_output_is_read_as_it_comes_and_a_failure_is_raised_after_it(program: Path, tmp_path: Path) -> None:
    write(program, "echo first; echo 'fatal: no more' >&2; exit 128")
    read = []
    with pytest.raises(GitError) as raised, Git(tmp_path).printing("ls-tree") as printed:
        read.append(printed.read())
    assert (read, raised.value.stderr) == ([b"first\n"], "fatal: no more")


def test_a_git_that_writes_much_to_standard_error_while_it_prints_does_not_block(program: Path, tmp_path: Path) -> None:
    """As when a part of a pack is overwritten, which git reports for each object."""
    write(program, "head -c 1000000 /dev/zero >&2; echo first; exit 128")
    read: list[bytes] = []
    told: list[GitError] = []

    def read_all() -> None:
        try:
            with Git(tmp_path).printing("ls-tree") as printed:
                read.append(printed.read())
        except GitError as exc:
            told.append(exc)

    Thread(target=read_all, daemon=True).start()
    wait_for(lambda: told, "git has ended")
    assert (read, len(told[0].stderr)) == ([b"first\n"], 1_000_000)


def test_git_is_ended_when_its_output_is_read_no_further(program: Path, tmp_path: Path) -> None:
    write(program, f"echo $$ > {tmp_path}/pid; echo first; exec sleep 600")

    def read_a_line() -> None:
        with Git(tmp_path).printing("ls-tree") as printed:
            raise ValueError(printed.readline())

    with pytest.raises(ValueError, match="first"):
        read_a_line()
    process = Path("/proc") / (tmp_path / "pid").read_text().strip()
    wait_for(lambda: not process.exists(), "git has ended")
