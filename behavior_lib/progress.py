"""What a running command shows on standard error: one line a step, with its seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.text import Text

_WIDTH = 140


class Progress:
    """Steps of one command. On a terminal a spinner turns while a step runs; elsewhere each step is one plain line."""

    def __init__(self, name: str, show: bool = True) -> None:
        self._name, self._show = name, show
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._is_open = False

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show that `what` is being done, then how long it took. Steps may lie inside each other."""
        started, outermost = time.monotonic(), not self._is_open
        if self._show and outermost and self._console.is_terminal:
            self._is_open = True
            try:
                with self._console.status(f"[bold]{self._name}[/bold]: {what}"):
                    yield
            finally:
                self._is_open = False
        else:
            yield
        self.say(f"{what} ({time.monotonic() - started:.1f} s)")

    def say(self, text: str) -> None:
        """One line."""
        if self._show:
            self._console.print(f"{self._name:<15} {text}", markup=False)

    def show(self, table: RenderableType) -> None:
        """A table or a text, as wide as it needs to be where nobody's terminal says how wide that is."""
        if self._show:
            width = None if self._console.is_terminal else _WIDTH
            Console(file=sys.stderr, highlight=False, width=width).print(table, soft_wrap=isinstance(table, Text))

    def warn(self, text: str) -> None:
        """One line that is shown even where progress is off."""
        self._console.print(f"{self._name:<15} warning: {text}", markup=False)
