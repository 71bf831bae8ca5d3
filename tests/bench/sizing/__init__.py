"""What an ensemble needs for a fleet, measured with simulated hosts by `measure.py`."""
