"""What is going on, on stderr; stdout belongs to the figures."""

import sys


def say(text: str) -> None:
    """On a terminal one line that changes; else a line each."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def clear() -> None:
    """Make room for what goes to stdout."""
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
