"""A symlink that leads out of its release is found, whatever way it takes. One that stays inside is not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zoo_watcher.errors import DeployError
from zoo_watcher.host.layout import Layout
from zoo_watcher.releases.outside_links import TooDeepError, check_links, find_outside


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ({"a": "/etc/passwd"}, "a"),
        ({"a": "/"}, "a"),
        ({"a": "//etc"}, "a"),
        ({"a": ".."}, "a"),
        ({"a": "../x"}, "a"),
        ({"a": "./../x"}, "a"),
        ({"d/a": "../.."}, "d/a"),
        ({"d/a": "../../etc"}, "d/a"),
        ({"d/a": "x/../../../etc"}, "d/a"),
        ({"d/a": "..//..//etc"}, "d/a"),
        ({"a": "missing/../.."}, "a"),
        ({"a": "d/e/f/../../../.."}, "a"),
        # Through other symlinks.
        ({"a": "z", "z": "/etc"}, "z"),
        ({"a": "d/e", "d/e": "..", "b": "a/../x"}, "b"),
        ({"a": "b/..", "b": "."}, "a"),
        ({"a": "b/../../..", "b": "d/e"}, "a"),
        ({"d/e/up": "../..", "a": "d/e/up/.."}, "a"),
        ({"d": "e/f/g", "a": "d/../../../.."}, "a"),
        ({"d": "e", "e/x": "../..", "a": "d/x"}, "e/x"),
        ({"a": "b", "b": "c", "c": "d/..", "d": "."}, "c"),
        # Through a symlink that leads nowhere.
        ({"a": "a/../.."}, "a"),
        ({"a": "b", "b": "a/../.."}, "b"),
    ],
)
def test_a_symlink_that_leads_out_is_found(links: dict[str, str], found: str) -> None:
    assert find_outside(links, ()) == found


@pytest.mark.parametrize(
    "links",
    [
        {},
        {"a": "b"},
        {"a": "."},
        {"a": "d/.."},
        {"a": "no/such/place"},
        {"a": "..."},
        {"a": "..x/y.."},
        {"d/a": ".."},
        {"d/a": "../x"},
        {"d/e/a": "../../x"},
        {"d/e/a": "../..", "d/e/b": "a/d/e/a/x"},
        {"a": "a"},
        {"a": "b", "b": "a"},
        {"a": "a/x"},
        {"a": "d/e", "b": "a/../e"},
        {"a": "b/../..", "b": "d/e"},
        {"a": "\udcff\n"},
    ],
)
def test_a_symlink_that_stays_in_the_release_or_leads_nowhere_is_allowed(links: dict[str, str]) -> None:
    assert find_outside(links, ()) is None


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ({"a": "data"}, None),
        ({"a": "data/x"}, None),
        ({"a": "data/x/.."}, None),
        ({"a": "data/x/../y"}, None),
        ({"a": "data/.."}, "a"),
        ({"a": "data/../index.html"}, "a"),
        ({"a": "data/x/../../y"}, "a"),
        ({"a": "b/..", "b": "data"}, "a"),
        ({"d/a": "../data"}, None),
        ({"a": "var/up/.."}, "a"),
        ({"a": "var/.."}, None),
        ({"data/x": "y"}, None),
        ({"data/x": "../index.html"}, "data/x"),
        ({"data/d/x": "../y"}, None),
    ],
)
def test_a_shared_directory_counts_as_inside_the_release_and_its_parent_does_not(
    links: dict[str, str], found: str | None
) -> None:
    """The parent of `data` in the file system is `.zoo/shared`."""
    assert find_outside(links, ("data", "var/up")) == found


@pytest.mark.parametrize("levels", [200, 201])
def test_a_symlink_whose_target_is_too_deep_is_refused(tmp_path: Path, levels: int) -> None:
    (tmp_path / "link").symlink_to("/".join(["a"] * (levels + 1)))
    layout = Layout(tmp_path / "base")
    if levels == 200:
        check_links(layout, tmp_path, "a" * 40, ())
    else:
        with pytest.raises(DeployError, match="which leads through more than 200 directories"):
            check_links(layout, tmp_path, "a" * 40, ())


def test_symlinks_that_lead_ever_deeper_through_each_other_are_refused() -> None:
    """Following two thousand of them would take longer than a fetch may."""
    steps = "/".join(["a"] * 199)
    links = {"l0": steps, **{f"l{number}": f"l{number - 1}/{steps}" for number in range(1, 20)}}
    assert find_outside({name: links[name] for name in ("l0", "l1", "l2", "l3", "l4", "l5", "l6")}, ()) is None
    with pytest.raises(TooDeepError, match="l7"):
        find_outside(links, ())


def test_many_symlinks_through_each_other_are_followed_once_each() -> None:
    links = {"l0": "d", **{f"l{number}": f"l{number - 1}/../l{number - 1}" for number in range(1, 20_000)}}
    assert find_outside(links, ()) is None
    assert find_outside({**links, "l0": "d/../.."}, ()) == "l0"


PATHS = st.sampled_from(["a", "b", "c", "d/a", "d/b", "d/e/a"])
TARGETS = st.lists(st.sampled_from(["..", ".", "a", "b", "c", "d", "e", "x"]), min_size=1, max_size=6).map("/".join)


@given(st.dictionaries(PATHS, TARGETS, max_size=6))
@example({"a": "b/..", "b": "."})
@example({"d/e/a": "../../b", "b": "d", "a": "d/e/a/../.."})
def test_where_none_is_found_the_file_system_resolves_every_link_inside_the_tree(links: Mapping[str, str]) -> None:
    with TemporaryDirectory() as name:
        root = Path(name).resolve() / "root"
        (root / "d" / "e").mkdir(parents=True)
        for path, target in links.items():
            (root / path).symlink_to(target)
        is_inside = [f"{os.path.realpath(root / path)}/".startswith(f"{root}/") for path in links]
        assert find_outside(links, ()) is not None or all(is_inside)
