"""Helpers that the suites share: an ensemble, git repositories, waiting."""
