"""The registered model. MLflow stores this file as it is and runs it where the model is loaded: models from code.

Input: a frame of raw histories, one user a row: user_id str, item_id array<str>, and optionally event_type array<str>,
event_time array<long> (microseconds since 1970, UTC) and value array<double>, all oldest event first.
Output: user_id and embedding (float32 [dimension]); zeros for a user whose item_id is null or empty.
With params {"output": "items", "k": 10}: user_id, item_id (the k next items, best first) and score; both empty for a
user without events.
With {"output": "reasons", "k": 10}: the same, and for each item path (how the history lifts it most) and reasons (the
history items that it rests on: dicts of item_id, part of the score and n_events, largest part first, five at most).
With {"output": "influences"}: user_id and influence, how far the vector would move without each of the newest events,
oldest first. These two look at the newest "explain_events" (256) events of a user, and ask the model once for each of
them, or of their items: see inference/explain.py.
MLflow's schema check turns a null inside a list of strings into the text "None", which is an unknown item like null
itself.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from behavior_lib.errors import DataRefused
from behavior_lib.inference.encoder import BUNDLE, Encoder
from behavior_lib.inference.explain import Occlusion
from behavior_lib.inference.raw import ITEM_ID, USER_ID, in_parts, to_histories

EMBEDDING, ITEMS, REASONS, INFLUENCES = "embedding", "items", "reasons", "influences"
OUTPUTS = (EMBEDDING, ITEMS, REASONS, INFLUENCES)

_REASONS = 5  # of one item


class BehaviorEncoder(PythonModel):
    """The frame of raw histories in, the frame of vectors or next items out."""

    def load_context(self, context: Any) -> None:
        """Read weights and vocabulary from the model's folder."""
        self._encoder = Encoder.load(context.artifacts[BUNDLE])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer as the module says. Raises DataRefused, in one sentence, for a frame or a parameter that is wrong."""
        parts, params = in_parts(model_input), params or {}
        output, k = params.get("output", EMBEDDING), int(params.get("k", 10))
        newest = int(params.get("explain_events", 256))
        if output not in OUTPUTS:
            raise DataRefused("unknown output", where="params", value=output, mend=f"known: {', '.join(OUTPUTS)}")
        return pd.concat([self._answer(part, output, k, newest) for part in parts], ignore_index=True)

    def _answer(self, frame: pd.DataFrame, output: str, k: int, newest: int) -> pd.DataFrame:
        columns = {name: frame[name].tolist() for name in frame}
        histories = to_histories(columns, self._encoder.vocabulary, self._encoder.length)
        answer: dict[str, Any] = {USER_ID: columns[USER_ID]}
        if output == EMBEDDING:
            answer[EMBEDDING] = list(self._encoder.encode(histories))
        elif output == ITEMS:
            answer[ITEM_ID], answer["score"] = self._encoder.next_items(histories, k)
        elif output == INFLUENCES:
            answer["influence"] = Occlusion(self._encoder, newest).influences(histories)
        else:
            explained = Occlusion(self._encoder, newest).next_items(histories, k, _REASONS)
            for name in (ITEM_ID, "score", "path"):
                answer[name] = [[getattr(each, name) for each in row] for row in explained]
            answer["reasons"] = [[[asdict(one) for one in each.reasons] for each in row] for row in explained]
        return pd.DataFrame(answer)


mlflow.models.set_model(BehaviorEncoder())
