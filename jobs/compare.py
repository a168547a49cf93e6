"""Put versions of a model beside each other on the same users, and forms in which the vectors of one may be kept."""

from dataclasses import dataclass, replace
from typing import Any

from behavior_lib.config.schema import EvaluateConfig
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.evaluation.baselines import POPULARITY, Scorer
from behavior_lib.evaluation.comparison import Comparison
from behavior_lib.evaluation.compression import FLOAT32, Codec, Kept
from behavior_lib.evaluation.judge import MODEL
from behavior_lib.inference.encoder import Encoder
from behavior_lib.registry import Registered, Registry
from behavior_lib.spark.admission import Admission, Cut
from behavior_lib.spark.evaluation import Baselines, JudgedUsers
from behavior_lib.spark.evidence import Evidence
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import Summary
from behavior_lib.tables import EVENTS, ITEMS, SEQUENCES
from behavior_lib.tables.sequences import TEST, VALIDATION


@dataclass(frozen=True)
class Ground:
    """What all that is compared is judged on: the users of one split, and what was known before its cut."""

    split: str
    evidence: Evidence
    users: JudgedUsers
    known: Baselines
    config: EvaluateConfig

    def compare(self, scorers: dict[str, Scorer]) -> Comparison:
        """The first beside the others."""
        ranked = self.evidence.rank(self.split, scorers, self.users, self.known, self.config)
        return Comparison(self.split, ranked)


def run(job: Job) -> Summary:
    """Rank with every version that compare.models names, and tell the figures and the differences from the first.

    And with the vectors of the first alone, kept as compare.vectors says.
    """
    job.config.evaluate.check()
    split = job.config.compare.split
    if split not in (TEST, VALIDATION):
        raise ConfigError("no such split", where="compare.split", value=split, mend=f"give {TEST} or {VALIDATION}")
    registry = Registry(job.config.mlflow.tracking_uri, job.config.mlflow.model_name)
    models = _models(job, registry)
    admission = Admission(job.source.name, "compare.models", _mend(split), job.progress.warn)
    for model in models.values():
        admission.check_origin(model)
        admission.check_refit(model, split)
    job.check_sequences()
    inputs = {spec.name: job.tables.version(spec) for spec in (SEQUENCES, EVENTS, ITEMS)}
    encoders = {name: _load(registry, model) for name, model in models.items()}
    codecs = _codecs(job, next(iter(encoders.values())))
    with job.progress.step(f"reading what {split} is judged on"):
        ground = _ground(job, inputs)
    for model in models.values():
        admission.check_cut(model, Cut(None if ground.users.is_leave_one_out else ground.users.as_of))
    metrics: dict[str, float] = {}
    extra: dict[str, Any] = {"split": split, "versions": {name: model.version for name, model in models.items()}}
    if len(models) > 1:
        with job.progress.step(f"judging {len(models)} versions on {split}"):
            users, evidence = ground.users, ground.evidence
            comparison = ground.compare({name: evidence.scorer(encoder, users) for name, encoder in encoders.items()})
        job.progress.show(comparison.as_table())
        job.progress.show(comparison.as_chart())
        metrics |= _metrics(comparison)
        extra |= {"compared_with": comparison.first, "differences": _differences(comparison)}
    if job.config.compare.vectors:
        with job.progress.step(f"judging vectors kept in {len(codecs)} forms"):
            kept = _kept(ground, next(iter(encoders.values())), codecs)
        job.progress.show(kept.as_table())
        extra["vectors"] = _told(kept)
    return Summary(inputs=inputs, metrics=metrics, extra=extra)


def _models(job: Job, registry: Registry) -> dict[str, Registered]:
    names = job.config.compare.models
    models = {name: registry.find(name, "compare.models") for name in names}
    least = 1 if job.config.compare.vectors else 2
    if len({model.version for model in models.values()}) < max(least, len(names)):
        mend = "name two or more versions or aliases: compare.models=[champion,3]; or one, and compare.vectors=[int8]"
        raise ConfigError("there is nothing to compare", where="compare.models", value=list(names), mend=mend)
    return models


def _mend(split: str) -> str:
    """What to do where a version has learned too much."""
    other = "ask on test: compare.split=test; or " if split == VALIDATION else ""
    return f"{other}leave it out of compare.models"


def _load(registry: Registry, model: Registered) -> Encoder:
    with registry.bundle(model) as folder:
        return Encoder.load(folder)


def _ground(job: Job, inputs: dict[str, int]) -> Ground:
    config, split = job.config.evaluate, job.config.compare.split
    evidence = Evidence.read(job.tables, job.source.name, inputs)
    users = evidence.users(split)
    if users is None:
        mend = "move the cut: split.days"
        raise DataRefused("nobody to judge on", where=f"split {split} of sequences", mend=mend)
    known = evidence.baselines(split, users, replace(config, baselines=[POPULARITY]))
    return Ground(split, evidence, users, known, config)


def _codecs(job: Job, encoder: Encoder) -> list[Codec]:
    """float32, which the others are compared with, and those that are asked for."""
    names = dict.fromkeys((FLOAT32, *job.config.compare.vectors))
    return [Codec.named(name, encoder.dimension, "compare.vectors") for name in names]


def _kept(ground: Ground, encoder: Encoder, codecs: list[Codec]) -> Kept:
    vectors = ground.evidence.vectors(encoder, ground.users)
    scorers: dict[str, Scorer] = {codec.name: vectors.kept_by(codec) for codec in codecs}
    beside = {MODEL: ground.evidence.scorer(encoder, ground.users), **ground.known.scorers}
    return Kept(codecs, ground.compare({**scorers, **beside}))


def _metrics(comparison: Comparison) -> dict[str, float]:
    return {
        f"{comparison.split}.{model}.{name}": metric.value
        for model, ranking in comparison.results.items()
        for name, metric in ranking.metrics().items()
    }


def _differences(comparison: Comparison) -> dict[str, Any]:
    return {
        model: {name: {"value": each.value, "standard_error": each.standard_error} for name, each in by_name.items()}
        for model, by_name in comparison.differences().items()
    }


def _told(kept: Kept) -> dict[str, Any]:
    n_bytes = {codec.name: codec.n_bytes for codec in kept.codecs}
    metrics, differences = _metrics(kept.comparison), _differences(kept.comparison)
    return {"bytes": n_bytes, "left": kept.left(), "metrics": metrics, "differences": differences}


if __name__ == "__main__":
    exit_with(main(run))
