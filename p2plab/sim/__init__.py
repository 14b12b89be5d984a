"""The driver of machines, virtual time, and a recorded run once more."""
