"""The registered fine-tuned model. MLflow stores this file as it is and runs it where the model is loaded.

Input: the frame of raw histories that registered_model.py takes.
Output: user_id and, by its name, one column a label (double): the probability of a label that is true or false, the
number of any other; null for a user whose item_id is null or empty.
"""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel

from behavior_lib.inference.encoder import BUNDLE
from behavior_lib.inference.labels import LabelPredictor
from behavior_lib.inference.raw import USER_ID, in_parts, to_histories


class BehaviorLabels(PythonModel):
    """The frame of raw histories in, the frame of answers out."""

    def load_context(self, context: Any) -> None:
        """Read weights and vocabulary from the model's folder."""
        self._predictor = LabelPredictor.load(context.artifacts[BUNDLE])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer as the module says. Raises DataRefused, in one sentence, for a frame that is wrong."""
        return pd.concat([self._answer(part) for part in in_parts(model_input)], ignore_index=True)

    def _answer(self, frame: pd.DataFrame) -> pd.DataFrame:
        columns = {name: frame[name].tolist() for name in frame}
        encoder = self._predictor.encoder
        answers = self._predictor.predict(to_histories(columns, encoder.vocabulary, encoder.length))
        told = dict(zip(self._predictor.names, answers.T, strict=True))
        return pd.DataFrame({USER_ID: columns[USER_ID], **told})


mlflow.models.set_model(BehaviorLabels())
