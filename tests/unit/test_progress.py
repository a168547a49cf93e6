"""Steps on a terminal: one spinner at a time, and another after it."""

from contextlib import contextmanager

import pytest

from behavior_lib import progress


class Terminal:
    is_terminal = True

    def __init__(self, **settings):
        self.spun = []

    @contextmanager
    def status(self, text):
        self.spun.append(text)
        yield

    def print(self, text, markup):
        pass


def test_a_step_that_failed_leaves_the_spinner_to_the_next(monkeypatch):
    monkeypatch.setattr(progress, "Console", Terminal)
    told = progress.Progress("ingest")
    with pytest.raises(OSError, match="torn"), told.step("reading"):
        raise OSError("torn")
    with told.step("writing"), told.step("sorting"):
        pass
    assert told._console.spun == ["[bold]ingest[/bold]: reading", "[bold]ingest[/bold]: writing"]
