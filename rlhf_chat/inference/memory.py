"""Free memory, measured peak memory, and recovery from running out of memory.

A batch that runs out of memory is halved and tried again; if a single row does not fit, gradient
checkpointing is switched on. A failed attempt must leave no gradients behind. Predictions before
loading are in memory_estimate.py.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TypeVar

import psutil
import torch

CHAT_RESERVE = 1 << 30  # bytes of GPU memory that training leaves to chat

Result = TypeVar("Result")


def parts_within(
    lengths: Sequence[int], rows: int, tokens: int, order: Iterable[int] | None = None
) -> list[list[int]]:
    """Splits row indices into batches, in `order` (default: ascending). A batch has at most `rows`
    rows and, padding included, at most `rows * tokens` tokens. A row longer than that is a batch of
    its own. `lengths`: tokens of each row."""
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
    """Yields (rows, work(rows)) for each part, halving a part that runs out of memory.

    `reduce_batch(n)` is called after `n` rows did not fit. It frees what it can and returns whether
    a single row may be tried again; if not, raises torch.OutOfMemoryError.
    """
    todo = deque(parts)
    while todo:
        rows = todo.popleft()
        done = _attempt(work, rows)
        if done:
            yield rows, done[0]
            continue
        retry = reduce_batch(len(rows))
        if len(rows) > 1:
            middle = (len(rows) + 1) // 2
            todo.extendleft([rows[middle:], rows[:middle]])
        elif retry:
            todo.appendleft(rows)
        else:
            raise torch.OutOfMemoryError("one row does not fit into memory")


def _attempt(work: Callable[[list[int]], Result], rows: list[int]) -> tuple[Result] | None:
    """(work(rows),), or None if memory ran out. The exception is dropped here, because its
    traceback keeps every tensor of the attempt alive."""
    try:
        return (work(rows),)
    except torch.OutOfMemoryError:
        return None


def release_unused(device: torch.device) -> None:
    """Collects garbage and returns the allocator's cached blocks to the driver."""
    gc.collect()
    release_freed(device)


def release_freed(device: torch.device) -> None:
    """Returns what is freed already: of a GPU to its driver, of a CPU to the system, where the C
    library can (glibc). It keeps hundreds of MB of large batches otherwise (docs/LOG.md)."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif trim := getattr(_c_library(), "malloc_trim", None):
        trim(0)


@cache
def _c_library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if os.name == "posix" else None


def free(device: torch.device) -> int:
    """Free bytes on the device, including blocks that the allocator has cached."""
    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Runs `work`; returns its peak allocation in bytes beyond what was allocated before. 0 on a
    CPU, where allocations are not counted."""
    if device.type != "cuda":
        work()
        return 0
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device)) - before


def rows_that_fit(
    measure: Callable[[int, bool], int], available: int, max_rows: int
) -> tuple[int, bool]:
    """Rows of a micro-batch (a power of two, at most `max_rows`), and whether to checkpoint.

    `measure(rows, checkpointing)` returns peak bytes. The difference of one and two rows is the
    cost of a row. Checkpointing adds a third to the time, so it is used only if two rows do not fit
    into `available` bytes without it. (1, True) if nothing fits.
    """
    for checkpointing in (False, True):
        one, two = (_measured(measure, rows, checkpointing) for rows in (1, 2))
        too_large = two is None or two > available
        if one is None or one > available or (not checkpointing and too_large):
            continue
        per_row = max((two or one) - one, 1)
        rows = 1 + max(available - one, 0) // per_row if two is not None else 1
        return 1 << (max(min(rows, max_rows), 1).bit_length() - 1), checkpointing
    return 1, True


def _measured(measure: Callable[[int, bool], int], rows: int, checkpointing: bool) -> int | None:
    """None if memory ran out."""
    done = _attempt(lambda _: measure(rows, checkpointing), [])
    return done[0] if done else None
