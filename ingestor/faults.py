"""What can go wrong in the ingestor: a closed family, and what each ClickHouse error code asks us to do.

Drivers' exceptions are translated where the driver is called (`redis_link`, `clickhouse`); nothing else sees them.
There is no attempt limit in this family: an event is stored, or kept as a dead letter for a stated reason.
"""

from enum import StrEnum
from typing import ClassVar, Final


class Action(StrEnum):
    """What to do about a refused insert."""

    RETRY = "retry"
    """The same batch, same token, after a pause: ClickHouse is away, busy or short of something."""
    SPLIT = "split"
    """The content is refused: smaller batches find the entry that is to blame."""
    DEAD = "dead"
    """A single frame is refused for its content: keep it as a dead letter."""
    STOP = "stop"
    """Schema, account or settings do not fit: a person has to act; keep the batch and keep asking."""


class IngestorFault(Exception):
    """Base of everything the ingestor raises on purpose. `label` is its name in counters and logs."""

    label: ClassVar[str] = "ingestor"


class RedisFault(IngestorFault):
    """Redis did not do what it was asked: away, loading, full, refusing. Always worth another try."""

    label = "redis"


class LeaseLost(IngestorFault):
    """This process no longer owns the partition; whatever it was doing there is void."""

    label = "lease_lost"


class PendingMismatch(IngestorFault):
    """A recorded batch cannot be rebuilt: the stream no longer holds the entries it was made from."""

    label = "pending_mismatch"


class RedisForgot(IngestorFault):
    """The marks were written under another run of Redis: they are to be compared with ClickHouse first."""

    label = "redis_forgot"


class NewerFrame(IngestorFault):
    """A frame of a newer release: an ingestor of that release has to read it, nothing is wrong with it."""

    label = "newer_frame"

    def __init__(self, entry_id: str, detail: str) -> None:
        super().__init__(f"entry {entry_id}: {detail}; upgrade this ingestor")


class TooManyDeadLetters(IngestorFault):
    """So much is refused that the fault lies elsewhere: nothing more is put aside until a person has looked."""

    label = "too_many_dead_letters"


class ClickHouseFault(IngestorFault):
    """ClickHouse is out of reach or refused. `code` is its numeric error code, None when there was no answer."""

    label = "clickhouse"

    def __init__(self, detail: str, *, action: Action, code: int | None = None) -> None:
        super().__init__(detail)
        self.action = action
        self.code = code


class SchemaFault(IngestorFault):
    """The database is not there, or its tables are not what this release writes."""

    label = "schema"


class RebuildRefused(IngestorFault):
    """The rollup's hours cannot be made anew now; the text says why, and what is to be done."""

    label = "rebuild_refused"


class MigrationFault(IngestorFault):
    """A migration file or the record of applied migrations cannot be trusted; the text names the file."""

    label = "migration"


# Codes: ClickHouse src/Common/ErrorCodes.cpp. What is in neither list is retried: waiting never loses anything.
_CONTENT_CODES: Final = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        26,  # CANNOT_PARSE_QUOTED_STRING
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        69,  # ARGUMENT_OUT_OF_BOUND
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        407,  # DECIMAL_OVERFLOW
        469,  # VIOLATED_CONSTRAINT
    }
)
_PERSON_CODES: Final = frozenset(
    {
        8,  # THERE_IS_NO_COLUMN
        10,  # NOT_FOUND_COLUMN_IN_BLOCK
        16,  # NO_SUCH_COLUMN_IN_TABLE
        20,  # NUMBER_OF_COLUMNS_DOESNT_MATCH
        44,  # ILLEGAL_COLUMN
        47,  # UNKNOWN_IDENTIFIER
        50,  # UNKNOWN_TYPE
        53,  # TYPE_MISMATCH
        60,  # UNKNOWN_TABLE
        62,  # SYNTAX_ERROR
        81,  # UNKNOWN_DATABASE
        115,  # UNKNOWN_SETTING
        164,  # READONLY
        192,  # UNKNOWN_USER
        193,  # WRONG_PASSWORD
        194,  # REQUIRED_PASSWORD
        452,  # SETTING_CONSTRAINT_VIOLATION
        497,  # ACCESS_DENIED
        516,  # AUTHENTICATION_FAILED
    }
)
SCHEMA_CODES: Final = frozenset({8, 10, 16, 20, 44, 47, 53, 60, 81})
"""Those of the above that `python -m ingestor migrate` cures, or names the cure of."""

ACCOUNT_CODES: Final = frozenset({192, 193, 194, 516})
"""Those of the above by which a server refuses the user or the password."""


def action_of(code: int | None) -> Action:
    """What ClickHouse's numeric error code asks for; None (no answer at all) asks for a retry."""
    if code in _CONTENT_CODES:
        return Action.SPLIT
    if code in _PERSON_CODES:
        return Action.STOP
    return Action.RETRY


def decide(fault: ClickHouseFault, *, frames: int, stored_rows: int) -> Action:
    """What to do about a failed insert of a batch.

    A batch of which something is stored already is never cut: its halves would carry other tokens, and the stored
    part would be stored again. It is repeated whole, which completes it.
    """
    if fault.action is not Action.SPLIT:
        return fault.action
    if stored_rows:
        return Action.RETRY
    return Action.SPLIT if frames > 1 else Action.DEAD
