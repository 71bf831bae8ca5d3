"""A process that can open no file."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def starved() -> Iterator[None]:
    """A part of a test in which this process gets no further descriptor.

    The limit is not 0: a thread that waits for one descriptor, as a server's, may go on with that (`poll(2)`, EINVAL).
    """
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))
