"""What an ensemble needs for a fleet, measured with simulated hosts: `measure.py` is the run."""
