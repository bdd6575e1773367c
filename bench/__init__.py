"""Measurements; each module is a program, see README.rst."""
