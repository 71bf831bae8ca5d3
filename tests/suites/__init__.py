"""What `tests/run.sh` runs: the suites in their order, and one table at the end."""
