"""Which release the options of zk_release name, with a real repository."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.zoo.deploy.plugins.module_utils.records import InvalidRecord, Release
from ansible_collections.zoo.deploy.plugins.modules.zk_release import argument_spec, resolved_release
from support.repository import GitRepository


@pytest.fixture
def tagged(repository: GitRepository) -> GitRepository:
    """A repository whose branch is one commit ahead of the tag `v1`."""
    repository.git("tag", "v1")
    repository.commit({"index.html": "newer\n"})
    return repository


def options(**given: Any) -> dict[str, Any]:
    """The module's options, of which these are given."""
    return {**{name: spec.get("default") for name, spec in argument_spec().items()}, **given}


def published(repository: GitRepository, ref: str | None) -> Release:
    """The release of the tag, published as `ref`."""
    commit_id = repository.git("rev-parse", "v1").strip()
    return Release(url=repository.url, commit_id=commit_id, relative_path="site", ref=ref)


def test_what_is_left_open_is_as_published_before_the_ref_too(tagged: GitRepository) -> None:
    before = published(tagged, "v1")
    assert resolved_release(options(), before) == before
    assert resolved_release(options(url=tagged.url), before) == before


def test_a_branch_that_was_published_is_looked_up_anew(tagged: GitRepository) -> None:
    release = resolved_release(options(), published(tagged, "main"))
    assert (release.ref, release.commit_id) == ("main", tagged.head)


def test_a_ref_is_demanded_where_the_published_release_has_none(tagged: GitRepository) -> None:
    with pytest.raises(InvalidRecord, match=r"^ref: give it; the release that is published now has none"):
        resolved_release(options(), published(tagged, None))


def test_a_ref_is_demanded_for_another_repository(tagged: GitRepository) -> None:
    with pytest.raises(InvalidRecord, match=r"^ref: give it; what is published now is of another repository, "):
        resolved_release(options(url="file:///elsewhere"), published(tagged, "v1"))


def test_the_first_release_is_the_default_branch_where_no_ref_is_given(tagged: GitRepository) -> None:
    release = resolved_release(options(url=tagged.url, relative_path="site"), None)
    assert (release.ref, release.commit_id) == ("HEAD", tagged.head)
