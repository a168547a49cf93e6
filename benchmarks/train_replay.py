"""RePlay's SasRec in the contest, trained by Lightning as its documentation shows. Run by the peers' Python.

`loss`: `sampled` is its sampled softmax with negatives that a batch shares, `full` its cross-entropy over all items.
`bucket`: rows that its LengthBucketedQueryEncoder evaluates together; 0: all are padded to the longest that may be.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.loss import CESampled
from replay.nn.sequential import LengthBucketedQueryEncoder, SasRec
from replay.nn.transform import UniformNegativeSamplingTransform
from replay.nn.transform.template import make_default_sasrec_transforms

from benchmarks.train_pace import Pace, read_case

ITEM = "item_id"


class Turns(lightning.Callback):  # type: ignore[misc]
    """Tells the pace of every step."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        target = batch["target_padding_mask"]
        self._pace.step(int(target.sum()), len(target))


def main(folder: Path) -> None:
    case = read_case(folder)
    torch.set_num_threads(case["threads"])
    torch.manual_seed(case["seed"])
    schema = schema_of(case)
    transforms = make_default_sasrec_transforms(schema)
    model = SasRec.from_params(
        schema,
        embedding_dim=case["dimension"],
        num_heads=case["heads"],
        num_blocks=case["layers"],
        max_sequence_length=case["length"],
        dropout=case["dropout"],
        hidden_dim=4 * case["dimension"],
    )
    if case["loss"] == "sampled":
        transforms["train"].append(UniformNegativeSamplingTransform(case["n_items"], case["negatives"]))
        model = SasRec(model.body, CESampled())
    if case["bucket"]:
        model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, case["bucket"])
    data = ParquetModule(
        batch_size=case["batch_size"],
        metadata={"train": {ITEM: {"shape": case["length"], "padding": case["n_items"]}}},
        transforms=transforms,
        train_path=case["parquet"],
    )
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1_000_000,
        callbacks=[Turns(Pace(folder, case["warm_up"]))],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(LightningModule(model, OptimizerFactory(learning_rate=1e-3)), datamodule=data)


def schema_of(case: dict[str, Any]) -> Any:
    """One column, the item. Its padding is the number after the last item."""
    return TensorSchema(
        [
            TensorFeatureInfo(
                ITEM,
                is_seq=True,
                feature_type=FeatureType.CATEGORICAL,
                feature_hint=FeatureHint.ITEM_ID,
                feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, ITEM)],
                embedding_dim=case["dimension"],
                cardinality=case["n_items"],
                padding_value=case["n_items"],
            )
        ]
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
