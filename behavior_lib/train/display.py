"""What a person sees of a training run on standard error."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from behavior_lib.train.messages import Message, Note, StepMessage


class TrainingDisplay:
    """A bar with loss, tokens per second and time left on a terminal; elsewhere one plain line an epoch."""

    def __init__(self, name: str, k: int, show: bool) -> None:
        console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._name, self._k, self._show, self._console = name, k, show, console
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        visible = show and console.is_terminal
        figures = TextColumn("{task.fields[figures]}")
        self._bar = Progress(*columns, *times, figures, console=console, disable=not visible)
        self._task = self._bar.add_task(f"{name}: training", total=None, figures="")

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
            figures = f"loss {message.loss:.3f}, {message.tokens_per_second:,.0f} tokens/s"
            self._bar.update(self._task, completed=message.done, total=message.total, figures=figures)
        elif isinstance(message, Note):
            self._console.print(f"{self._name:<15} {message.sentence}", markup=False)
        elif self._show:
            figures = (
                f"epoch {message.number + 1}: loss {message.loss:.3f}, "
                f"validation NDCG@{self._k} {message.validation_ndcg:.4f}, "
                f"{message.tokens_per_second:,.0f} tokens/s ({message.seconds:.1f} s)"
            )
            self._console.print(f"{self._name:<15} {figures}", markup=False)
