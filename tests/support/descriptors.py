"""A process that cannot open any file."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def starved() -> Iterator[None]:
    """Let this process open no further descriptors while the block lasts.

    The limit is not 0, so that a thread waiting for one descriptor, such as a server's, can go on (`poll(2)`, EINVAL).
    """
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
