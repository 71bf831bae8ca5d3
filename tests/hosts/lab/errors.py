"""What can go wrong with a lab."""

from __future__ import annotations


class LabError(Exception):
    """Raised when a lab can't do what was requested; the message says why, and what to do about it."""
