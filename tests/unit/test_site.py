"""The documentation site: where the links of its pages lead, and which documents are pages."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from support.documents import DOCUMENTS, ROOT

HOME = "https://github.com/zoo-deploy/zoo.deploy"


def load() -> ModuleType:
    """The program that builds the site."""
    spec = importlib.util.spec_from_file_location("site_build", ROOT / "docs/site/build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILD = load()
PAGES = BUILD.find_pages()


@pytest.mark.parametrize(
    ("page", "target", "expected"),
    [
        ("docs/guides/nginx.md", "loadbalancer.md#options", "loadbalancer.md#options"),
        ("docs/guides/nginx.md", "../../README.md", "../../index.md"),
        ("docs/guides/nginx.md", "../../roles/watcher", "../../roles/watcher/README.md"),
        ("docs/guides/nginx.md", "../../playbooks/deploy.yml", f"{HOME}/blob/main/playbooks/deploy.yml"),
        ("docs/README.md", "examples/inventory", f"{HOME}/tree/main/docs/examples/inventory"),
        ("README.md", f"{HOME}/blob/main/docs/guides/page.md#ages", "docs/guides/page.md#ages"),
        ("README.md", f"{HOME}/issues", f"{HOME}/issues"),
        ("README.md", "https://zookeeper.apache.org/", "https://zookeeper.apache.org/"),
        ("README.md", "#install", "#install"),
        ("README.md", "docs/nothing.md", "docs/nothing.md"),
    ],
)
def test_a_link_leads_to_the_page_in_the_site_or_to_the_file_in_the_repository(
    page: str, target: str, expected: str
) -> None:
    assert BUILD.relink(page, target, PAGES) == expected


def test_an_image_is_copied_to_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BUILD, "SOURCE", tmp_path)
    raw = "https://raw.githubusercontent.com/zoo-deploy/zoo.deploy/main/docs/images/overview.svg"
    assert BUILD.relink("README.md", raw, PAGES) == "docs/images/overview.svg"
    assert (tmp_path / "docs/images/overview.svg").read_bytes() == (ROOT / "docs/images/overview.svg").read_bytes()


def test_every_document_for_users_is_a_page() -> None:
    documents = {path.relative_to(ROOT).as_posix() for path in DOCUMENTS}
    others = {path for path in documents - PAGES if not path.startswith((".github/", "tests/"))}
    assert others == set()


def test_the_page_of_a_module_has_no_options_that_only_the_controller_gives() -> None:
    def row(anchor: str) -> str:
        return (
            f'  * - .. raw:: html\n\n        <div id="{anchor}"></div>\n\n    - .. raw:: html\n\n      What it is.\n\n'
        )

    head, tail = "  * - Parameter\n    - Comments\n\n", ".. Attributes\n\n"
    kept = row("parameter-app"), row("parameter-gates/_name"), row("return-_told")
    internal = row("parameter-_asks"), row("parameter-_command"), row("parameter-_command/by")
    page = head + "".join([internal[0], kept[0], *internal[1:], *kept[1:], internal[0]]) + tail
    assert BUILD.without_internal_options(page) == head + "".join(kept) + tail
