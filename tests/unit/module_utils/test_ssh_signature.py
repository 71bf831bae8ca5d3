"""Whether a text counts as signed, with the real ssh-keygen."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.ssh_signature import Signers, VerificationError
from support.signer import Signer

TEXT = b'{"serial":1}'


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """The signer."""
    return Signer(tmp_path, "publisher")


@pytest.fixture
def file(tmp_path: Path, signer: Signer) -> Path:
    """The file of allowed signers."""
    path = tmp_path / "signers"
    path.write_text(signer.line)
    return path


def problem(file: Path, signer: Signer, *words: Any) -> str | None:
    """What is wrong with a signer's signature for records."""
    return Signers(str(file)).find_problem(TEXT, signer.sign(TEXT, "zoo.deploy"), "zoo.deploy", *words)


@pytest.mark.parametrize("names", ["-x", '"a b"', "*", "!evil,*", "a,b", "jürgen", "x?y*"])
def test_whatever_a_signer_is_called_they_may_sign(file: Path, signer: Signer, names: str) -> None:
    file.write_text(f"{names} {signer.line.split(' ', 1)[1]}")
    assert problem(file, signer) is None


def test_a_name_that_is_not_utf_8_counts_too(file: Path, signer: Signer) -> None:
    file.write_bytes(b"j\xfcrgen " + signer.line.split(" ", 1)[1].encode())
    assert problem(file, signer) is None


@pytest.mark.parametrize("second", ["ci", '"ci,cd"', "*@example.org", "!evil,ci"])
def test_a_key_on_two_lines_may_do_what_either_says(file: Path, signer: Signer, second: str) -> None:
    key = signer.line.split(" ", 1)[1]
    lines = [f'alice namespaces="git" {key}', f'{second} namespaces="zoo.deploy" {key}']
    file.write_text("".join(lines))
    assert problem(file, signer) is None
    file.write_text("".join([*reversed(lines), "# and a comment\n"]))
    assert problem(file, signer) is None
    file.write_text(f"{lines[0]}# {lines[1]}")
    assert str(problem(file, signer)).startswith("its signature does not count: ")


def test_what_is_not_signed_by_them_does_not_count(file: Path, signer: Signer, tmp_path: Path) -> None:
    signers, signature = Signers(str(file)), signer.sign(TEXT, "zoo.deploy")
    assert signers.find_problem(TEXT, signature, "zoo.deploy") is None
    assert "incorrect signature" in str(signers.find_problem(b"other", signature, "zoo.deploy"))
    assert "Couldn't verify" in str(signers.find_problem(TEXT, signature, "git"))
    assert "signed by nobody" in str(problem(file, Signer(tmp_path, "stranger")))
    for junk in ("", "junk", "-----BEGIN SSH SIGNATURE-----\njunk\n-----END SSH SIGNATURE-----\n", signature[:60]):
        assert "signed by nobody" in str(signers.find_problem(TEXT, junk, "zoo.deploy"))


def test_a_moment_counts_for_the_validity_of_a_key_but_not_one_from_a_wrong_clock(file: Path, signer: Signer) -> None:
    name, key = signer.line.split(" ", 1)
    file.write_text(f'{name} valid-before="20250101" {key}')
    assert "key has expired" in str(problem(file, signer))
    assert problem(file, signer, 1_700_000_000.0) is None
    assert "key has expired" in str(problem(file, signer, 1000.0))
    file.write_text(f'{name} valid-before="20990101" {key}')
    assert problem(file, signer, 4_102_444_800.0) is None
    # The clock was right when it was accepted, and is behind now.
    file.write_text(f'{name} valid-after="20990101" {key}')
    assert problem(file, signer, 4_102_444_800.0) is None
    assert "not yet valid" in str(problem(file, signer))


def test_a_revoked_key_is_distinguished_from_an_unusable_file(file: Path, signer: Signer, tmp_path: Path) -> None:
    revoked, other = tmp_path / "revoked", Signer(tmp_path, "other")
    signers, signature = Signers(str(file), str(revoked)), signer.sign(TEXT, "zoo.deploy")
    revoked.write_text(Path(f"{other.key}.pub").read_text())
    assert signers.find_problem(TEXT, signature, "zoo.deploy") is None
    assert not signers.is_revoked(TEXT, signature, "zoo.deploy")
    revoked.write_text(Path(f"{signer.key}.pub").read_text())
    said = f"the key of publisher@example.org, by which it is signed, is revoked in {revoked}"
    assert signers.find_problem(TEXT, signature, "zoo.deploy") == said
    file.write_text(other.line)
    assert signers.is_revoked(TEXT, signature, "zoo.deploy")
    file.write_text(signer.line)
    for content in (b"SSHKRL\n\0broken", b"no key\n"):
        revoked.write_bytes(content)
        with pytest.raises(VerificationError, match=f"revoked keys: {revoked}: invalid format"):
            signers.find_problem(TEXT, signature, "zoo.deploy")


@pytest.mark.parametrize(
    ("says", "problem", "is_revoked"),
    [
        ("debug3: sshkey_check_revoked failed: Key is revoked", "is revoked in", True),
        ("debug3: sig_verify: sshkey_check_revoked: Key is revoked", "is revoked in", True),
        ("", "is revoked in", False),
    ],
)
def test_whatever_a_version_of_ssh_keygen_prints_a_revoked_key_does_not_count(
    file: Path, signer: Signer, tmp_path: Path, says: str, problem: str, is_revoked: bool
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    real = shutil.which("ssh-keygen")
    script = f"""#!/bin/sh
case "$*" in *' -r '*) echo '{says}' >&2; exit 255;; esac
exec {real} "$@"
"""
    (programs / "ssh-keygen").write_text(script)
    (programs / "ssh-keygen").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    signers, signature = Signers(str(file), str(file), environment), signer.sign(TEXT, "zoo.deploy")
    assert problem in str(signers.find_problem(TEXT, signature, "zoo.deploy"))
    assert signers.is_revoked(TEXT, signature, "zoo.deploy") is is_revoked


def test_an_ssh_keygen_that_cannot_be_run_now_says_nothing_about_a_signature(
    file: Path, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example while OpenSSH or one of its libraries is being upgraded."""
    signature = signer.sign(TEXT, "zoo.deploy")
    program = tmp_path / "ssh-keygen"
    program.write_text("#!/bin/sh\necho 'error while loading shared libraries' >&2\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(VerificationError, match=r"can't be run: .*shared libraries; is it being upgraded") as caught:
        Signers(str(file)).find_problem(TEXT, signature, "zoo.deploy")
    assert caught.value.reason == "process"


def test_without_a_file_for_a_signature_nothing_is_said_about_it(
    file: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_words: Any) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(os, "memfd_create", fail)
        with pytest.raises(VerificationError, match="no file for a signature: Too many open files"):
            problem(file, signer)
    with monkeypatch.context() as patched:
        patched.delattr(os, "memfd_create")
        assert problem(file, signer) is None
