"""Fixtures of several files here: an ensemble that speaks TLS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.certificates import Certificates
from support.ensemble import Ensemble


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates for a TLS ensemble and its clients."""
    return Certificates.create(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def tls_ensemble(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Ensemble]:
    """A server that speaks TLS with clients that have a certificate."""
    with Ensemble.with_tls(tmp_path_factory.mktemp("tls-ensemble"), certificates) as servers:
        yield servers
