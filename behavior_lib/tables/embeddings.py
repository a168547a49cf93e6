"""What the models wrote back: vectors, and how good the models were."""

from behavior_lib.tables.spec import DOUBLE, FLOAT, INT, LONG, STRING, TIMESTAMP, Column, TableSpec, array_of

USER_EMBEDDINGS = TableSpec(
    name="user_embeddings",
    grain="one user under one model version",
    key=("user_id", "model_version"),
    partition_by=("model_version",),
    sort_by=("user_id",),
    filter_on=("model_name", "events_version"),
    columns=(
        Column("user_id", STRING, "who"),
        Column("model_name", STRING, "registered model"),
        Column("model_version", INT, "its version"),
        Column("embedding", array_of(FLOAT), "the user's vector"),
        Column("n_events", LONG, "events in the user's history"),
        Column("last_event_time", TIMESTAMP, "UTC time of the newest of them"),
        Column("as_of", TIMESTAMP, "newest event time in the log when the vector was made, UTC"),
        Column("events_version", LONG, "version of the events table it was made from"),
        Column("run_id", STRING, "pipeline run that wrote it"),
    ),
)

ITEM_EMBEDDINGS = TableSpec(
    name="item_embeddings",
    grain="one item under one model version",
    key=("item_id", "model_version"),
    partition_by=("model_version",),
    sort_by=("item_index",),
    filter_on=("model_name",),
    columns=(
        Column("item_id", STRING, "the item"),
        Column("item_index", INT, "its index in items"),
        Column("model_name", STRING, "registered model"),
        Column("model_version", INT, "its version"),
        Column("embedding", array_of(FLOAT), "the item's vector"),
    ),
)

EVALUATIONS = TableSpec(
    name="evaluations",
    grain="one metric of one method on one split, beside one model version",
    key=("model_name", "model_version", "split", "method", "metric"),
    partition_by=("model_version",),
    columns=(
        Column("model_name", STRING, "registered model that was judged"),
        Column("model_version", INT, "its version"),
        Column("split", STRING, "validation or test"),
        Column(
            "method",
            STRING,
            "model, champion (the one of then), or the name of the baseline; of next_…: typical, own_typical, previous",
        ),
        Column(
            "metric",
            STRING,
            "hit_rate@10, recall@10, ndcg@10, precision@10, map@10, mrr@10, mrr (of all places), coverage@10, "
            "novelty@10, popularity@10, long_tail@10, miscalibration@10 (miscalibration_NAME@10 by "
            "evaluate.calibration_attributes); all but mrr at other numbers of places too (evaluate.more_k); "
            "recall@10|novel, ndcg@10|novel, …: over such targets alone (repeat; novel, among them every item without "
            "a number at the cut; head, middle, tail by the item's popularity, and cold_items, which were not known "
            "before the cut, so that every method misses them; history_q1 … history_q4 by the user's number of events "
            "with a known item, and cold_users, who had no event before the cut); …|among_new: over novel targets, "
            "where the user's own items are not ranked; next_type_accuracy, "
            "next_type_f1, next_time_mae, next_time_rmse (days), next_value_mae, next_value_rmse: of the first "
            "instant after the cut, where the model has an objective that tells it",
        ),
        Column("value", DOUBLE, "mean over the users"),
        Column(
            "standard_error",
            DOUBLE,
            "standard error of the mean; null for coverage, F1, RMSE and one user",
            nullable=True,
        ),
        Column(
            "lead_standard_error",
            DOUBLE,
            "paired standard error of the model's mean minus this method's, user by user; null for the model, and for "
            "what has no standard error",
            nullable=True,
        ),
        Column("n_users", LONG, "users that the mean is over: those with such targets, or whose list is not empty"),
        Column("sequences_version", LONG, "version of the sequences table it was judged on"),
    ),
)
