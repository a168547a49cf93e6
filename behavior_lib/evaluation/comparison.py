"""Several models on the same users, each beside the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from behavior_lib.evaluation.metrics import SURE, Metric
from behavior_lib.evaluation.ranking import Ranking

HALF = 15  # characters to either side of 0, where differences are drawn


@dataclass(frozen=True)
class Comparison:
    """How the models did on one split, user by user in one order. results: at least two; the first is compared with."""

    split: str
    results: Mapping[str, Ranking]

    @property
    def first(self) -> str:
        """The model that the others are compared with."""
        return next(iter(self.results))

    def differences(self) -> dict[str, dict[str, Metric]]:
        """For every other model each metric's mean of its users' figures minus the first's, with the paired error."""
        first = self.results[self.first]
        return {
            model: {
                name: difference
                for (name, own), (_, other) in zip(ranking.by_user(), first.by_user(), strict=True)
                if (difference := Metric.over_users(own - other)).n_users
            }
            for model, ranking in self.results.items()
            if model != self.first
        }

    def as_table(self) -> Table:
        """The headline's metrics, one a line; a star stands at a difference that is told from 0."""
        n_users = self.results[self.first].n_users
        caption = f"differences from {self.first}, user by user; {SURE}"
        table = Table(title=f"{self.split}, {n_users:,} users", title_justify="left", caption=caption)
        table.add_column("metric")
        for model in self.results:
            table.add_column(model, justify="right")
            if model != self.first:
                table.add_column("difference", justify="right")
        differences = self.differences()
        figures = {model: ranking.metrics() for model, ranking in self.results.items()}
        for name in figures[self.first]:
            cells = []
            for model in self.results:
                cells.append(with_error(figures[model].get(name)))
                if model != self.first:
                    cells.append(signed(differences[model].get(name)))
            table.add_row(name, *cells)
        return table

    def as_chart(self) -> Table:
        """The differences of the headline's metrics drawn, a line each; every line has its own scale."""
        caption = f"differences from {self.first} with two standard errors to either side; │ is 0"
        table = Table(title="drawn", title_justify="left", caption=caption)
        table.add_column("metric")
        names, differences = self.results[self.first].metrics(), self.differences()
        for model in differences:
            table.add_column(model)
        for name in names:
            lines = [drawn(of_model.get(name)) for of_model in differences.values()]
            if any(lines):
                table.add_row(name, *lines)
        return table


def drawn(difference: Metric | None) -> str:
    """A line of 2 * HALF + 1 characters whose middle is 0: the difference ●, and two standard errors to either side.

    The furthest of these from 0 is at an end. Empty where there is no error, or nothing to tell from 0.
    """
    if difference is None or difference.standard_error is None:
        return ""
    value, error = difference.value, 2 * difference.standard_error
    reach = abs(value) + error
    if reach == 0:
        return ""
    low, middle, high = (HALF + round(HALF * each / reach) for each in (value - error, value, value + error))
    line = ["─" if low <= place <= high else " " for place in range(2 * HALF + 1)]
    line[HALF] = "│" if line[HALF] == " " else "┼"
    line[low], line[high] = "├", "┤"
    line[middle] = "●"
    return "".join(line)


def with_error(metric: Metric | None) -> str:
    """A cell of a table: the mean and its standard error, as far as they are there."""
    return "" if metric is None else str(metric)


def signed(difference: Metric | None) -> str:
    """The same of a difference, with its sign, and a star where it is told from 0."""
    if difference is None:
        return ""
    return ("+" if difference.value >= 0 else "") + with_error(difference) + (" *" if difference.is_sure else "")
