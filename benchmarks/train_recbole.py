"""RecBole's SASRec in the contest, trained by its own Trainer. Run by the peers' Python.

RecBole makes a row of every event but a user's first: the events before it, with the event as the one target. `loss`:
`CE` is the cross-entropy over all items, `BPR` one negative item a target.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from recbole.config import Config
from recbole.data import create_dataset, create_samplers
from recbole.data.dataloader import TrainDataLoader
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer

from benchmarks.train_pace import Pace, read_case


class Turns:
    """The batches of an epoch; when the next one is asked for, the step of the one before has ended."""

    def __init__(self, loader: Any, pace: Pace) -> None:
        self._loader, self._pace = loader, pace

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield batch
            self._pace.step(len(batch), len(batch))

    def __len__(self) -> int:
        return len(self._loader)


def main(folder: Path) -> None:
    case = read_case(folder)
    torch.set_num_threads(case["threads"])
    config = Config(model="SASRec", dataset=case["dataset"], config_dict=settings(folder, case))
    torch.manual_seed(case["seed"])
    dataset = create_dataset(config)
    built = dataset.build()
    sampler, *_ = create_samplers(config, dataset, built)
    loader = TrainDataLoader(config, built[0], sampler, shuffle=True)
    model = SASRec(config, loader.dataset).to(config["device"])
    turns = Turns(loader, Pace(folder, case["warm_up"]))
    Trainer(config, model).fit(turns, saved=False, verbose=False)


def settings(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """All rows go into training."""
    negatives = {"distribution": "uniform", "sample_num": 1, "dynamic": False} if case["loss"] == "BPR" else None
    return {
        "data_path": case["data_path"],
        "checkpoint_dir": str(folder / "saved"),
        "use_gpu": False,
        "show_progress": False,
        "seed": case["seed"],
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": case["length"],
        "eval_args": {"split": {"RS": [1, 0, 0]}, "group_by": "none", "order": "TO", "mode": "full"},
        "train_batch_size": case["positions"],
        "train_neg_sample_args": negatives,
        "epochs": 1_000_000,
        "loss_type": case["loss"],
        "n_layers": case["layers"],
        "n_heads": case["heads"],
        "hidden_size": case["dimension"],
        "inner_size": 4 * case["dimension"],
        "hidden_dropout_prob": case["dropout"],
        "attn_dropout_prob": case["dropout"],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
