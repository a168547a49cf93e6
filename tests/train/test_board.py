"""What TensorBoard would show, read back from its files."""

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from behavior_lib.train.board import Board
from behavior_lib.train.messages import Note, StepMessage
from behavior_lib.train.settings import EpochResult


def test_figures_of_steps_and_epochs_stand_at_their_steps(tmp_path):
    board = Board(str(tmp_path), "a run", 10)
    for message in (
        StepMessage(4, 20, 7.5, 1000.0),
        StepMessage(10, 20, 7.25, 1100.0),
        Note("nothing to draw"),
        EpochResult(0, 7.375, 0.125, 2.0, 1050.0, 10),
    ):
        board.show(message)
    board.close()
    told = EventAccumulator(str(tmp_path / "a run")).Reload()
    scalars = {name: [(each.step, each.value) for each in told.Scalars(name)] for name in told.Tags()["scalars"]}
    assert scalars == {
        "train/loss": [(4, 7.5), (10, 7.25)],
        "train/tokens_per_second": [(4, 1000.0), (10, 1100.0)],
        "epoch/loss": [(10, 7.375)],
        "epoch/validation_ndcg_at_10": [(10, 0.125)],
    }
