"""A training run as TensorBoard shows it."""

from __future__ import annotations

from behavior_lib.errors import EnvironmentProblem
from behavior_lib.train.messages import Message, StepMessage
from behavior_lib.train.settings import EpochResult


class Board:
    """Writes a run's figures into a folder of its own below the given one, as they come. k: of NDCG@k."""

    def __init__(self, folder: str, run: str, k: int) -> None:
        """Raises EnvironmentProblem where TensorBoard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            mend = "pip install tensorboard, or --set train.tensorboard=null"
            raise EnvironmentProblem("TensorBoard is not installed", mend=mend) from None
        self._writer, self._k, self._steps = SummaryWriter(f"{folder}/{run}"), k, 0

    def show(self, message: Message) -> None:
        """Take one message of the run; what an epoch told stands at the step that ended it."""
        if isinstance(message, StepMessage):
            self._steps = message.done
            self._write("train/loss", message.loss)
            self._write("train/tokens_per_second", message.tokens_per_second)
        elif isinstance(message, EpochResult):
            self._write("epoch/loss", message.loss)
            self._write(f"epoch/validation_ndcg_at_{self._k}", message.validation_ndcg)

    def close(self) -> None:
        """Write what is held."""
        self._writer.close()

    def _write(self, name: str, value: float) -> None:
        self._writer.add_scalar(name, value, self._steps)
