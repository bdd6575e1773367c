"""Memory that all workers share: what they count for the limits of the whole server.

Each process has a *column* for itself, for each slot that it serves, and writes nothing else; a sum
goes over all columns.  So no count needs a lock, and the master clears the columns of a process
that has ended, however it has ended.

A file has a header and a block for each listener that has a limit, or one socket for all workers::

    header   columns in use
    block    connections[MAX_COLUMNS]  waiting_since[MAX_COLUMNS]  shares[MAX_COLUMNS]  tokens
             filled_at

Another file has, for each listener and column, a table of the connected sources.  Both are files
without a name, of which only the pages that are used take memory.
"""

import mmap
import os
from typing import Any

from netsrv.files import open_nameless

MAX_COLUMNS = 1024
"""Columns: of twice as many workers as there may be, each with more than one slot."""

ENTRY_SIZE = 16
"""Bytes of a source in a table: its key, and the number of its connections."""

BUCKET_SIZE = 32
"""Entries among which a source has its place."""

MAX_SOURCES = 1 << 20
"""Sources that a table has room for, at most: the tables of a listener are 16 GiB of addresses."""

_WORD = 8
_HEADER = mmap.PAGESIZE
_BLOCK = 3 * _WORD * MAX_COLUMNS + mmap.PAGESIZE


class LimitMemory:
    """The files, mapped; *sources* is how many sources a table has room for."""

    def __init__(self, counts: int, tables: int, sources: int) -> None:
        self.descriptors = (counts, tables)
        """Those of the file of counts and of the file of tables."""
        self.sources = sources
        self.counts_size = os.fstat(counts).st_size
        self._counts = mmap.mmap(counts, self.counts_size)
        tables_size = os.fstat(tables).st_size
        self.tables: mmap.mmap | None = mmap.mmap(tables, tables_size) if tables_size else None
        self.integers: Any = memoryview(self._counts).cast("q")
        self.reals: Any = memoryview(self._counts).cast("d")

    @classmethod
    def create(cls, sources: int) -> "LimitMemory":
        """Create the files, with no block."""
        counts, tables = open_nameless(), open_nameless()
        os.ftruncate(counts, _HEADER)
        return cls(counts, tables, sources)

    def grown(self, blocks: int) -> "LimitMemory":
        """Return the memory with at least so many blocks; others keep what they have mapped."""
        counts, tables = self.descriptors
        size = _HEADER + blocks * _BLOCK
        if size > self.counts_size:
            os.ftruncate(counts, size)
            os.ftruncate(tables, blocks * MAX_COLUMNS * self.sources * ENTRY_SIZE)
        return LimitMemory(counts, tables, self.sources)

    @property
    def columns(self) -> int:
        """The number of columns that were used so far; the others are zero."""
        return int(self.integers[0])

    @columns.setter
    def columns(self, columns: int) -> None:
        self.integers[0] = columns

    def connections_at(self, block: int) -> int:
        """Return the index of a block's counts of connections in `integers`."""
        return (_HEADER + block * _BLOCK) // _WORD

    def waiting_at(self, block: int) -> int:
        """Return the index of a block's times in `reals`."""
        return self.connections_at(block) + MAX_COLUMNS

    def shares_at(self, block: int) -> int:
        """Return the index of a block's shares in `integers`: see `netsrv.workers.sharing`."""
        return self.waiting_at(block) + MAX_COLUMNS

    def tokens_at(self, block: int) -> int:
        """Return the index of a block's tokens, and of the time after them, in `reals`."""
        return self.shares_at(block) + MAX_COLUMNS

    def table_at(self, block: int, column: int) -> int:
        """Return the offset of a table in `tables`."""
        return (block * MAX_COLUMNS + column) * self.sources * ENTRY_SIZE

    def clear(self, column: int) -> None:
        """Forget what a process has counted."""
        blocks = (self.counts_size - _HEADER) // _BLOCK
        size = self.sources * ENTRY_SIZE
        for block in range(blocks):
            self.integers[self.connections_at(block) + column] = 0
            self.integers[self.shares_at(block) + column] = 0
            self.reals[self.waiting_at(block) + column] = 0.0
            if self.tables is not None:
                start = self.table_at(block, column)
                if hasattr(mmap, "MADV_REMOVE") and size % mmap.PAGESIZE == 0:
                    self.tables.madvise(mmap.MADV_REMOVE, start, size)  # gives the pages back
                else:
                    self.tables[start : start + size] = bytes(size)


class ColumnAllocator:
    """The master's side: which block a listener has, and which columns a process."""

    def __init__(self, sources: int) -> None:
        self.memory: LimitMemory | None = None
        """None as long as no listener has a limit that workers share, or a socket."""
        self.sources = sources
        self._blocks: dict[str, int] = {}
        self._columns: dict[int, list[int]] = {}

    def block_of(self, label: str) -> int:
        """Return the block of the listener with a label, which stays for the life of the master."""
        if label not in self._blocks:
            self._blocks[label] = len(self._blocks)
            memory = self.memory or LimitMemory.create(self.sources)
            self.memory = memory.grown(len(self._blocks))
            self._note_columns()
        return self._blocks[label]

    def take(self, process: int, count: int) -> list[int]:
        """Return *count* columns for a process.  Raises OSError if there are not so many."""
        used = {column for columns in self._columns.values() for column in columns}
        free = [column for column in range(MAX_COLUMNS) if column not in used]
        if len(free) < count:
            raise OSError("too many workers at once")
        self._columns[process] = free[:count]
        self._note_columns()
        return free[:count]

    def give_back(self, process: int) -> None:
        """Clear the columns of a process that has ended."""
        for column in self._columns.pop(process, ()):
            if self.memory is not None:
                self.memory.clear(column)

    def _note_columns(self) -> None:
        if self.memory is not None:
            used = [column + 1 for columns in self._columns.values() for column in columns]
            self.memory.columns = max([self.memory.columns, *used])

    # An upgrade

    def hand_over(self) -> dict[str, Any]:
        """Return all this for the next program of this process."""
        return {
            "descriptors": [] if self.memory is None else list(self.memory.descriptors),
            "sources": self.sources,
            "blocks": self._blocks,
            "columns": list(self._columns.items()),
        }

    def take_over(self, handed: dict[str, Any]) -> None:
        """Go on with what the program before this one has left."""
        self.sources, self._blocks = handed["sources"], handed["blocks"]
        self._columns = dict(handed["columns"])
        if handed["descriptors"]:
            counts, tables = handed["descriptors"]
            self.memory = LimitMemory(counts, tables, self.sources)


def table_size(connections: int) -> int:
    """Return for how many sources a table has room, so that their places are rarely taken."""
    return min(max(1024, 1 << (2 * connections - 1).bit_length()), MAX_SOURCES)
