"""Properties of the lease: one owner, chat first, the trainer is not starved."""

from __future__ import annotations

import threading
import time

import pytest

from rlhf_chat.inference.lease import SLICE_SECONDS, Lease


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


def test_long_work_lets_a_reply_in_once_its_slice_has_had_its_time() -> None:
    now = [0.0]
    lease, order = Lease(clock=lambda: now[0]), []

    def reply() -> None:
        with lease.turn():
            order.append("reply")

    with lease.slice():
        thread = threading.Thread(target=reply)
        thread.start()
        while not lease._waiting_turns:
            time.sleep(0.001)
        now[0] = SLICE_SECONDS / 2
        lease.pause()
        order.append("goes on")
        now[0] = 1.01 * SLICE_SECONDS
        lease.pause()
        order.append("after the reply")
        lease.assert_held()
        now[0] = 2 * SLICE_SECONDS
    thread.join()
    assert order == ["goes on", "reply", "after the reply"]
    assert lease.longest_slice == pytest.approx(1.01 * SLICE_SECONDS)


def test_a_reply_does_not_pause() -> None:
    now = [0.0]
    lease = Lease(clock=lambda: now[0])
    with lease.turn():
        now[0] = 10.0
        lease.pause()
        lease.assert_held()
    assert lease.longest_slice == 0.0


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
