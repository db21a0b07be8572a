"""`python -m tests.ingestor_crash STEP`: the ingestor, killed by SIGKILL the first time it comes to a step."""

import asyncio
import os
import signal
import sys
from typing import Any

from ingestor.__main__ import main
from ingestor.clickhouse import ClickHouse
from ingestor.ledger import Ledger

STEPS = ("before_record", "after_record", "in_insert", "after_insert", "after_commit")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(step: str) -> None:
    """Wrap the step's call."""
    when, _, what = step.partition("_")
    owner: Any = ClickHouse if what == "insert" else Ledger
    call = getattr(owner, what)

    async def armed(*arguments: Any) -> None:
        if when == "before":
            die()
        if when == "in":
            asyncio.get_running_loop().call_later(0.01, die)
        await call(*arguments)
        die()

    setattr(owner, what, armed)


if __name__ == "__main__":
    arm(sys.argv.pop())
    main()
