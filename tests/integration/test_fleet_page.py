"""A fleet's page in a real browser: in every state, small and large, light and dark, on a phone and a wall screen."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.plugin_utils.page import document
from support.browser import CHROMIUM, DRIVER, Browser
from support.fleet_results import APP, HOSTILE, STATES, FleetState, fleet_state, hostile
from support.playbook import ROOT
from support.waiting import wait_for

NOW = datetime(2026, 11, 29, 15, 4, 10, tzinfo=timezone.utc)
PHONE, WALL = (390, 844), (1920, 1080)
SCHEMES = ("light", "dark")
PICTURES = os.environ.get("ZOO_PICTURES")
"""Where to write the pictures of the documentation: docs/guides/images."""
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver")

LARGE = ("no agent", "at once, failed", "gone back", "locked, missing, degraded, stuck and drifted")
"""States whose page looks very different when it has no block for each host."""
WHAT_IS_WRONG = (ROOT / "tests/support/page_check.js").read_text()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser, into which every test loads its own page."""
    with Browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


def write(path: Path, state: FleetState, **keys: Any) -> Path:
    """Write a fleet as a page, and return its path."""
    file = path / "fleet.html"
    text = document.to_document(APP, state.releases, state.fleet, NOW, "html", **keys)
    file.write_text(text, encoding="utf-8")
    return file


def check(browser: Browser, page: Path) -> None:
    """Check that nothing is wrong with a page in any window and colour scheme, and that it makes no requests."""
    browser.load(page)
    for width, height in (PHONE, WALL):
        for scheme in SCHEMES:
            browser.look(width, height, prefers_color_scheme=scheme)
            assert browser.run(WHAT_IS_WRONG) == [], (width, scheme)
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
    browser.look(*PHONE, prefers_color_scheme="light")
    assert browser.run(WHAT_IS_WRONG) == []
    assert browser.logged("browser") == []
    assert browser.requests() == []


@pytest.mark.parametrize(("name", "size"), [*((name, 5) for name in STATES), *((name, 500) for name in LARGE)])
def test_a_page_is_legible_and_makes_no_requests_in_every_state(
    browser: Browser, tmp_path: Path, name: str, size: int
) -> None:
    check(browser, write(tmp_path, fleet_state(name, size)))


def test_a_page_of_ten_thousand_hosts_names_the_one_that_failed(browser: Browser, tmp_path: Path) -> None:
    check(browser, write(tmp_path, fleet_state("halted", 10_000)))
    photograph(browser, tmp_path, "large-light", (1040, 600), "light")
    assert browser.run("return document.querySelector('h1').innerText") == "web-00002 has failed, the rollout is halted"
    assert browser.run("return document.querySelector('.reasons a').innerText") == "web-00002"
    width = browser.run("return document.querySelector('.bar .failed').getBoundingClientRect().width")
    assert width > 4


def test_what_others_have_written_is_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    check(browser, write(tmp_path, hostile()))
    assert browser.run("return window.hacked") is None
    assert browser.run("return document.querySelectorAll('script').length") == 2
    assert browser.run("return document.querySelectorAll('img, iframe, object, style + style').length") == 0
    shown = browser.run("return document.body.innerText")
    assert HOSTILE.partition("&lt;")[0].rstrip() in shown
    assert "\\u202eright to left\\u2066 \\x1b[2J\\x00\\ud800 zero\\u200bwidth" in shown
    assert not re.search("[\u202e\u2066\x1b\x00\u200b\u2028]", shown)
    data = json.loads(browser.run("return document.getElementById('fleet-data').textContent"))
    assert data["fleet"]["failures"][0]["reason"].startswith(HOSTILE)
    assert "ssssssss" not in browser.run("return document.documentElement.outerHTML")


def test_a_host_is_found_by_keys_and_by_name(browser: Browser, tmp_path: Path) -> None:
    browser.load(write(tmp_path, fleet_state("gone back", 5)))
    chosen = browser.run("const one = document.querySelector('.blocks a'); one.focus(); return one.hash")
    browser.press("Enter", "\r")
    opened = (
        "const host = document.activeElement.closest('.host details[open]'); return host && '#' + host.parentElement.id"
    )
    wait_for(lambda: browser.run(opened) == chosen, "the host's details are open, and have the focus")
    browser.run("document.getElementById('name').focus()")
    for letter in "eb-4":
        browser.press(letter, letter)
    assert browser.run("return document.getElementById('hits').innerText").startswith("web-4 halted · 3587832961")
    named = "return document.querySelector(document.querySelector('#hits a').hash).querySelector('b').innerText"
    assert browser.run(named) == "web-4"
    assert browser.logged("browser") == []


def test_nothing_moves_where_reduced_motion_is_preferred(browser: Browser, tmp_path: Path) -> None:
    browser.load(write(tmp_path, fleet_state("running", 5)))
    longest = """
      const seconds = (style) => parseFloat(style.transitionDuration) + parseFloat(style.animationDuration);
      const all = [...document.querySelectorAll("*")];
      return Math.max(...all.flatMap((one) => ["", "::after"].map((of) => seconds(getComputedStyle(one, of)))));
    """
    browser.look(*WALL, prefers_reduced_motion="reduce")
    assert browser.run(longest) == 0
    browser.look(*WALL, prefers_reduced_motion="no-preference")
    assert 0 < browser.run(longest) < 0.3


def test_a_page_reloads_itself_until_a_person_stops_it(browser: Browser, tmp_path: Path) -> None:
    browser.load(write(tmp_path, fleet_state("running", 5), reload=1))
    browser.run("window.mark = 1")
    wait_for(lambda: browser.run("return window.mark === undefined"), "the page is loaded again")
    browser.load(write(tmp_path, fleet_state("running", 5), reload=20))
    browser.run("document.getElementById('pause').click()")
    assert browser.run("return document.getElementById('pause').disabled")


def test_a_page_is_not_reloaded_while_a_person_searches_for_a_host(browser: Browser, tmp_path: Path) -> None:
    browser.load(write(tmp_path, fleet_state("running", 5), reload=2))
    browser.run("document.getElementById('name').value = 'web'; window.ticks = 0; setInterval(() => ticks++, 1500)")
    wait_for(lambda: browser.run("return window.ticks") >= 3, "it would have been loaded twice")
    browser.run("document.getElementById('name').value = ''")
    wait_for(lambda: browser.run("return window.ticks === undefined"), "the page is loaded again")


@pytest.mark.parametrize(
    ("file", "size", "name", "window", "scheme"),
    [
        ("gone-back-light", 5, "gone back", (1040, 680), "light"),
        ("running-dark", 60, "running", (1280, 720), "dark"),
        ("phone-dark", 5, "gone back", PHONE, "dark"),
    ],
)
def test_the_documentation_has_pictures(
    browser: Browser, tmp_path: Path, file: str, size: int, name: str, window: tuple[int, int], scheme: str
) -> None:
    browser.load(write(tmp_path, fleet_state(name, size)))
    photograph(browser, tmp_path, file, window, scheme)


def photograph(browser: Browser, tmp_path: Path, file: str, window: tuple[int, int], scheme: str) -> None:
    """Take a small picture of the loaded page, for the documentation if ZOO_PICTURES is set."""
    browser.look(*window, prefers_color_scheme=scheme)
    browser.run("const age = document.getElementById('age'); age.textContent = ' (2 s ago)'; age.className = ''")
    picture = Path(PICTURES or tmp_path, f"fleet-{file}.png")
    browser.picture(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 140_000
    assert (ROOT / "docs/guides/images" / picture.name).exists()
