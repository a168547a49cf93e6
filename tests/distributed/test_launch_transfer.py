"""Two processes begin with one registered model: each judges its own users with it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from behavior_lib.data.loader import Loader
from behavior_lib.data.snapshot import count_train
from behavior_lib.models.build import DESCRIPTION, WEIGHTS, build_model, load_model, save_model
from behavior_lib.train.communicator import SingleProcess
from behavior_lib.train.launch import launch
from behavior_lib.train.store import FolderStore
from behavior_lib.train.transfer import Origin
from behavior_lib.train.validation import validation_ndcg
from tests.distributed.test_launch import settings, snapshot

pytestmark = pytest.mark.distributed
__all__ = ["snapshot"]  # the fixture


@pytest.mark.parametrize("communicator", ["horovod", "torch"])
def test_every_rank_begins_with_the_model(snapshot, tmp_path, communicator):
    still = ("train.learning_rate=1e-30", "train.epochs=1", "model.repeat_path=false", "model.successors=0")
    wanted = settings(snapshot, tmp_path, *still, f"train.communicator={communicator}")
    counts = count_train(snapshot)
    torch.manual_seed(7)
    begun = build_model(wanted.spec, torch.from_numpy(counts.items)).eval()
    save_model(begun, tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in (WEIGHTS, DESCRIPTION)}
    origin = Origin("shop/1", files, np.arange(len(counts.items)), np.arange(counts.n_event_types))
    wanted = replace(wanted, fit=replace(wanted.fit, origin=origin.identity))
    origin.put(FolderStore(wanted.checkpoints_of(snapshot)))
    result = launch(wanted, snapshot, counts, lambda message: None)
    kept = load_model(Path(result.checkpoint)).state_dict()
    for name, weight in begun.state_dict().items():
        torch.testing.assert_close(kept[name], weight, rtol=0, atol=1e-20, msg=name)  # a 0 takes a step of 1e-30
    expected = validation_ndcg(begun, Loader(snapshot, "validation", 16, "pyarrow"), SingleProcess(), 3)
    assert result.best.validation_ndcg == pytest.approx(expected, abs=1e-6)
