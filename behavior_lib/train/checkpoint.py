"""The best weights on disk: whole or not at all, whenever the process dies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from behavior_lib.models.base import SequenceModel
from behavior_lib.models.build import save_model

CHECKPOINT = "checkpoint"


def write_checkpoint(model: SequenceModel, folder: Path) -> None:
    """Put the model's files at folder/checkpoint, in place of those before.

    The files are written and synchronised beside it first, so a reader finds an old checkpoint, a new one, or for an
    instant none; never a half one.
    """
    final, draft, old = folder / CHECKPOINT, folder / f"{CHECKPOINT}.draft", folder / f"{CHECKPOINT}.old"
    for leftover in (draft, old):
        shutil.rmtree(leftover, ignore_errors=True)
    save_model(model, draft)
    if final.exists():
        final.rename(old)
    draft.rename(final)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    shutil.rmtree(old, ignore_errors=True)
