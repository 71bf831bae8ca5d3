"""The images of `examples/container`, built once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.playbook import ROOT
from support.podman import BASE, Podman, lacking, own_podman


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """A private podman that has both images of the Containerfile."""
    if reason := lacking():
        pytest.skip(reason)
    with own_podman(tmp_path_factory.mktemp("podman")) as made:
        made.import_base()
        words = ["--network=none", f"--build-arg=BASE={BASE}", f"--file={ROOT}/examples/container/Containerfile"]
        for target in (["--target=sidecar", "--tag=zoo-watcher"], ["--tag=zoo-nginx"]):
            made.run("build", *words, *target, str(ROOT), seconds=600)
        yield made
