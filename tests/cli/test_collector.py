"""Python's garbage collector during a reload, in a process of its own."""

import subprocess
import sys

from tests.timeouts import TIMEOUT

PROGRAM = """
import gc
from netsrv.cli.collector import FullCollections

def work():
    before = gc.get_stats()
    kept = [[] for _ in range(300 * gc.get_threshold()[0])]
    after = gc.get_stats()
    return [new["collections"] > old["collections"] for old, new in zip(before, after)]

collections, threshold = FullCollections(), gc.get_threshold()
kept = []
for _ in range(2):
    kept.append(work())
    for _ in range(2):
        collections.postpone()
        collections.postpone()
        kept.append(work())
        collections.allow()
        kept.append((gc.get_threshold() == threshold, gc.get_count()[2] > threshold[2]))
        collections.allow()
print(kept, gc.get_freeze_count())
gc.freeze()
frozen = gc.get_freeze_count()
collections.postpone()
work()
collections.allow()
print(gc.get_freeze_count() == frozen > 0)
gc.unfreeze()
collections.exempt()
print(gc.get_freeze_count() >= frozen)
work()
collections.postpone()
work()
collections.allow()
print(gc.get_freeze_count())
"""


def test_f132_no_full_collection_comes_during_a_reload():
    """Young objects are.  A full collection that is due then waits for one reload only.

    It ends the exemption of the objects of the start, of which the reload may have released some.
    """
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    as_usual, postponed = [True, True, True], [True, True, False]
    twice = [as_usual, postponed, (True, False), postponed, (True, True)] * 2
    frozen_by_others, exempted, released = "True", "True", "0"
    expected = [f"{twice} 0", frozen_by_others, exempted, released]
    assert done.stdout.splitlines() == expected
