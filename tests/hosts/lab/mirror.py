"""The mirror that this machine's own packages come from, according to its apt sources."""

from __future__ import annotations

import email
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIRROR_LIST = "mirror+file:"


@dataclass(frozen=True)
class Mirror:
    """A Debian archive: its address, and the keyring that it is checked with (empty for debootstrap's own)."""

    url: str
    keyring: str = ""


@dataclass(frozen=True)
class _Source:
    """A package source: its addresses, suites and components, and what it is signed by."""

    urls: list[str]
    suites: list[str]
    components: list[str]
    signed_by: str


def find_mirror(etc: Path = Path("/etc")) -> Mirror | None:
    """The mirror of a Debian's own suite; None if this is not Debian, or its sources name none."""
    release = dict(line.partition("=")[::2] for line in shlex.split((etc / "os-release").read_text()))
    if release.get("ID") != "debian":
        return None
    for source in _sources(etc / "apt"):
        if release.get("VERSION_CODENAME") in source.suites and "main" in source.components:
            # debootstrap can't read a key that is embedded in the source or armoured.
            keyring = source.signed_by if source.signed_by.endswith(".gpg") else ""
            return Mirror(_first_of_list(source.urls[0]).rstrip("/"), keyring)
    return None


def _first_of_list(url: str) -> str:
    """The address itself, or the first one in the list of mirrors that it names."""
    return Path(url.removeprefix(MIRROR_LIST)).read_text().split()[0] if url.startswith(MIRROR_LIST) else url


def _sources(apt: Path) -> Iterator[_Source]:
    """All sources of binary packages, in both formats."""
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.exists():
            lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
            if path.suffix == ".list":
                yield from (_one_line(line) for line in lines if line.split()[:1] == ["deb"])
            elif path.suffix == ".sources":
                yield from _stanzas("\n".join(lines))


def _one_line(line: str) -> _Source:
    """Parse `deb [signed-by=KEYRING] URL SUITE COMPONENT ...`."""
    rest = line.strip().removeprefix("deb").strip()
    options, rest = rest[1:].split("]", 1) if rest.startswith("[") else ("", rest)
    settings = dict(word.partition("=")[::2] for word in options.split())
    url, suite, *components = rest.split()
    return _Source([url], [suite], components, settings.get("signed-by", ""))


def _stanzas(text: str) -> Iterator[_Source]:
    """Parse paragraphs of fields, as in a mail header."""
    for stanza in text.split("\n\n"):
        fields = email.message_from_string(stanza.strip())
        if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes") != "no":
            urls, suites, components = (fields.get(name, "").split() for name in ("URIs", "Suites", "Components"))
            yield _Source(urls, suites, components, fields.get("Signed-By", "").strip())
