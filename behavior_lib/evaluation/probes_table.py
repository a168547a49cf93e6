"""What probes found, for people: one table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from behavior_lib.evaluation.metrics import SURE, is_sure
from behavior_lib.evaluation.probes import BASELINES, Estimate, Probed


def as_table(found: Sequence[Probed], title: str) -> Table:
    """A line a label and kind of features; the metric that decides stands first, then the others.

    With ± stands the standard error; a star stands at a difference that is told from 0.
    """
    caption = f"difference: from the best baseline, fold by fold; {SURE}"
    table = Table(title=title, title_justify="left", caption=caption)
    for name in ("label", "users", "features", "figure", "others", "difference", "learner"):
        table.add_column(name, justify="right" if name in ("users", "figure", "difference") else "left")
    for probed in found:
        figures, differences = probed.figures(), probed.differences()
        for number, (name, by_metric) in enumerate(figures.items()):
            mark = " (best baseline)" if name == probed.best_baseline else ""
            others = (f"{metric} {each.value:.3f}" for metric, each in by_metric.items() if metric != probed.headline)
            table.add_row(
                probed.label.name if number == 0 else "",
                _people(probed) if number == 0 else "",
                name + mark,
                f"{probed.headline} {_text(by_metric[probed.headline])}",
                ", ".join(others),
                "" if name in BASELINES else _signed(differences[name], probed.n_folds),
                max(probed.chosen[name], key=lambda learner: probed.chosen[name][learner]),
                end_section=number == len(figures) - 1,
            )
    return table


def _people(probed: Probed) -> str:
    if not probed.label.is_binary:
        return f"{probed.n_users:,}"
    return f"{probed.n_users:,} ({int(probed.label.values[probed.label.known].sum()):,} true)"


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ± {estimate.standard_error:.3f}"


def _signed(estimate: Estimate, n_folds: int) -> str:
    star = " *" if is_sure(estimate.value, estimate.standard_error, n_folds) else ""
    return ("+" if estimate.value >= 0 else "") + _text(estimate) + star
