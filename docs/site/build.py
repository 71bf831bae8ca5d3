"""Build the documentation site: `uv run python docs/site/build.py` writes `.cache/site/html`.

The pages are those that a forge shows, copied to where they are in the repository, so that one relative link serves
both. A link to a file that is no page of the site leads to the repository.
antsibull-docs writes the reference of plugins and roles from their documentation. Each warning of Sphinx is an error,
a link that leads nowhere among them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / ".cache" / "site"
SOURCE = SITE / "source"
REPOSITORY = "https://github.com/zoo-deploy/zoo.deploy"

PAGES = [
    "README.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**/*.md",
    "examples/*/README.md",
    "extensions/**/README.md",
    "playbooks/README.md",
    "roles/*/README.md",
    "tests/README.md",
]
"""What becomes a page, as patterns of paths in the repository."""
IMAGES = {".png", ".svg"}

_HOME = re.compile(
    rf"(?:{re.escape(REPOSITORY)}/(?:blob|tree)|https://raw\.githubusercontent\.com/zoo-deploy/zoo\.deploy)/main/"
)
"""What stands before the path in a link to this repository from a page that is shown elsewhere, too."""
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CONTENTS = re.compile(r"^\.\. contents::\n(?:   :.*\n)+", re.MULTILINE)
_ROW = re.compile(r"^  \* - \.\. raw:: html\n(?:(?!  \* - )(?: .*)?\n)*", re.MULTILINE)
"""A row of a table of options or return values, as antsibull-docs writes it."""
_LINK = re.compile(r"(?<=\]\()[^)\s]+(?=\))")


def main() -> int:
    """Build everything anew; Sphinx's exit status."""
    shutil.rmtree(SITE, ignore_errors=True)
    pages = find_pages()
    for page in sorted(pages):
        target = SOURCE / at(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_relink(page, pages), encoding="utf-8")
    with (SOURCE / at("README.md")).open("a", encoding="utf-8") as file:
        file.write((ROOT / "docs/site/contents.txt").read_text(encoding="utf-8"))
    _write_reference(SOURCE / "reference")
    settings = ["-c", str(ROOT / "docs/site"), "-d", str(SITE / "doctrees")]
    checks = ["--fail-on-warning", "--nitpicky", "--quiet"]
    command = [sys.executable, "-m", "sphinx", *checks, *settings, str(SOURCE), str(SITE / "html")]
    return subprocess.run(command, check=False).returncode


def find_pages() -> set[str]:
    """The paths of all pages in the repository. A directory that links to the tree once more is not entered."""
    found = {path.relative_to(ROOT) for pattern in PAGES for path in ROOT.glob(pattern)}
    return {path.as_posix() for path in found if "collections" not in path.parts}


def at(page: str) -> str:
    """Where a page is in the site: the README is its first page."""
    return "index.md" if page == "README.md" else page


def _relink(page: str, pages: set[str]) -> str:
    """A page's text with its links as they must be in the site. Fenced blocks stay as they are."""
    text = (ROOT / page).read_text(encoding="utf-8")
    parts, end = [], 0
    for block in _FENCED.finditer(text):
        parts += [_relink_prose(page, text[end : block.start()], pages), block[0]]
        end = block.end()
    return "".join([*parts, _relink_prose(page, text[end:], pages)])


def _relink_prose(page: str, prose: str, pages: set[str]) -> str:
    return _LINK.sub(lambda match: relink(page, match[0], pages), prose)


def relink(page: str, target: str, pages: set[str]) -> str:
    """The target of a link on a page: another page's place in the site, or a file's in the repository.

    An image is copied to its place. What leads to another site, or nowhere, stays as it is, and Sphinx says so.
    """
    home = _HOME.match(target)
    if target.startswith("#") or (not home and ":" in target):
        return target
    name, hash_, anchor = (target[home.end() :] if home else target).partition("#")
    path = os.path.normpath(name if home else os.path.join(os.path.dirname(page), name))
    if f"{path}/README.md" in pages:
        path = f"{path}/README.md"
    if path in pages:
        return _relative(page, at(path)) + hash_ + anchor
    file = ROOT / path
    if file.suffix in IMAGES and file.is_file():
        (SOURCE / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, SOURCE / path)
        return _relative(page, path)
    kind = "tree" if file.is_dir() else "blob"
    return f"{REPOSITORY}/{kind}/main/{path}" if file.exists() else target


def _relative(page: str, path: str) -> str:
    """The relative link from a page to a path of the site."""
    return PurePosixPath(os.path.relpath(path, os.path.dirname(page) or ".")).as_posix()


def _write_reference(directory: Path) -> None:
    """Have antsibull-docs write a page for each plugin and role; raises CalledProcessError where one has a mistake."""
    directory.mkdir(parents=True)
    layout = ["--squash-hierarchy", "--no-breadcrumbs", "--no-add-antsibull-docs-version", "--dest-dir", str(directory)]
    command = ["antsibull-docs", "collection", "--use-current", "--fail-on-error", *layout, "zoo.deploy"]
    subprocess.run(command, check=True, env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")})
    for page in directory.glob("*.rst"):
        # The theme has a page's contents beside it, and shows an error where they are in it as well.
        text = _CONTENTS.sub("", page.read_text(encoding="utf-8"))
        is_module = page.stem.endswith("_module")
        page.write_text(without_internal_options(text) if is_module else text, encoding="utf-8")


def without_internal_options(page: str) -> str:
    """A module's page without the options that begin with `_`: only the controller gives them, and they come first."""
    return _ROW.sub(lambda row: "" if 'id="parameter-_' in row[0] else row[0], page)


if __name__ == "__main__":
    sys.exit(main())
