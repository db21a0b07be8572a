"""What a background task must know about being cancelled while it talks to Redis."""

import asyncio


def cancelled() -> bool:
    """Whether the running task was asked to end.

    A cancellation that meets redis-py's own timeout comes out of the driver as a timeout: a loop that catches the
    driver's errors and goes on must ask this, or it goes on for ever.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
