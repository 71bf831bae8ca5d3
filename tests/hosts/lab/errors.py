"""What can go wrong with a lab."""

from __future__ import annotations


class LabError(Exception):
    """A lab can't do what was asked; the message says why, and what to do about it."""
