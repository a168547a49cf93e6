"""Put versions of a model beside each other on the same users."""

from dataclasses import replace
from typing import Any

from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.evaluation.baselines import POPULARITY
from behavior_lib.evaluation.comparison import Comparison
from behavior_lib.inference.encoder import Encoder
from behavior_lib.registry import Registered, Registry
from behavior_lib.spark.evidence import Evidence
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import Summary
from behavior_lib.tables import EVENTS, ITEMS, SEQUENCES
from behavior_lib.tables.sequences import TEST, VALIDATION


def run(job: Job) -> Summary:
    """Rank with every version that compare.models names, and tell the figures and the differences from the first."""
    split = job.config.compare.split
    if split not in (TEST, VALIDATION):
        raise ConfigError("no such split", where="compare.split", value=split, mend=f"give {TEST} or {VALIDATION}")
    registry = Registry(job.config.mlflow.tracking_uri, job.config.mlflow.model_name)
    models = _models(job, registry)
    inputs = {spec.name: job.tables.version(spec) for spec in (SEQUENCES, EVENTS, ITEMS)}
    with job.progress.step(f"judging {len(models)} versions on {split}"):
        comparison = _compare(job, registry, models, Evidence.read(job.tables, job.source.name, inputs))
    job.progress.show(comparison.as_table())
    metrics = {
        f"{split}.{model}.{name}": metric.value
        for model, ranking in comparison.results.items()
        for name, metric in ranking.metrics().items()
    }
    return Summary(inputs=inputs, metrics=metrics, extra=_extra(models, comparison))


def _models(job: Job, registry: Registry) -> dict[str, Registered]:
    names = job.config.compare.models
    models = {name: registry.find(name) for name in names}
    if len({model.version for model in models.values()}) < max(2, len(names)):
        mend = "name two or more versions or aliases: compare.models=[champion,3]"
        raise ConfigError("there is nothing to compare", where="compare.models", value=list(names), mend=mend)
    return models


def _compare(job: Job, registry: Registry, models: dict[str, Registered], evidence: Evidence) -> Comparison:
    config, split = job.config.evaluate, job.config.compare.split
    users = evidence.users(split)
    if users is None:
        mend = "move the cut: split.days"
        raise DataRefused("nobody to judge on", where=f"split {split} of sequences", mend=mend)
    known = evidence.baselines(split, users, replace(config, baselines=[POPULARITY]))
    scorers = {}
    for name, model in models.items():
        with registry.bundle(model) as folder:
            scorers[name] = evidence.scorer(Encoder.load(folder), users)
    return Comparison(split, evidence.rank(split, scorers, users, known, config))


def _extra(models: dict[str, Registered], comparison: Comparison) -> dict[str, Any]:
    differences = {
        model: {name: {"value": each.value, "standard_error": each.standard_error} for name, each in by_name.items()}
        for model, by_name in comparison.differences().items()
    }
    return {
        "split": comparison.split,
        "versions": {name: model.version for name, model in models.items()},
        "compared_with": comparison.first,
        "differences": differences,
    }


if __name__ == "__main__":
    exit_with(main(run))
