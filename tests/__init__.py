"""Tests in memory.

`loopback` has what only a kernel proves, `process` what only a process proves.
"""
