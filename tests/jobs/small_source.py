"""A source of a few JSON lines, and what a job says of it."""

from __future__ import annotations

import json

YAML = """
name: shop
format: json
path: ${paths.raw}/*
schema: "user string, item string, time string, value string"
columns:
  user_id: user
  item_id: item
  event_type: "'view'"
  event_time: try_to_timestamp(time)
  value: try_cast(value as double)
key: [user, item, time]
"""
# Of `train`: seconds, and a model too small to be good.
TRAINING = (
    "train.communicator=single",
    "train.epochs=1",
    "train.batch_size=8",
    "train.threads=1",
    "model.dimension=16",
    "model.window=8",
    "train.negatives=32",
)


def line(**values: str | None) -> bytes:
    row = {"user": "u1", "item": "i1", "time": "2017-05-01 12:00:00", "value": "1"}
    return json.dumps({**row, **values}, ensure_ascii=False).encode() + b"\n"


def failure(told: dict) -> tuple[int, str]:
    assert told["status"] == "failed"
    assert "Traceback" not in told["stderr"]
    assert told["stderr"].strip().splitlines()[-1] == f"error: {told['error']}"
    return told["exit_code"], told["error"]
