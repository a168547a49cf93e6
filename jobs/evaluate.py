"""Judge the newest model beside the baselines, and make it the champion where it is better."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.evaluation.baselines import check_choice
from behavior_lib.evaluation.judge import CHAMPION, MODEL, Verdict, stored_lines
from behavior_lib.inference.encoder import Encoder
from behavior_lib.registry import CHALLENGER, Registered, Registry
from behavior_lib.spark.admission import Admission
from behavior_lib.spark.evidence import Evidence
from behavior_lib.spark.job import Job, exit_with, main
from behavior_lib.spark.ledger import UNCHANGED, Summary
from behavior_lib.spark.schema import rows_frame
from behavior_lib.tables import EVALUATIONS, EVENTS, ITEMS, SEQUENCES
from behavior_lib.tables.sequences import TEST, VALIDATION


def run(job: Job) -> Summary:
    """Judge the challenger (the champion where there is none) on both splits, and open the gate on validation.

    A refit knows what validation asks for: it is judged on test alone, and the gate is there. A version of another
    source is refused, and so is one that has learned from what follows the cut.
    """
    job.config.evaluate.check()
    check_choice(job.config.evaluate.baselines, job.config.evaluate.gate)
    registry = Registry(job.config.mlflow.tracking_uri, job.config.mlflow.model_name)
    champion, challenger = registry.resolve(CHAMPION), registry.resolve(CHALLENGER)
    subject = challenger or champion
    if subject is None:
        raise DataRefused("there is no model to judge", where=f"model {registry.model_name}", mend="run train first")
    admission = _admission(job, registry, [model for model in (champion, challenger) if model is not None])
    job.check_sequences()
    inputs = {spec.name: job.tables.version(spec) for spec in (SEQUENCES, EVENTS, ITEMS)}
    inputs[f"models:/{subject.name}"] = subject.version  # an alias may be set back to a version judged on older tables
    config_hash = job.config_hash("evaluate", "mlflow")
    stored = _stored(job, subject) if challenger is None and job.is_done(inputs, config_hash) else []
    if stored:
        job.progress.say(f"version {subject.version} is champion and judged already")
        for line in stored_lines(stored, job.config.evaluate.k):
            job.progress.say(line)
        told = {"model_version": subject.version}
        return Summary(UNCHANGED, inputs=inputs, config_hash=config_hash, extra=told)
    gate_on = TEST if subject.is_refit else VALIDATION
    evidence = Evidence.read(job.tables, job.source.name, inputs)
    admit = partial(admission.check_cut, asked=evidence.cut(gate_on))
    admit(subject)
    encoders = _encoders(job, registry, subject, None if challenger is None else champion, admit)
    verdicts = _verdicts(job, evidence, encoders, gate_on)
    version = _write(job, subject, verdicts, inputs[SEQUENCES.name])
    metrics = {name: value for verdict in verdicts.values() for name, value in verdict.as_flat_metrics().items()}
    registry.log_metrics(subject, metrics)
    if challenger is not None:
        registry.promote(challenger, verdicts[gate_on])
        job.progress.say(f"version {challenger.version} passed the gate and is champion")
    winners = {split: verdict.winner for split, verdict in verdicts.items()}
    winner = winners.get(TEST, winners[gate_on])
    extra = {"model_version": subject.version, "winner": winner, "winners": winners}
    return Summary(
        inputs=inputs, tables={EVALUATIONS.name: version}, metrics=metrics, config_hash=config_hash, extra=extra
    )


def _admission(job: Job, registry: Registry, models: Iterable[Registered]) -> Admission:
    """Of the source. Raises DataRefused where a model is of another one: aliases would pass from source to source."""
    where, mend = f"model {registry.model_name}", "train on these sequences, or build them with a later cut"
    admission = Admission(job.source.name, where, mend, job.progress.warn, DataRefused)
    for model in models:
        admission.check_origin(model)
    return admission


def _stored(job: Job, model: Registered) -> list[dict[str, Any]]:
    return [row.asDict() for row in job.tables.read(EVALUATIONS).where(_rows_of(model)).collect()]


def _rows_of(model: Registered) -> str:
    name = model.name.replace("'", "\\'")
    return f"{EVALUATIONS.model_version} = {model.version} and {EVALUATIONS.model_name} = '{name}'"


def _encoders(
    job: Job, registry: Registry, subject: Registered, rival: Registered | None, admit: Callable[[Registered], None]
) -> dict[str, Encoder]:
    """The model to judge, and the champion beside it where that is another one, which `admit` takes."""
    encoders = {MODEL: _load(job, registry, subject)}
    if rival is not None and rival.is_refit and not subject.is_refit:
        # It knows the answers of validation, and has learned from more before test.
        job.progress.warn(
            f"the gate looks at the baselines alone, for the champion is a refit: version {rival.version}"
        )
        return encoders
    try:
        if rival is not None:
            admit(rival)
            encoders[CHAMPION] = _load(job, registry, rival)
    except DataRefused as problem:
        # After an upgrade of the code, or with earlier cuts, an old champion must not stand in the way of new models.
        job.progress.warn(f"the gate looks at the baselines alone, for the champion cannot be judged: {problem}")
    return encoders


def _load(job: Job, registry: Registry, model: Registered) -> Encoder:
    with job.progress.step(f"loading version {model.version}"), registry.bundle(model) as folder:
        return Encoder.load(folder)


def _verdicts(job: Job, evidence: Evidence, encoders: dict[str, Encoder], gate_on: str) -> dict[str, Verdict]:
    """The verdict on the split of the gate, where the champion is judged too, and on test, for the subject alone."""
    config, verdicts, judged_on = job.config.evaluate, {}, {gate_on: encoders}
    judged_on.setdefault(TEST, {MODEL: encoders[MODEL]})
    for split, judged in judged_on.items():
        with job.progress.step(f"judging on {split}"):
            verdict = _verdict(job, evidence, split, judged, config.gate if split == gate_on else ())
        if verdict is not None:
            verdicts[split] = verdict
            for line in verdict.as_lines():
                job.progress.say(line)
        elif split != gate_on:
            job.progress.warn("nobody has a session after the test cut: judged on validation alone")
        else:
            mend = "move the cut: split.days"
            raise DataRefused("nobody to judge on", where=f"split {split} of sequences", mend=mend)
    return verdicts


def _verdict(
    job: Job, evidence: Evidence, split: str, encoders: dict[str, Encoder], needed: Sequence[str]
) -> Verdict | None:
    config = job.config.evaluate
    users = evidence.users(split)
    if users is None:
        return None
    others = evidence.baselines(split, users, config)
    tell_left_out(job, others.left_out, needed)
    models = {name: evidence.scorer(encoder, users) for name, encoder in encoders.items()}
    results = evidence.rank(split, {**models, **others.scorers}, users, others, config)
    return Verdict(split, results, config.gate, evidence.foretold(split, encoders[MODEL], users))


def tell_left_out(job: Job, names: Sequence[str], needed: Sequence[str]) -> None:
    """Say which baselines are not judged. Raises ConfigError where they are needed, by the gate on this split."""
    if not names:
        return
    config = job.config.evaluate
    reason = f"there are more than {config.most_events} events (evaluate.most_events)"
    if lacking := [name for name in needed if name in names]:
        mend = "raise evaluate.most_events, or name others in evaluate.gate"
        raise ConfigError(f"the gate needs {', '.join(lacking)}, and {reason}", mend=mend)
    job.progress.warn(f"{', '.join(names)} are left out: {reason}")


def _write(job: Job, model: Registered, verdicts: dict[str, Verdict], sequences_version: int) -> int:
    """Put the version's figures in place of those that an earlier judgement left. Returns the table's version."""
    lineage = {
        EVALUATIONS.model_name: model.name,
        EVALUATIONS.model_version: model.version,
        EVALUATIONS.sequences_version: sequences_version,
    }
    rows = [row for verdict in verdicts.values() for row in verdict.as_rows(**lineage)]
    return job.tables.replace(EVALUATIONS, rows_frame(job.spark, EVALUATIONS, rows), _rows_of(model))


if __name__ == "__main__":
    exit_with(main(run))
