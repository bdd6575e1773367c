"""Test doubles that more than one directory of tests uses."""

from twisted.internet.task import Clock


class ReactorClock(Clock):
    """A clock that also records which objects are watched for reading."""

    running = True

    def __init__(self):
        super().__init__()
        self.readers = set()

    def addReader(self, reader):
        self.readers.add(reader)

    def removeReader(self, reader):
        self.readers.discard(reader)
