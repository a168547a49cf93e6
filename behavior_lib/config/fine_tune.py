"""The keys of fine_tune."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from behavior_lib.config.least import check_least
from behavior_lib.errors import ConfigError


class EncoderMode(str, Enum):
    """Whether the encoder's own weights learn too."""

    frozen = "frozen"
    trained = "trained"


@dataclass
class FineTuneConfig:
    """A head on user vectors that learns the source's labels of users, all at once, null where one is not known."""

    model: str = "champion"  # version or alias of mlflow.model_name, or NAME@VERSION of another
    register_as: str = "${mlflow.model_name}-labels"  # the registered model that the result is a version of
    labels: list[str] = field(default_factory=list)  # of users.labels; empty: all of them
    split: str = "test"  # or validation: whose cut; histories end before it
    encoder: EncoderMode = EncoderMode.frozen  # trained: once the head has learned, its weights learn with it
    hidden: int = 0  # width of a layer between vector and answers; 0: a linear head
    epochs: int = 200
    patience: int = 10  # epochs without a lower validation loss before learning stops
    batch_size: int = 64  # users
    learning_rate: float = 0.01  # of the head
    encoder_learning_rate: float = 0.0001  # of both, where the encoder learns
    weight_decay: float = 0.01  # of the head
    validation_share: float = 0.15  # of users, by a hash of seed and id: they end the learning
    test_share: float = 0.15  # they judge it
    most_users: int = 20_000  # with a label, 16 bytes each event that the model reads; above, they are drawn

    def check(self) -> None:
        """Raises ConfigError for values that cannot be."""
        least = {"hidden": 0, "epochs": 1, "patience": 1, "batch_size": 1, "most_users": 1, "weight_decay": 0}
        check_least("fine_tune", self, least)
        positive = ("learning_rate", "encoder_learning_rate", "validation_share", "test_share")
        for key in positive:
            if getattr(self, key) <= 0:
                mend = f"--set fine_tune.{key}=…"
                raise ConfigError(f"fine_tune.{key} must be above 0", value=getattr(self, key), mend=mend)
        if self.validation_share + self.test_share >= 1:
            shares = [self.validation_share, self.test_share]
            what, mend = "fine_tune.validation_share and test_share leave nobody to learn from", "their sum is below 1"
            raise ConfigError(what, value=shares, mend=mend)
