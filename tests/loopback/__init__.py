"""Tests over the loopback interface, in the running reactor."""
