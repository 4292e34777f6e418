"""Properties of the lease: one owner, chat first, the trainer is not starved."""

from __future__ import annotations

import threading
import time

import pytest

from rlhf_chat.inference.lease import Lease


def test_only_one_thread_computes_at_a_time() -> None:
    lease, inside, most = Lease(), 0, 0
    guard = threading.Lock()

    def work(enter) -> None:
        nonlocal inside, most
        for _ in range(50):
            with enter():
                with guard:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0002)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work, args=(e,)) for e in [lease.turn, lease.slice] * 3]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert most == 1


def test_the_trainer_waits_while_a_reply_is_in_progress() -> None:
    lease, got = Lease(patience=60), threading.Event()

    def slice_() -> None:
        with lease.slice():
            got.set()

    with lease.replying():
        thread = threading.Thread(target=slice_)
        thread.start()
        assert not got.wait(0.2)
        with lease.turn():
            pass
    assert got.wait(2)
    thread.join()


def test_the_trainer_gets_a_slice_in_an_endless_reply() -> None:
    lease, got = Lease(patience=0.1), threading.Event()

    def slice_() -> None:
        with lease.slice():
            got.set()

    with lease.replying():
        thread = threading.Thread(target=slice_)
        thread.start()
        assert got.wait(2)
    thread.join()


def test_an_exception_gives_the_lease_back() -> None:
    lease = Lease()
    for enter in (lease.turn, lease.slice, lease.replying):
        with pytest.raises(ValueError), enter():
            raise ValueError
    with lease.slice():
        lease.assert_held()
    assert not lease.chat_is_waiting


def test_touching_without_the_lease_is_refused() -> None:
    with pytest.raises(RuntimeError):
        Lease().assert_held()
