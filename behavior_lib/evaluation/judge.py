"""A model beside the baselines on the same users, and the gate that it must pass to become the champion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavior_lib.errors import DataRefused, GateNotPassed
from behavior_lib.evaluation.background import COLD_ITEMS, COLD_USERS, Background
from behavior_lib.evaluation.baselines import Scorer
from behavior_lib.evaluation.metrics import Metric, as_rows
from behavior_lib.evaluation.ranking import Ranking, RankingMeter
from behavior_lib.evaluation.upcoming import Foretold
from behavior_lib.tables import EVALUATIONS

MODEL, CHAMPION = "model", "champion"
_TOLD = ("hit_rate", "recall", "ndcg", "mrr", "coverage")
_UNTOLD = "of the next instant nothing is told: of next_type, next_time and next_value the model learned none"


@dataclass(frozen=True)
class Verdict:
    """How the methods did on one split, user by user in one order.

    results: MODEL, CHAMPION where the present champion was judged beside it, and every baseline by its name. gate: the
    baselines that a challenger must beat; None: all. foretold: what MODEL and guesses say of the next instant; None
    where the model has learned nothing of it.
    """

    split: str
    results: Mapping[str, Ranking]
    gate: Sequence[str] | None = None
    foretold: Foretold | None = None

    @property
    def k(self) -> int:
        """The headline's number of places."""
        return self.results[MODEL].ks[0]

    @property
    def n_users(self) -> int:
        """Users judged."""
        return self.results[MODEL].n_users

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the baselines, in the order in which they were judged."""
        return tuple(name for name in self.results if name not in (MODEL, CHAMPION))

    @property
    def best_baseline(self) -> str:
        """The baseline with the highest mean NDCG@k; the first named of equals."""
        return max(self.baselines, key=self.ndcg)

    @property
    def winner(self) -> str:
        """MODEL where its mean NDCG@k is above every baseline's, else the best baseline."""
        return MODEL if self.ndcg(MODEL) > self.ndcg(self.best_baseline) else self.best_baseline

    def ndcg(self, method: str) -> float:
        """Mean NDCG@k over the users."""
        return float(self.results[method].ndcg.mean())

    def difference(self, method: str, other: str) -> Metric:
        """Mean of the users' NDCG@k under `method` minus that under `other`, with the paired standard error."""
        return Metric.over_users(self.results[method].ndcg - self.results[other].ndcg)

    def as_flat_metrics(self) -> dict[str, float]:
        """Every mean of the headline, and all of the next instant, by `<split>.<method>.<metric>`."""
        ranked = {
            f"{method}.{name}": metric.value
            for method, ranking in self.results.items()
            for name, metric in ranking.metrics().items()
        }
        foretold = {} if self.foretold is None else self.foretold.as_flat_metrics()
        return {f"{self.split}.{name}": value for name, value in {**ranked, **foretold}.items()}

    def as_lines(self) -> list[str]:
        """The table of means that a person reads, how much of it has no past, and a last line that says which method
        wins and by how much.
        """
        means = {method: ranking.metrics() for method, ranking in self.results.items()}
        lines = [*_table(self.split, self.n_users, means, self.k), *self._without_past()]
        gain = self.difference(MODEL, self.best_baseline)
        error = "" if gain.standard_error is None else f" ± {gain.standard_error:.4f}"
        lines += [_UNTOLD] if self.foretold is None else self.foretold.as_lines()
        lines.append(f"{self.winner} wins: {MODEL} - {self.best_baseline} = {gain.value:+.4f}{error} NDCG@{self.k}")
        return lines

    def _without_past(self) -> list[str]:
        """A line where it is known what was before the cut."""
        ranks, groups = self.results[MODEL].ranks, self.results[MODEL].groups
        if not groups:
            return []
        n_users = len(np.unique(ranks.only(groups[COLD_USERS]).user))
        n_targets = int(groups[COLD_ITEMS].sum())
        return [
            f"nothing before the cut: {n_users:,} of {self.n_users:,} users; {n_targets:,} of {len(ranks.item):,} "
            "targets, which every method misses"
        ]

    def as_rows(self, **columns: Any) -> list[dict[str, Any]]:
        """EVALUATIONS rows; `columns` are those that only the caller knows (model_name, model_version, …)."""
        own = self.results[MODEL]
        errors = {method: own.lead_errors(ranking) for method, ranking in self.results.items() if method != MODEL}
        foretold = [] if self.foretold is None else self.foretold.as_rows(split=self.split, **columns)
        metrics = {method: ranking.all_metrics() for method, ranking in self.results.items()}
        return foretold + as_rows(metrics, errors, split=self.split, **columns)


def stored_lines(rows: Iterable[Mapping[str, Any]], k: int) -> list[str]:
    """The tables of means that `Verdict.as_lines` had, of the EVALUATIONS rows of one version.

    Rows may come in any order: the method with the best NDCG@k stands first.
    """
    splits: dict[str, dict[str, dict[str, Metric]]] = {}
    for row in rows:
        split, method, metric = (row[name] for name in (EVALUATIONS.split, EVALUATIONS.method, EVALUATIONS.metric))
        mean = Metric(row[EVALUATIONS.value], row[EVALUATIONS.standard_error], row[EVALUATIONS.n_users])
        splits.setdefault(split, {}).setdefault(method, {})[metric] = mean
    lines = []
    for split, by_method in sorted(splits.items(), reverse=True):  # validation, then test
        ranked = [method for method, means in by_method.items() if f"ndcg@{k}" in means]
        best_first = sorted(ranked, key=lambda method: (-by_method[method][f"ndcg@{k}"].value, method))
        n_users = by_method[best_first[0]][f"ndcg@{k}"].n_users if ranked else 0
        lines += _table(split, n_users, {method: by_method[method] for method in best_first}, k)
    return lines


def _table(split: str, n_users: int, means: Mapping[str, Mapping[str, Metric]], k: int) -> list[str]:
    """A line a method. means: by method and metric."""
    names = [name if name == "mrr" else f"{name}@{k}" for name in _TOLD]
    lines = [f"{split}, {n_users} users".ljust(28) + "".join(name.ljust(18) for name in names)]
    lines += [
        method.ljust(28) + "".join(str(figures[name]).ljust(18) for name in names) for method, figures in means.items()
    ]
    return [line.rstrip() for line in lines]


def rank_methods(
    split: str,
    methods: Mapping[str, Scorer],
    targets: NDArray[np.integer[Any]],
    catalogue: NDArray[np.bool_],
    k: int,
    batch_size: int,
    *,
    more_k: Sequence[int] = (),
    background: Background | None = None,
) -> dict[str, Ranking]:
    """How each method ranks the whole catalogue for the users of a split.

    targets: [n, m] distinct item indexes of each user's next session, right-padded with 0; targets outside the
    catalogue count as misses. catalogue: bool [V], the items known before the cut. more_k, background: as RankingMeter
    takes them. At most batch_size × V scores are held at a time.
    Raises DataRefused where the split has no user or nothing was known before the cut.
    """
    if not len(targets):
        raise DataRefused("no user to judge on", where=f"split {split} of sequences", mend="move the cut: split.days")
    if not catalogue.any():
        raise DataRefused("no item before the cut", where=f"split {split}", mend="move the cut: split.days")
    return {
        name: _rank(scorer, targets, RankingMeter(k, catalogue, more_k, background), batch_size)
        for name, scorer in methods.items()
    }


def _rank(scorer: Scorer, targets: NDArray[np.integer[Any]], meter: RankingMeter, batch_size: int) -> Ranking:
    for start in range(0, len(targets), batch_size):
        rows = slice(start, min(start + batch_size, len(targets)))
        meter.add(scorer(rows), targets[rows])
    return meter.result()


def check_gate(verdict: Verdict) -> None:
    """Let a challenger through when its mean NDCG@k is above that of every baseline of the gate and not below the
    champion's.

    Raises GateNotPassed, with the figures, otherwise.
    """
    own = verdict.ndcg(MODEL)
    gate = verdict.baselines if verdict.gate is None else verdict.gate
    stronger = [name for name in gate if verdict.ndcg(name) >= own]
    if CHAMPION in verdict.results and verdict.ndcg(CHAMPION) > own:
        stronger.append(CHAMPION)
    if stronger:
        raise GateNotPassed(
            f"the challenger's NDCG@{verdict.k} {own:.4f} does not beat {_figures(verdict, stronger)}",
            where=f"split {verdict.split} with {verdict.n_users} users",
            mend="it stays challenger; train longer or on more data",
        )


def _figures(verdict: Verdict, methods: Iterable[str]) -> str:
    return " and ".join(f"{name} {verdict.ndcg(name):.4f}" for name in methods)
