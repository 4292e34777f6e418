"""Texts at which a reply ends because the client asked for it, beside the ends the model knows.

The token ids of a reply are never made from its text, so a reply that ends within a token keeps the
whole token, and `visible` leaves out what is shown of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Generator as Stream

from rlhf_chat.inference.generate import Response
from rlhf_chat.inference.partial_text import without_tail

Decode = Callable[[Sequence[int]], str]


def position(text: str, stop_texts: Sequence[str]) -> int | None:
    """Where the first of them begins; None if there is none."""
    return min((at for stop in stop_texts if (at := text.find(stop)) >= 0), default=None)


def visible(text: str, stop_texts: Sequence[str], *, done: bool) -> str:
    """The text before the first stop text. Until it is done, an end that may become one is held
    back."""
    if (at := position(text, stop_texts)) is not None:
        return text[:at]
    if not done:
        text = min((without_tail(text, stop) for stop in stop_texts), key=len, default=text)
    return text


def ended_by(
    stream: Stream[list[Response]], stop_texts: Sequence[str], decode: Decode
) -> Stream[list[Response]]:
    """The same stream, in which a reply that holds a stop text is finished: with the fewest of its
    tokens that hold all of the text before."""
    ended: dict[int, Response] = {}
    try:
        for responses in stream:
            for i, response in enumerate(responses):
                if i not in ended and position(decode(response.ids), stop_texts) is not None:
                    ended[i] = Response(_shortest(response.ids, stop_texts, decode), True)
            latest = [ended.get(i, response) for i, response in enumerate(responses)]
            yield latest
            if ended and all(response.finished for response in latest):
                return
    finally:
        stream.close()


def _shortest(ids: Sequence[int], stop_texts: Sequence[str], decode: Decode) -> list[int]:
    """At least one token: a reply of none cannot be learned from."""
    text = decode(ids)
    before = text[: position(text, stop_texts)].rstrip()
    length = len(ids)
    while length > 1 and decode(ids[: length - 1]).startswith(before):
        length -= 1
    return list(ids[:length])
