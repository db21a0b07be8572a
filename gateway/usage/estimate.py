"""Token counts where a provider reported none.

In: byte counts. Out: a Usage. A floor for reasoning models (hidden reasoning has no bytes) and blind to tools, pictures
and sound in the request; whoever shows it marks it as estimated.
"""

from typing import Final

import msgspec

from shared.event import Usage

BYTES_PER_TOKEN: Final = 4
"""UTF-8 bytes, not characters: within about 13% of billed output at the four providers with recorded streams, and
right for Chinese, where counting characters loses two thirds. Calibration per model is the reader's business."""

TOKENS_PER_MESSAGE: Final = 4
"""Role and separators around each message of a prompt."""

ENVELOPE_BYTES: Final = 400
"""Names, ids and braces around the text of a JSON answer that was cut before it could be parsed."""


def tokens_of(text_bytes: int) -> int:
    """Return the tokens in so much text, rounded up."""
    return -(-max(text_bytes, 0) // BYTES_PER_TOKEN)


def estimated(*, content_bytes: int, message_count: int, text_bytes: int, reasoning_bytes: int) -> Usage:
    """Return an estimate of both sides from the request's text and the answer's."""
    return Usage(
        input_uncached_tokens=tokens_of(content_bytes) + TOKENS_PER_MESSAGE * max(message_count, 0),
        output_text_tokens=tokens_of(text_bytes),
        output_reasoning_tokens=tokens_of(reasoning_bytes),
    )


def completed(reported: Usage, *, text_bytes: int, reasoning_bytes: int) -> Usage:
    """Return a provisional usage with the output raised to what was seen; the input stays as reported.

    The output becomes the larger of the reported and the estimated one; reasoning that was reported counts as seen.
    """
    reasoning = max(reported.output_reasoning_tokens, tokens_of(reasoning_bytes))
    other = reported.output_audio_tokens + reported.output_image_tokens
    output = max(reported.output_tokens, tokens_of(text_bytes) + reasoning + other)
    reasoning = min(reasoning, output - other)
    return msgspec.structs.replace(
        reported,
        output_text_tokens=output - other - reasoning,
        output_reasoning_tokens=reasoning,
    )
