"""Items come in order, errors where their item would have been, and a block that is left leaves no thread."""

import threading

import pytest

from behavior_lib.data.prefetch import Prefetch


def threads():
    return {thread.ident for thread in threading.enumerate()}


def test_items_come_in_their_order():
    with Prefetch(iter(range(50)), 3) as items:
        assert list(items) == list(range(50))


def test_an_item_is_made_before_it_is_asked_for_and_no_more_than_the_depth():
    made, third = [], threading.Event()

    def numbers():
        for number in range(9):
            made.append(number)
            if number == 2:
                third.set()
            yield number

    with Prefetch(numbers(), 2) as items:
        assert third.wait(10)  # two in the queue, the third in the thread's hand
        assert made == [0, 1, 2]
        assert next(items) == 0


def test_an_error_comes_after_the_items_before_it():
    def broken():
        yield 1
        raise OSError("gone")

    with Prefetch(broken(), 4) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="gone"):
            next(items)


def test_leaving_the_block_ends_the_thread():
    before = threads()
    with Prefetch(iter(range(10**9)), 1) as items:
        assert next(items) == 0
        assert threads() != before
    assert threads() == before
