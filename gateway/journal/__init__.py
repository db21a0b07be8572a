"""Every event on local disk before its answer ends, and kept there until ClickHouse has it.

Reading order: `segment` (the file format and what a reader finds in it), `records` (its bytes, and the way around what
is damaged), `file_read` (how they come from a disk that may be slow or failing), `boot` (the folder of one gateway
process, and who may touch it), `boot_file` (what its process notes of itself), `rebuilt` (whose a folder is when that
is lost), `backlog` (the events of one boot that are not known to be stored, and how far they were shipped), `journal`
(the writing side), `orphans` (what dead processes left), `arrange` (their files in order, whatever was done to them),
`copies` (of their folders).

The promise: an event that `Journal.append` took is found again after `kill -9`, in order, with its number, or it is
counted as lost. No call here waits for a disk on a request's way: files are made whole ahead of time, in a thread.
What SIGKILL of the process cannot touch, a lost host can: how often the disk is asked to write is a setting.

Traps: a store into a mapped page of a file with holes kills the process on a full disk, so files are allocated
whole; the kernel gives a lock back when its holder dies, so nothing here trusts a pid.
"""

from gateway.journal.backlog import Backlog, Run, remove_segments
from gateway.journal.boot import new_source
from gateway.journal.boot_file import SaidEnd
from gateway.journal.journal import UPROOTED_FIX, Journal
from gateway.journal.orphans import Orphan, adopt_orphans, join_orphans
from gateway.journal.segment import Segment

__all__ = [
    "UPROOTED_FIX",
    "Backlog",
    "Journal",
    "Orphan",
    "Run",
    "SaidEnd",
    "Segment",
    "adopt_orphans",
    "join_orphans",
    "new_source",
    "remove_segments",
]
