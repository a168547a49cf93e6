"""The registered model. MLflow stores this file as it is and runs it where the model is loaded: models from code.

Input: a frame of raw histories, one user a row: user_id str, item_id array<str>, and optionally event_type array<str>,
event_time array<long> (microseconds since 1970, UTC) and value array<double>, all oldest event first.
Output: user_id and embedding (float32 [dimension]); zeros for a user whose item_id is null or empty.
With params {"output": "items", "k": 10}: user_id, item_id (the k next items, best first) and score; both empty for a
user without events. MLflow's schema check turns a null inside a list of strings into the text "None", which is an
unknown item like null itself.
"""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from behavior_lib.errors import DataRefused
from behavior_lib.inference.encoder import BUNDLE, Encoder
from behavior_lib.inference.raw import ITEM_ID, USER_ID, to_histories

EMBEDDING, ITEMS = "embedding", "items"

_ROWS = 4096  # users whose arrays are held at once


class BehaviorEncoder(PythonModel):
    """The frame of raw histories in, the frame of vectors or next items out."""

    def load_context(self, context: Any) -> None:
        """Read weights and vocabulary from the model's folder."""
        self._encoder = Encoder.load(context.artifacts[BUNDLE])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer as the module says. Raises DataRefused, in one sentence, for a frame or a parameter that is wrong."""
        if USER_ID not in model_input:
            raise DataRefused("column user_id is missing", where="the frame of histories", value=list(model_input))
        params = params or {}
        output, k = params.get("output", EMBEDDING), int(params.get("k", 10))
        if output not in (EMBEDDING, ITEMS):
            raise DataRefused("unknown output", where="params", value=output, mend=f"known: {EMBEDDING}, {ITEMS}")
        starts = range(0, max(len(model_input), 1), _ROWS)
        return pd.concat([self._answer(model_input[at : at + _ROWS], output, k) for at in starts], ignore_index=True)

    def _answer(self, frame: pd.DataFrame, output: str, k: int) -> pd.DataFrame:
        columns = {name: frame[name].tolist() for name in frame}
        histories = to_histories(columns, self._encoder.vocabulary, self._encoder.length)
        if output == EMBEDDING:
            return pd.DataFrame({USER_ID: columns[USER_ID], EMBEDDING: list(self._encoder.encode(histories))})
        item_ids, scores = self._encoder.next_items(histories, k)
        return pd.DataFrame({USER_ID: columns[USER_ID], ITEM_ID: item_ids, "score": scores})


mlflow.models.set_model(BehaviorEncoder())
