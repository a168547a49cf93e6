"""The next batches are made while the model works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

_LOOK_UP_SECONDS = 0.2  # how often a full queue is left to see whether anyone still reads


class Prefetch(Generic[Item]):
    """The items of an iterator in their order, made up to `depth` ahead in a thread of their own.

    What the iterator raises is raised where its item would have come. Leaving the block ends the thread.
    """

    def __init__(self, items: Iterator[Item], depth: int) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(depth)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._make, daemon=True)

    def __enter__(self) -> Iterator[Item]:
        self._thread.start()
        return self._take()

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def _take(self) -> Iterator[Item]:
        while True:
            is_item, value = self._queue.get()
            if is_item:
                yield value  # type: ignore[misc]
            elif value is None:
                return
            else:
                raise value  # type: ignore[misc]

    def _make(self) -> None:
        try:
            for item in self._items:
                if not self._put(True, item):
                    return
            self._put(False, None)
        except BaseException as error:
            self._put(False, error)

    def _put(self, is_item: bool, value: Item | BaseException | None) -> bool:
        """False where nobody reads any more."""
        while not self._left.is_set():
            try:
                self._queue.put((is_item, value), timeout=_LOOK_UP_SECONDS)
                return True
            except queue.Full:
                continue
        return False
