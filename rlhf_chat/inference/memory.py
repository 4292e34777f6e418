"""How much memory there is, how much a pass takes, and what to do when it does not fit.

A pass that runs out of memory is cut in halves and tried again; when a single row is too much, its
activations are given up and computed twice (checkpointing). Nothing is half done: work that failed
has added no gradient. Left out: predictions before anything is loaded (memory_estimate.py).
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import psutil
import torch

CHAT_RESERVE = 1 << 30  # bytes of video memory that training leaves to chat

Result = TypeVar("Result")


def parts_within(
    lengths: Sequence[int], rows: int, tokens: int, order: Iterable[int] | None = None
) -> list[list[int]]:
    """Row numbers in parts, in their order or the one given: at most `rows` in a part, and with
    padding no more tokens than `rows` rows of `tokens` have. A longer row goes alone."""
    parts: list[list[int]] = [[]]
    longest = 0
    for i in range(len(lengths)) if order is None else order:
        longest = max(longest, lengths[i])
        if len(parts[-1]) == rows or longest * (len(parts[-1]) + 1) > rows * tokens:
            parts.append([])
            longest = lengths[i]
        parts[-1].append(i)
    return [part for part in parts if part]


def in_parts(
    parts: Iterable[list[int]],
    work: Callable[[list[int]], Result],
    reduce_batch: Callable[[int], bool],
) -> Iterator[tuple[list[int], Result]]:
    """Yields (rows, work(rows)) for each part; a part that does not fit is halved and tried again.

    `relieve(rows)` is told how many rows were too many, frees what it can, and says whether a
    single row may be tried once more.
    """
    todo = deque(parts)
    while todo:
        rows = todo.popleft()
        done = _attempt(work, rows)
        if done:
            yield rows, done[0]
            continue
        again = reduce_batch(len(rows))
        if len(rows) > 1:
            middle = (len(rows) + 1) // 2
            todo.extendleft([rows[middle:], rows[:middle]])
        elif again:
            todo.appendleft(rows)
        else:
            raise torch.OutOfMemoryError("one row does not fit into memory")


def _attempt(work: Callable[[list[int]], Result], rows: list[int]) -> tuple[Result] | None:
    """None when memory ran out. The error is let go here: its traceback holds every tensor."""
    try:
        return (work(rows),)
    except torch.OutOfMemoryError:
        return None


def give_back(device: torch.device) -> None:
    """Frees what nobody uses any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free(device: torch.device) -> int:
    """Bytes that could still be taken: what the allocator holds unused counts as free."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def taken_by(work: Callable[[], object], device: torch.device) -> int:
    """Bytes that `work` needs at its peak, beyond what is held before. 0 where nobody counts."""
    if device.type != "cuda":
        work()
        return 0
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device)) - before


def rows_that_fit(taken: Callable[[int, bool], int], room: int, most: int) -> tuple[int, bool]:
    """How many rows (a power of two) a micro-batch may have, and whether to checkpoint.

    `taken(rows, checkpointing)` measures bytes at the peak. Two measurements tell what a row adds.
    Checkpointing costs a third of the time, so it comes only when not even two rows fit without.
    """
    for checkpointing in (False, True):
        one, two = (_measured(taken, rows, checkpointing) for rows in (1, 2))
        if one is None or one > room or (not checkpointing and (two is None or two > room)):
            continue
        a_row = max((two or one) - one, 1)
        rows = 1 + max(room - one, 0) // a_row if two is not None else 1
        return 1 << (max(min(rows, most), 1).bit_length() - 1), checkpointing
    return 1, True


def _measured(taken: Callable[[int, bool], int], rows: int, checkpointing: bool) -> int | None:
    done = _attempt(lambda _: taken(rows, checkpointing), [])
    return done[0] if done else None
