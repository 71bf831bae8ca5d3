"""What the suites share: an ensemble, git repositories, waiting."""
