"""`python -m tests.eager_ingestor`: the ingestor, which does ten times as often what it does every few seconds.

For tests of what it finds, not of when: those of faults run the one that is shipped.
"""

from typing import Any

from ingestor import app, housekeeping, ledger, partitions, schema_watch, silence, spending, worker
from ingestor.__main__ import main

ROUNDS: tuple[tuple[Any, str], ...] = (
    (app, "LONGEST_PAUSE_S"),
    (housekeeping, "_INTERVAL_S"),
    (ledger, "_SETTLE_MS"),
    (partitions, "_INTERVAL_S"),
    (schema_watch, "_INTERVAL_S"),
    (silence, "_ASK_S"),
    (spending, "_TICK_S"),
    (worker, "LONGEST_PAUSE_S"),
    (worker, "_ASK_AGAIN_S"),
    (worker, "_RECONCILE_S"),
)

if __name__ == "__main__":
    for module, name in ROUNDS:
        value = getattr(module, name)
        setattr(module, name, type(value)(value / 10))
    main()
