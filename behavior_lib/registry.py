"""The models' life in MLflow: a run becomes a version, a challenger, and the champion where it passes the gate."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array

import behavior_lib
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.evaluation.judge import CHAMPION, MODEL, Verdict, check_gate
from behavior_lib.inference.encoder import BUNDLE, BUNDLE_FILES, Encoder
from behavior_lib.inference.labels import LABEL_BUNDLE_FILES, LabelPredictor
from behavior_lib.inference.vocabulary import VOCABULARY_FILE, Vocabulary
from behavior_lib.tables.sequences import REFIT

CHALLENGER = "challenger"
TAUGHT_BY = "train_split"  # tag: the split of sequences that a version learned from
SOURCE = "source"  # tag: the source whose events those are
TRAIN_CUT = "train_cut"  # tag: the cut that those events lie before, ISO and UTC; leave_one_out: one for each user
TAUGHT_LABELS = "taught_labels"  # tag: the labels of users that its encoder was taught, as JSON
START_MODEL = "start_model"  # tag: the version that a version's training began with, and a hash of what it took

_SIGNS = str.maketrans({"@": "_at_", "+": "_and_"})
_NO_NAME = re.compile(r"[^\w.\- :]")  # what MLflow takes in no name, or for a path

# What a loaded model needs and no more: no Spark, no reader, no configuration.
PACKAGED = (
    "__init__.py",
    "version.py",
    "errors.py",
    "data/__init__.py",
    "data/histories.py",
    "inference",
    "models",
    "tables",
)
REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors", "torch")

# item_id is declared optional only so that MLflow lets a null history through; the model refuses a frame without it.
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.string, "user_id"),
            ColSpec(Array(DataType.string), "item_id", required=False),
            ColSpec(Array(DataType.string), "event_type", required=False),
            ColSpec(Array(DataType.long), "event_time", required=False),
            ColSpec(Array(DataType.double), "value", required=False),
        ]
    ),
    outputs=Schema([ColSpec(DataType.string, "user_id"), ColSpec(Array(DataType.float), "embedding")]),
    params=ParamSchema(
        [
            ParamSpec("output", DataType.string, "embedding"),
            ParamSpec("k", DataType.long, 10),
            ParamSpec("explain_events", DataType.long, 256),
        ]
    ),
)


@dataclass(frozen=True)
class Kind:
    """What models of one kind consist of: the files of a version, the module of `inference` that answers, its
    signature, and what loads the files and complains where they are not whole.
    """

    files: tuple[str, ...]
    module: str
    signature: ModelSignature
    load: Callable[[Path], object]


ENCODER = Kind(BUNDLE_FILES, "registered_model.py", SIGNATURE, Encoder.load)


def label_kind(names: Iterable[str]) -> Kind:
    """Fine-tuned models that answer with these labels."""
    answers = (ColSpec(DataType.double, name) for name in names)
    outputs = Schema([ColSpec(DataType.string, "user_id"), *answers])
    signature = ModelSignature(inputs=SIGNATURE.inputs, outputs=outputs)
    return Kind(LABEL_BUNDLE_FILES, "registered_labels.py", signature, LabelPredictor.load)


@dataclass(frozen=True)
class Registered:
    """One version of the registered model, resolved once: an alias may move while a job runs, this does not."""

    name: str
    version: int
    run_id: str
    tags: Mapping[str, str]

    @property
    def is_refit(self) -> bool:
        """Whether it learned from what validation asks for, so that only test can judge it."""
        return self.tags.get(TAUGHT_BY) == REFIT

    @property
    def source(self) -> str | None:
        """Whose events it learned from; None where its tags do not know."""
        return self.tags.get(SOURCE)

    @property
    def taught_labels(self) -> tuple[str, ...]:
        """The labels of its source's users that its encoder was taught, of whose vectors they are no fair question.

        Raises ConfigError where the tag is no list.
        """
        try:
            names = json.loads(self.tags.get(TAUGHT_LABELS, "[]"))
        except ValueError:
            names = None
        if not isinstance(names, list):
            where, mend = f"tag {TAUGHT_LABELS} of version {self.version} of {self.name}", 'write ["age"], say'
            raise ConfigError("no list of labels", where=where, value=self.tags[TAUGHT_LABELS], mend=mend)
        return tuple(map(str, names))

    def is_of(self, source: str) -> bool:
        """Whether it learned from that source's events, as far as its tags know."""
        return self.source in (None, source)


class Registry:
    """The versions of one registered model in one MLflow store.

    tracking_uri: as MLflow takes it; the folder of a sqlite file is made where it is missing.
    """

    def __init__(self, tracking_uri: str, model_name: str) -> None:
        self._tracking_uri = tracking_uri
        self.model_name = model_name
        _make_folder(tracking_uri)
        # Its bars tell nothing of three small files, and break the lines of a job's own progress.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        self._client = _client(tracking_uri)

    def experiment(self, name: str, artifacts: str) -> str:
        """The id of the experiment, which is created where it is missing.

        artifacts: folder or URI for the files of an experiment made in a sqlite store; a server decides by itself.
        """
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = artifacts if "://" in artifacts else Path(artifacts).absolute().as_uri()
        is_sqlite = self._tracking_uri.startswith("sqlite:")
        return str(self._client.create_experiment(name, artifact_location=location if is_sqlite else None))

    def register(
        self,
        run_id: str,
        checkpoint: Path,
        vocabulary: Vocabulary,
        tags: Mapping[str, object],
        kind: Kind = ENCODER,
    ) -> Registered:
        """Store a run's model as a new version and make it the challenger.

        checkpoint: a folder with the files of the kind, but for the vocabulary. tags: set on the version
        (sequences_version, events_version, …). The same run again gives its version back and makes no second one; it
        does not become challenger again once a newer version is challenger or champion.
        Raises DataRefused where the checkpoint is not whole or does not fit the vocabulary.
        """
        found = self._of_run(run_id)
        if found is None:
            self._store(run_id, checkpoint, vocabulary, kind)
            found = self._of_run(run_id)
            assert found is not None
        for key, value in tags.items():
            self._client.set_model_version_tag(self.model_name, str(found.version), key, str(value))
        aliased = (self.resolve(CHALLENGER), self.resolve(CHAMPION))
        if all(other is None or other.version < found.version for other in aliased):
            self._client.set_registered_model_alias(self.model_name, CHALLENGER, str(found.version))
        return self._registered(self._client.get_model_version(self.model_name, str(found.version)))

    def resolve(self, alias: str) -> Registered | None:
        """The version that an alias names now; None where there is none."""
        try:
            return self._registered(self._client.get_model_version_by_alias(self.model_name, alias))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def find(self, name: str, key: str | None = None) -> Registered:
        """The version of that number or alias. key: the one that names it, for errors.

        Raises ConfigError where there is none.
        """
        found = self._of_number(name) if name.isdigit() else self.resolve(name)
        if found is None:
            mend = "give the number of a version, or an alias"
            if name == CHAMPION:
                mend = "run evaluate, whose gate makes a version the champion, or name one by its number"
                mend += "" if key is None else f" in {key}"
            raise ConfigError("no such version", where=f"model {self.model_name}", value=name, mend=mend)
        return found

    def find_any(self, text: str, key: str | None = None) -> Registered:
        """As `find`; or, of another model, NAME@VERSION, VERSION being a number or an alias."""
        name, separator, version = text.rpartition("@")
        if separator and not name:
            raise ConfigError("a version has no model", where=key or "", value=text, mend="give NAME@VERSION")
        return (Registry(self._tracking_uri, name) if separator else self).find(version, key)

    def champion(self) -> Registered:
        """The version that jobs read. Raises DataRefused where no version has passed the gate."""
        found = self.resolve(CHAMPION)
        if found is None:
            mend = "run train and evaluate first"
            raise DataRefused("no version has passed the gate", where=f"model {self.model_name}", mend=mend)
        return found

    @contextmanager
    def bundle(self, registered: Registered) -> Iterator[Path]:
        """A folder, gone afterwards, with the version's BUNDLE_FILES."""
        uri = f"models:/{registered.name}/{registered.version}/artifacts/{BUNDLE}"
        with TemporaryDirectory() as folder, self._as_default():
            yield Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))

    def promote(self, challenger: Registered, verdict: Verdict) -> None:
        """Make the challenger the champion where it passes the gate, and write its figures on the version either way.

        verdict: the challenger, the present champion if there is one, and the baselines, on one validation cut.
        Raises GateNotPassed, with the figures, where it does not pass; the version then stays challenger.
        """
        figures = {f"{verdict.split}.{name}": metric.value for name, metric in verdict.results[MODEL].metrics().items()}
        for key, value in {**figures, "winner": verdict.winner}.items():
            self._client.set_model_version_tag(self.model_name, str(challenger.version), _named(key), str(value))
        check_gate(verdict)
        self._client.set_registered_model_alias(self.model_name, CHAMPION, str(challenger.version))
        still = self.resolve(CHALLENGER)
        if still is not None and still.version == challenger.version:
            self._client.delete_registered_model_alias(self.model_name, CHALLENGER)

    def log_metrics(self, registered: Registered, metrics: Mapping[str, float]) -> None:
        """Add metrics to the run that the version came from. MLflow takes few signs in a name: `@` is written `_at_`,
        `+` `_and_`, and each other one `_`.
        """
        now = int(time.time() * 1000)
        entries = [Metric(_named(name), value, now, 0) for name, value in metrics.items()]
        self._client.log_batch(registered.run_id, metrics=entries)

    def _of_number(self, number: str) -> Registered | None:
        try:
            return self._registered(self._client.get_model_version(self.model_name, number))
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _of_run(self, run_id: str) -> Registered | None:
        found = self._client.search_model_versions(f"run_id = '{run_id}'")
        own = [self._registered(version) for version in found if version.name == self.model_name]
        return max(own, key=lambda registered: registered.version, default=None)

    def _store(self, run_id: str, checkpoint: Path, vocabulary: Vocabulary, kind: Kind) -> None:
        with TemporaryDirectory() as folder:
            bundle, package = Path(folder) / BUNDLE, Path(folder) / behavior_lib.__name__
            bundle.mkdir()
            for name in kind.files:
                if name != VOCABULARY_FILE and (checkpoint / name).exists():
                    shutil.copy(checkpoint / name, bundle)
            vocabulary.save(bundle)
            kind.load(bundle)  # a version that cannot be loaded must not come to be
            _copy_package(package)
            with self._as_default(), mlflow.start_run(run_id=run_id):
                model = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(package / "inference" / kind.module),
                    artifacts={BUNDLE: str(bundle)},
                    code_paths=[str(package)],
                    signature=kind.signature,
                    input_example=_example(vocabulary),
                    pip_requirements=[f"{name}=={_public(installed_version(name))}" for name in REQUIREMENTS],
                )
                mlflow.register_model(model.model_uri, self.model_name)

    def _registered(self, version: ModelVersion) -> Registered:
        return Registered(version.name, int(version.version), str(version.run_id), dict(version.tags))

    @contextmanager
    def _as_default(self) -> Iterator[None]:
        """MLflow logs and loads models through a global address alone; whoever set it before finds it unchanged."""
        before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None  # type: ignore[no-untyped-call]
        mlflow.set_tracking_uri(self._tracking_uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None takes it back


def may_hold_a_secret(tracking_uri: str) -> bool:
    """Whether an address has a place for a password, and so is for no page and no log."""
    return bool(set("@?") & set(tracking_uri))


def _named(figure: str) -> str:
    """The name of a figure as MLflow takes it."""
    return _NO_NAME.sub("_", figure.translate(_SIGNS))


def _client(tracking_uri: str) -> MlflowClient:
    try:
        return MlflowClient(tracking_uri)
    except MlflowException as problem:
        # Not the value: an address may hold a password.
        mend = f"{type(problem).__name__}: give sqlite:///FILE, http(s)://SERVER or the URL of a database"
        raise ConfigError("MLflow does not take the address", where="mlflow.tracking_uri", mend=mend) from None


def _make_folder(tracking_uri: str) -> None:
    scheme, separator, path = tracking_uri.partition(":///")
    if separator and scheme == "sqlite":
        Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)


def _example(vocabulary: Vocabulary) -> pd.DataFrame:
    """One user with one event of the first item, as people send it."""
    item = next((name for name in vocabulary.item_ids if name is not None), "an item")
    kind = next((name for name in vocabulary.event_types if name is not None), "an event type")
    return pd.DataFrame(
        {"user_id": ["someone"], "item_id": [[item]], "event_type": [[kind]], "event_time": [[0]], "value": [[1.0]]}
    )


def _copy_package(target: Path) -> None:
    source = Path(behavior_lib.__file__).parent
    for name in PACKAGED:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)


def _public(version: str) -> str:
    """Without the local part: torch 2.13.0+cpu is torch 2.13.0 everywhere else."""
    return version.partition("+")[0]
