"""What models are judged on, read once: one version of each table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.config.schema import EvaluateConfig
from behavior_lib.evaluation.baselines import Scorer
from behavior_lib.evaluation.compression import VectorScorer
from behavior_lib.evaluation.judge import MODEL, rank_methods
from behavior_lib.evaluation.ranking import Ranking
from behavior_lib.evaluation.upcoming import Foretold, guesses
from behavior_lib.inference.encoder import Encoder
from behavior_lib.inference.renumber import Renumbering
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.spark.admission import Cut
from behavior_lib.spark.evaluation import Baselines, JudgedUsers, baselines, judged_users, read_vocabulary
from behavior_lib.spark.tables import Tables
from behavior_lib.spark.upcoming import next_instants
from behavior_lib.spark.vocabulary import reserved_buckets
from behavior_lib.tables import EVENT_TYPES, EVENTS, ITEMS, SEQUENCES


@dataclass(frozen=True)
class Evidence:
    """SEQUENCES, ITEMS, the EVENTS of one source, and the names behind the numbers."""

    sequences: DataFrame
    events: DataFrame
    items: DataFrame
    vocabulary: Vocabulary

    @classmethod
    def read(cls, tables: Tables, source: str, versions: Mapping[str, int]) -> Evidence:
        """versions: of the three tables, by name."""
        sequences, events, items = (tables.read(spec, versions[spec.name]) for spec in (SEQUENCES, EVENTS, ITEMS))
        vocabulary = read_vocabulary(items, tables.read(EVENT_TYPES), reserved_buckets(tables))
        return cls(sequences, events.where(F.col(EVENTS.source) == source), items, vocabulary)

    def cut(self, split: str) -> Cut | None:
        """Where the histories of a split end; None where it has nobody."""
        return Cut.of(self._of(split))

    def users(self, split: str) -> JudgedUsers | None:
        """Who is judged on a split; None where it has nobody."""
        return judged_users(self._of(split))

    def baselines(self, split: str, users: JudgedUsers, config: EvaluateConfig) -> Baselines:
        """What the configuration names, for the users of the split."""
        return baselines(self.events, self.items, self._of(split), users, len(self.vocabulary.item_ids), config)

    def scorer(self, encoder: Encoder, users: JudgedUsers) -> Scorer:
        """Scores of a model over the numbers of the tables, whatever the numbers that it was trained with."""
        numbers = Renumbering.between(self.vocabulary, encoder.vocabulary)
        histories = numbers.histories(users.histories)
        return lambda rows: numbers.scores(encoder.scores(histories.rows(rows)))

    def vectors(self, encoder: Encoder, users: JudgedUsers) -> VectorScorer:
        """A model's vectors of the users, and of the items that it knows over the numbers of the tables."""
        numbers = Renumbering.between(self.vocabulary, encoder.vocabulary)
        index = np.flatnonzero(np.isin(numbers.items, encoder.known_items))
        place = np.searchsorted(encoder.known_items, numbers.items[index])
        of_users = encoder.encode(numbers.histories(users.histories))
        factor, addend = encoder.product_terms()
        items, n_items = encoder.item_vectors()[place], len(self.vocabulary.item_ids)
        return VectorScorer(of_users, items, index, n_items, factor, addend[place], encoder.is_cosine)

    def foretold(self, split: str, encoder: Encoder, users: JudgedUsers) -> Foretold | None:
        """What a model says of the users' next instants, beside what they did and guesses of their past.

        None where the model has learned nothing of it, and where no user with a past has one.
        """
        histories = Renumbering.between(self.vocabulary, encoder.vocabulary).histories(users.histories)
        said = encoder.foretold(histories)
        if not said:
            return None
        rows, truth = next_instants(self.events, self._of(split), users.user_ids, encoder.vocabulary)
        has_past = histories.length[rows] > 0  # without one there is nothing to tell from
        rows, truth = rows[has_past], {part: each[has_past] for part, each in truth.items()}
        if not len(rows):
            return None
        of_model = {part: each[rows] for part, each in said.items()}
        return Foretold(truth, {MODEL: of_model, **guesses(histories.rows(rows))})

    def rank(
        self, split: str, methods: Mapping[str, Scorer], users: JudgedUsers, known: Baselines, config: EvaluateConfig
    ) -> dict[str, Ranking]:
        """How each method ranks what `known` has in its catalogue, for the users of the split: `rank_methods`."""
        return rank_methods(
            split,
            methods,
            users.targets,
            known.catalogue,
            config.k,
            config.batch_size,
            more_k=config.more_k,
            background=known.background,
        )

    def _of(self, split: str) -> DataFrame:
        return self.sequences.where(F.col(SEQUENCES.split) == split)
