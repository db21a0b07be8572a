"""Structured logs: one JSON line per change of a process' life, never one per request (the event is that record)."""

import logging
import sys
import traceback

import structlog

from shared.environment import LogLevel


def start_logs(process: str, level: LogLevel) -> None:
    """Send structlog and the libraries' own warnings as JSON lines to stderr."""
    shared_steps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared_steps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_steps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.getLevelName(level.upper()), force=True)
    # At DEBUG these libraries print heads and bodies, and with them keys.
    for library in ("aiohttp", "asyncio", "redis", "clickhouse_connect", "urllib3", "httpx", "httpcore"):
        logging.getLogger(library).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(process=process)


def get_log(room: str) -> structlog.typing.FilteringBoundLogger:
    """The log of one room; also for modules that ask while they are imported, before `start_logs`."""
    # No bind() here: it would settle the configuration of the moment.
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger(room=room)
    return log


def place_of(error: BaseException) -> str:
    """File and line where it was raised: what a log may say of a defect, as the text of an exception may quote data."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
