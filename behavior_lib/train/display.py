"""What a person sees of a training run on standard error."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from behavior_lib.train.messages import MemoryMessage, Message, Note, StepMessage


class TrainingDisplay:
    """A bar on a terminal: time left, loss, tokens per second, the newest validation and the memory of all ranks.

    Elsewhere one plain line an epoch.
    """

    def __init__(self, name: str, k: int, show: bool) -> None:
        console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._name, self._k, self._show, self._console = name, k, show, console
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        visible = show and console.is_terminal
        figures = TextColumn("{task.fields[figures]}")
        self._bar = Progress(*columns, *times, figures, console=console, disable=not visible)
        self._task = self._bar.add_task(f"{name}: training", total=None, figures="")
        self._validation: str | None = None
        self._memory: dict[int, MemoryMessage] = {}

    def __enter__(self) -> TrainingDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, message: Message) -> None:
        """Take one message of the run."""
        if isinstance(message, StepMessage):
            told = [f"loss {message.loss:.3f}", f"{message.tokens_per_second:,.0f} tokens/s"]
            figures = ", ".join([*told, *filter(None, [self._validation, self._memory_told()])])
            self._bar.update(self._task, completed=message.done, total=message.total, figures=figures)
        elif isinstance(message, MemoryMessage):
            self._memory[message.rank] = message
        elif isinstance(message, Note):
            self._console.print(f"{self._name:<15} {message.sentence}", markup=False)
        else:
            self._validation = f"validation NDCG@{self._k} {message.validation_ndcg:.4f}"
            figures = (
                f"epoch {message.number + 1}: loss {message.loss:.3f}, {self._validation}, "
                f"{message.tokens_per_second:,.0f} tokens/s ({message.seconds:.1f} s)"
            )
            if self._show:
                line = ", ".join(filter(None, [figures, self._memory_told()]))
                self._console.print(f"{self._name:<15} {line}", markup=False)

    def _memory_told(self) -> str | None:
        """Of all ranks that have told, together; None before the first."""
        if not self._memory:
            return None
        resident = sum(each.resident_mb for each in self._memory.values()) / 1024
        device = sum(each.device_mb for each in self._memory.values()) / 1024
        return f"{resident:.1f} GB" + (f" and {device:.1f} GB of GPUs" if device else "")
