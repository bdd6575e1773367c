"""Tests of the status: metrics, health, HTTP, history."""
