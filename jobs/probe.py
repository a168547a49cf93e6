"""Ask what is in user vectors: how well labels that the model never saw are told from them, and how they cluster."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.keys import nearest
from behavior_lib.config.least import check_least
from behavior_lib.config.schema import SplitKind
from behavior_lib.config.source import FUTURE
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.evaluation.clustering import cluster, objection
from behavior_lib.evaluation.probes import Label, Plan, Probed, probe
from behavior_lib.evaluation.probes_table import as_table
from behavior_lib.inference.encoder import read_bundle
from behavior_lib.registry import Registered, Registry
from behavior_lib.spark.admission import Admission, Cut, other_cut
from behavior_lib.spark.embed import Serving
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.labels import read_labels
from behavior_lib.spark.ledger import Summary
from behavior_lib.spark.probes import Gathered, gather
from behavior_lib.spark.splits import cuts, newest_event
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS
from behavior_lib.tables.sequences import TEST, VALIDATION


def run(job: Job) -> Summary:
    """Judge every label that the source has, those of what comes after the cut, and clusters, and tell the figures."""
    _check(job)
    registry = Registry(job.config.mlflow.tracking_uri, job.config.mlflow.model_name)
    model = registry.find(job.config.probe.model, "probe.model")
    split = job.config.probe.split
    admission = Admission(job.source.name, "probe.model", other_cut("probe", split), job.progress.warn)
    admission.check_origin(model)
    admission.check_refit(model, split)
    inputs = {spec.name: job.tables.version(spec) for spec in (EVENTS, ITEMS, EVENT_TYPES)}
    events = job.tables.read(EVENTS, inputs[EVENTS.name]).where(F.col(EVENTS.source) == job.source.name)
    newest = newest_event(events, job.source.name)
    cut = cuts(job.config.split, job.source.split, newest)[split == TEST]
    admission.check_cut(model, Cut.at(cut, job.config.split.kind))
    with job.progress.step(f"gathering users as of {cut}"):
        gathered = _gather(job, registry, model, events, inputs, cut)
    plan = _plan(job, gathered)
    wanted, left_out = _sorted_out(job, gathered.labels, plan, model.taught_labels)
    found = []
    for label in wanted:
        with job.progress.step(f"probing {label.name} of {len(label.known):,} users"):
            found.append(probe(gathered.panel, label, plan))
    clusters = _clusters(job, gathered)
    if not found and not clusters:
        mend = "the warnings say why; name more labels in users.labels, or ask for fewer folds"
        raise DataRefused("no label can be judged", where=f"source {job.source.name}", value=list(left_out), mend=mend)
    ends = cut + timedelta(days=job.config.probe.horizon_days)
    if newest < ends and any(each.label.name in FUTURE for each in found):
        job.progress.warn(f"what comes after the cut is known up to {newest} alone, not {ends}")
    if found:
        job.progress.show(as_table(found, f"{model.name} version {model.version}, users as of {cut}"))
    metrics = {**_metrics(found), **clusters}
    registry.log_metrics(model, {f"probe.{split}.{name}": value for name, value in metrics.items()})
    extra = {"model_version": model.version, "cut": cut.isoformat(), "left_out": left_out, **_told(found)}
    return Summary(inputs=inputs, metrics=metrics, extra=extra)


def _check(job: Job) -> None:
    config = job.config.probe
    if config.split not in (TEST, VALIDATION):
        mend = f"give {TEST} or {VALIDATION}"
        raise ConfigError("no such split", where="probe.split", value=config.split, mend=mend)
    positive = dict.fromkeys(("repeats", "horizon_days", "most_users", "most_events", "dimension"), 1)
    check_least("probe", config, {"folds": 2, "inner_folds": 2, **positive, "clusters": 0})
    if config.clusters == 1:
        mend = "give 2 or more, or 0 for none"
        raise ConfigError("one cluster is all there is", where="probe.clusters", value=1, mend=mend)
    known = [*(job.source.users.names if job.source.users is not None else ()), *FUTURE]
    for name in config.leave_out:
        if name not in known:
            near = nearest(name, known)
            mend = f"did you mean {near}?" if near else f"one of {', '.join(known)}"
            raise ConfigError("no such label", where="probe.leave_out", value=name, mend=mend)


def _gather(
    job: Job, registry: Registry, model: Registered, events: DataFrame, inputs: dict[str, int], cut: datetime
) -> Gathered:
    with registry.bundle(model) as folder:
        files = read_bundle(folder)
    items, types = (job.tables.read(spec, inputs[spec.name]) for spec in (ITEMS, EVENT_TYPES))
    serving = Serving.of(files, items, types)
    users = job.source.users
    known = None if users is None else read_labels(job.spark, users, job.config.privacy)
    return gather(events, cut, known, serving, job.config.probe, job.config.seed)


def _plan(job: Job, gathered: Gathered) -> Plan:
    config = job.config.probe
    dimension = gathered.panel.vectors.shape[1] if config.dimension is None else config.dimension
    return Plan(config.folds, config.inner_folds, config.repeats, dimension, job.config.seed)


def _sorted_out(
    job: Job, labels: Sequence[Label], plan: Plan, taught: Collection[str]
) -> tuple[list[Label], dict[str, str]]:
    """The labels to judge, and by name why the others are not. taught: labels that the model was taught."""
    unwanted = job.config.probe.leave_out
    asked = [label for label in labels if label.name not in unwanted and label.class_of not in unwanted]
    left_out = {}
    for label in asked:
        if label.name in FUTURE and job.config.split.kind is SplitKind.leave_one_out:
            left_out[label.name] = "the model has learned from events after the cut (split.kind=leave_one_out)"
        elif label.name in taught or label.class_of in taught:
            left_out[label.name] = "the model was taught it (fine_tune.encoder=trained)"
        elif (objection := plan.objection(label)) is not None:
            left_out[label.name] = objection
    for name, reason in left_out.items():
        job.progress.warn(f"{name} is not judged: {reason}")
    return [label for label in asked if label.name not in left_out], left_out


def _clusters(job: Job, gathered: Gathered) -> dict[str, float]:
    """How firm and how distinct clusters of the vectors are, by name; nothing where there are none to judge."""
    vectors, n_clusters = gathered.panel.vectors, job.config.probe.clusters
    if not n_clusters:
        return {}
    if (reason := objection(vectors, n_clusters)) is not None:
        job.progress.warn(f"{n_clusters} clusters are not judged: {reason} (probe.clusters)")
        return {}
    with job.progress.step(f"clustering {len(vectors):,} users"):
        found = cluster(vectors, n_clusters, job.config.seed)
    for name, clusters in found.items():
        told = ", ".join(f"{figure} {value:.3f}" for figure, value in clusters.figures().items())
        job.progress.say(f"{n_clusters} clusters of {name}: {told}")
    return {
        f"clusters.{name}.{figure}": value
        for name, clusters in found.items()
        for figure, value in clusters.figures().items()
    }


def _metrics(found: Iterable[Probed]) -> dict[str, float]:
    return {
        f"{probed.label.name}.{features}.{metric}": estimate.value
        for probed in found
        for features, by_metric in probed.figures().items()
        for metric, estimate in by_metric.items()
    }


def _told(found: Iterable[Probed]) -> dict[str, Any]:
    return {"probes": {probed.label.name: probed.as_dict() for probed in found}}


if __name__ == "__main__":
    exit_with(main(run))
