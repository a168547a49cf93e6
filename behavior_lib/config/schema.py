"""Every configuration key, with its type and meaning. `MISSING` keys must be given by a file or by --set."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

from behavior_lib.config.fine_tune import FineTuneConfig
from behavior_lib.config.least import check_least
from behavior_lib.config.model import ModelConfig
from behavior_lib.config.train import TrainConfig
from behavior_lib.errors import ConfigError


class PrunerName(str, Enum):
    median = "median"
    halving = "halving"
    none = "none"


# Not a class like the others: `global` is a word of Python's own.
SplitKind = Enum("SplitKind", {"global": "global", "leave_one_out": "leave_one_out"}, type=str)


@dataclass
class PathsConfig:
    raw: str = MISSING  # raw files of the sources
    warehouse: str = MISSING  # a table is the Delta folder <warehouse>/<table>
    var: str = MISSING  # everything else a run leaves behind: MLflow's files, checkpoints, reports


@dataclass
class TablesConfig:
    catalog: str | None = None  # null: tables are paths; catalog.schema: tables are named


@dataclass
class SparkConfig:
    master: str | None = None  # null: what spark-submit or the notebook decides
    driver_memory: str | None = None  # null: Spark's default; too late under spark-submit
    conf: dict[str, str] = field(default_factory=dict)  # any Spark configuration


@dataclass
class RunConfig:
    batch_id: str | None = None  # null: made from the files
    input: str | None = None  # files of one batch; null: every file of the source that no batch took
    missing: bool = False  # ingest: take the batches that the source's schedule promised and no run took (--missing)
    wait_minutes: float = 0.0  # how long to wait for another run of the same work before giving up
    show_progress: bool = True


@dataclass
class LateConfig:
    max_days: int = 30  # events older than the source's newest event by more are kept aside


@dataclass
class SplitConfig:
    kind: SplitKind = SplitKind["global"]  # global: one cut for all users; leave_one_out: each user's last two events
    validation: str | None = None  # cut, UTC date or time; null: the source's, else `days` before the test cut
    test: str | None = None  # cut; null: the source's, else `days` before the end of the newest day
    days: int = 28
    refit: bool = False  # also make rows up to the test cut, for train.split=refit


@dataclass
class VocabularyConfig:
    """Which items get a number of their own. One that has a number keeps it, whatever these say later."""

    min_count: int = 1  # events that must name an item; until then it is a rare one
    # Numbers that rare items share, by a hash of item_id; 0: they are all read as the unknown item. Another count takes
    # other numbers.
    hash_buckets: int = 0
    event_types: list[str] = field(default_factory=list)  # whose events count; empty: those of every type


@dataclass
class SequencesConfig:
    length: int = 1024  # events of a chunk; own frequency over 256, 512, 1024 events and all: docs/benchmarks.md
    stride: int | None = None  # events from a chunk to the next; null: length; fewer: events in two chunks learn twice
    max_events_per_user: int = 4096  # the newest; older ones are left out
    files: int = 4  # Parquet files of the train split
    row_group: int = 2048  # rows of a row group of those files, which a reader has in memory as a whole
    neighbours: int = 0  # of an item that the table item_graph keeps, the heaviest; 0: it is not written


@dataclass
class TuneConfig:
    """A search for the configuration with the best validation NDCG@k."""

    space: str = "default"  # which keys vary and how: a name in conf/tune, or a path to a YAML file
    trials: int = 20  # that have ended in all, over every run of the study: complete, pruned or failed
    minutes: float | None = None  # no trial begins later in a run; null: no bound
    pruner: PrunerName = (
        PrunerName.median
    )  # what ends early: trials below the median of those before, the worse half, none
    study: str | None = None  # null: source and a hash of space, sequences and what is fixed, so that the same goes on
    storage: str = "${paths.var}/tune.db"  # what remembers studies: path of a sqlite file, or URL of a database

    def check(self) -> None:
        """Raises ConfigError for numbers that cannot be."""
        check_least("tune", self, {"trials": 1})


@dataclass
class EvaluateConfig:
    k: int = 10  # places that count in the headline, the gate and the report
    more_k: list[int] = field(default_factory=lambda: [1, 5, 20])  # figures of as many places stand beside it
    # Names in items.attributes by whose values a list is compared with the user's past, beside the items' popularity.
    calibration_attributes: list[str] = field(default_factory=list)
    recent_days: int = 28  # window of the recent-popularity baseline
    # What is judged beside the model: behavior_lib/evaluation/baselines. als, Spark's own, is there too.
    baselines: list[str] = field(
        default_factory=lambda: [
            "popularity",
            "recent_popularity",
            "own_frequency",
            "decayed_own_frequency",
            "transitions",
            "item_knn",
            "tifu_knn",
            "ease",
        ]
    )
    # Of these, what a model must beat to become the champion.
    gate: list[str] = field(default_factory=lambda: ["popularity", "recent_popularity", "own_frequency"])
    most_events: int = 20_000_000  # on the driver; above, baselines that need whole histories are left out
    checkpoints: str = "${paths.var}/als"  # folder that every executor reaches, of the baseline als
    batch_size: int = 128  # users that are ranked at once

    def check(self) -> None:
        """Raises ConfigError for numbers that cannot be."""
        check_least("evaluate", self, {"k": 1, "recent_days": 1, "batch_size": 1, "most_events": 0})
        if any(k < 1 for k in self.more_k):
            mend = "--set evaluate.more_k=[1, 5], or [] for none"
            raise ConfigError("evaluate.more_k must be at least 1 each", value=list(self.more_k), mend=mend)


@dataclass
class CompareConfig:
    models: list[str] = field(default_factory=list)  # versions or aliases of mlflow.model_name; others beside the first
    # How the vectors of the first may be kept: float16, int8, binary, first_N (numbers); each ranks beside float32.
    vectors: list[str] = field(default_factory=list)
    split: str = "test"  # or validation


@dataclass
class ProbeConfig:
    """What is in user vectors: how well labels that no model saw are told by nested cross-validation, and clusters."""

    model: str = "champion"  # version or alias of mlflow.model_name
    split: str = "test"  # or validation: whose cut; features know the events before it, future labels those after it
    horizon_days: int = 28  # of future labels, from the cut on; who was here in as many before it can churn
    leave_out: list[str] = field(default_factory=list)  # labels that are not judged
    folds: int = 5
    inner_folds: int = 5  # of what a fold leaves: they choose the learner and its setting
    repeats: int = 3  # of the whole, each with other folds
    dimension: int | None = None  # numbers that TF-IDF is reduced to; null: as many as the vectors have
    clusters: int = 8  # of the vectors, by k-means, of which is told how firm and how distinct they are; 0: none
    most_users: int = 20_000  # above, users are drawn; those with labels of the source come first
    most_events: int = 20_000_000  # of those users, on the driver (some 100 bytes each)


@dataclass
class MlflowConfig:
    tracking_uri: str = "sqlite:///${paths.var}/mlflow.db"
    artifacts: str = "${paths.var}/mlflow-artifacts"  # of experiments made in a sqlite store
    experiment: str = "behavior"
    model_name: str = "behavior-encoder"


@dataclass
class ReportConfig:
    path: str = "${paths.var}/report.html"
    known_items: list[str] = field(default_factory=list)  # item ids whose neighbours are shown; empty: the most bought
    users: list[str] = field(default_factory=list)  # users whose history is shown; empty: three of different activity
    explain_events: int = 256  # newest events of each that are left out in turn, to tell what moved the user's vector

    def check(self) -> None:
        """Raises ConfigError for numbers that cannot be."""
        check_least("report", self, {"explain_events": 1})


@dataclass
class MaintainConfig:
    target_file_mb: int = 128  # small files of a partition are joined into files of this size
    partitions_per_commit: int = 100  # rewritten at once; what a killed run has committed stays done
    retention_hours: int = 168  # files that no version needs are kept so long, for readers of older versions
    allow_short_retention: bool = False  # let retention_hours be less than 168; a running reader may then fail


@dataclass
class PipelineConfig:
    sample: str | None = None  # sample data to write first where the source has no file yet


@dataclass
class PrivacyConfig:
    pseudonymize: bool = False  # user ids are taken as HMAC-SHA-256 under the newest key
    # v1, v2, …: where each key lies, env:NAME or file:PATH. A key itself is never configuration, so nothing prints it.
    keys: dict[str, str] = field(default_factory=dict)


@dataclass
class ForgetConfig:
    ids: str | None = None  # file with the user ids to forget, as the source writes them, one a line
    allow_unknown: bool = False  # also remember ids that are in no table, so that their rows are refused if they come


@dataclass
class Config:
    source: str = MISSING  # a name in conf/sources, or a path to a YAML file
    seed: int = 20170101
    paths: PathsConfig = field(default_factory=PathsConfig)
    tables: TablesConfig = field(default_factory=TablesConfig)
    spark: SparkConfig = field(default_factory=SparkConfig)
    run: RunConfig = field(default_factory=RunConfig)
    late: LateConfig = field(default_factory=LateConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    sequences: SequencesConfig = field(default_factory=SequencesConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    compare: CompareConfig = field(default_factory=CompareConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    fine_tune: FineTuneConfig = field(default_factory=FineTuneConfig)
    mlflow: MlflowConfig = field(default_factory=MlflowConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    maintain: MaintainConfig = field(default_factory=MaintainConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    forget: ForgetConfig = field(default_factory=ForgetConfig)
