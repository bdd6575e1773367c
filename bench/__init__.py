"""Measurements, side by side in one run; each module is run by itself, see README.rst."""
