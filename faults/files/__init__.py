"""Plain files: watch, record and fail the operations of Python's own file functions, beside SQLite's I/O.

`watching` asks an injector about each operation on a plain file, `recording` records it on a tape, `spared` suspends
injectors, `noting_reads` notes what is read. `FILE_KINDS` and their errors are part of the plan's grammar
(`faults.plan`).
"""

from tornpage.faults.files.replica import Replica
from tornpage.faults.files.scopes import noting_reads, reached, recording, spared, watching
from tornpage.faults.files.unseen import syncing_libraries
from tornpage.faults.files.watch import is_made

__all__ = ["Replica", "is_made", "noting_reads", "reached", "recording", "spared", "syncing_libraries", "watching"]
