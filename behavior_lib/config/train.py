"""The keys of train."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CommunicatorName(str, Enum):
    horovod = "horovod"
    torch = "torch"
    single = "single"


class LauncherName(str, Enum):
    local = "local"
    spark = "spark"
    external = "external"


class ReaderName(str, Enum):
    petastorm = "petastorm"
    pyarrow = "pyarrow"


class StartName(str, Enum):
    cooccurrence = "cooccurrence"
    random = "random"


class TrainSplit(str, Enum):
    train = "train"
    refit = "refit"


class TableOptimizerName(str, Enum):
    dense = "dense"
    rowwise = "rowwise"


class DeviceName(str, Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class PrecisionName(str, Enum):
    float32 = "float32"
    bfloat16 = "bfloat16"


class BatchOf(str, Enum):
    worker = "worker"
    step = "step"


class Scaling(str, Enum):
    none = "none"
    sqrt = "sqrt"
    linear = "linear"


@dataclass
class TrainConfig:
    workers: int = 2
    min_workers: int | None = None  # Horovod goes on while so many are left; null: a lost worker starts all again
    communicator: CommunicatorName = CommunicatorName.horovod
    # Processes on this machine, one in each of so many Spark tasks, or those that another launcher started with this
    # same command (torchrun, horovodrun).
    launcher: LauncherName = LauncherName.local
    reader: ReaderName = ReaderName.petastorm
    start: StartName = StartName.cooccurrence  # item vectors before the first step
    # A registered model that the new one begins with: a version or alias of mlflow.model_name, or NAME@VERSION of
    # another. What both know, by name, and all of the encoder is taken; the rest starts as above. null: none.
    start_model: str | None = None
    # refit: what was chosen on validation is trained once more, on the rows up to the test cut. Nothing is chosen then:
    # the newest epoch is kept, and evaluate judges on test alone.
    split: TrainSplit = TrainSplit.train
    epochs: int = 8
    stop_after: int | None = None  # epochs after which training ends, though the schedule is that of `epochs`
    max_steps: int | None = None  # of all epochs; where they end within one, it is judged there; null: all there are
    patience: int = 2  # epochs without a better validation NDCG@10 before training stops
    batch_size: int = 16  # rows of sequences
    batch_of: BatchOf = BatchOf.worker  # whose: what a worker reads at once, or all workers in one step
    accumulate: int = 1  # batches of a worker whose gradients make one step
    learning_rate: float = 0.005
    learning_rate_scaling: Scaling = Scaling.none  # by the batches of a step: workers * accumulate, or its root
    average: float = 0.0  # decay of a moving average of the weights, which is then judged and kept; 0: none
    half_gradients: bool = False  # gradients travel as float16
    # Tables of embeddings: AdamW on every row at every step, or row-wise Adagrad on the rows that the step looked up
    # (large catalogues; gradients then travel as rows too).
    table_optimizer: TableOptimizerName = TableOptimizerName.dense
    weight_decay: float = 0.0
    warmup_share: float = 0.05  # share of all steps
    clip_norm: float = 1.0
    highest_loss: float = 1e4  # a loss that is higher, or no number, ends the run
    negatives: int = 1024  # items drawn a batch for the vectors' loss, shared by all its positions
    boundaries: int = 4  # ends of instants a row, drawn at random, where the whole catalogue is scored
    device: DeviceName = DeviceName.auto  # auto: a GPU for each worker where there is one
    precision: PrecisionName = PrecisionName.float32  # of the encoder's blocks; weights and losses are always float32
    compile: bool = False  # torch.compile the encoder's blocks (needs a C++ compiler on CPUs)
    recompute: bool = False  # blocks keep their inputs alone and compute once more for the gradient: less memory
    threads: int | None = None  # torch threads a worker; null: cores / workers
    timeout_minutes: float = 120.0  # an outside watchdog ends a run that takes longer
    dry_run: bool = False  # tell what the run would take, and end (--dry-run)
    overfit_one_batch: bool = False  # see whether the model can learn one batch by heart, and end (--overfit-one-batch)
    tensorboard: str | None = None  # folder of TensorBoard's files; null: none
    profile: bool = False  # trace a few steps with torch's profiler; the trace is an artifact of the run (--profile)
    stall_minutes: float = 15.0  # where no worker comes to or out of an exchange for so long, the run hangs
    restarts: int = 2  # how often workers that died or hang are started again from the newest state
    checkpoints: str = "${paths.var}/checkpoints"  # path or URI of the states from which a run that was ended goes on
    checkpoint_steps: int = 200  # a state is stored after so many steps, and at the end of each epoch
    keep_checkpoints: int = 2  # the newest states that stay, beside the best model
