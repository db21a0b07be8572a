"""What an answer's notes add up to.

In: the tally of an answer and how it ended. Out: the Reading. Decides between reported, partial, estimated and absent
usage; never looks at bytes.
"""

from gateway.usage import estimate
from gateway.usage.dialect import Dialect
from gateway.usage.errors import STREAM_TRUNCATED
from gateway.usage.reading import Call, Reading
from gateway.usage.tally import Tally
from shared.event import NO_USAGE, Usage, UsageSource


def reading_of(call: Call | None, dialect: Dialect | None, tally: Tally, *, ended: bool, legible: bool) -> Reading:
    """Return the reading.

    `dialect` is None for answers whose usage does not count. `ended`: the answer came to its proper end. `legible`:
    its bytes could be decoded to where it stopped.
    """
    usage, source = _usage(call, dialect, tally, ended=ended, legible=legible)
    category = tally.error_category or ("" if ended else STREAM_TRUNCATED)
    return Reading(
        usage=usage,
        usage_source=source,
        model=tally.model,
        finish_reason=tally.finish_reason,
        error_category=category,
        error_source="provider" if category else "",
        provider_request_id=tally.request_id,
        service_tier=tally.service_tier,
    )


def _usage(
    call: Call | None, dialect: Dialect | None, tally: Tally, *, ended: bool, legible: bool
) -> tuple[Usage, UsageSource]:
    if call is None or dialect is None:
        return NO_USAGE, "absent"
    reported = dialect.usage(tally)
    if reported is None:
        if not _is_billed(dialect, tally, ended=ended, legible=legible):
            return NO_USAGE, "absent"
        guess = estimate.estimated(
            content_bytes=call.content_bytes,
            message_count=call.message_count,
            text_bytes=tally.text_bytes,
            reasoning_bytes=tally.reasoning_bytes,
        )
        return guess, "estimated"
    if tally.reported_is_final or (ended and legible and not tally.error_category):
        return reported, "provider"
    raised = estimate.completed(reported, text_bytes=tally.text_bytes, reasoning_bytes=tally.reasoning_bytes)
    return raised, "provider_partial"


def _is_billed(dialect: Dialect, tally: Tally, *, ended: bool, legible: bool) -> bool:
    """Return whether a model has worked although no usage came, so that an estimate is nearer than nothing."""
    if not dialect.estimable or tally.pending or not legible:
        return False
    if tally.text_bytes or tally.reasoning_bytes:
        return True
    if tally.error_category:
        return False
    # One that ended without a sign of a model is the page of some proxy; one that broke off had its prompt read.
    return bool(tally.model or tally.finish_reason) or not (ended or tally.unreadable)
