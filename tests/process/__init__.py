"""Tests of whole processes, started as a user starts them."""
