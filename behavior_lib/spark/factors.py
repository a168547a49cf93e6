"""Matrix factorisation of counts by Spark's own ALS."""

from __future__ import annotations

from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from behavior_lib.spark.numbering import number_rows
from behavior_lib.tables import EVENTS, ITEMS

FACTORS = "features"  # as Spark calls them
_USER, _ID = "_user", "id"


def implicit_factors(
    counts: DataFrame,
    count: str,
    checkpoints: str,
    *,
    rank: int = 64,
    iterations: int = 10,
    regularisation: float = 0.1,
    alpha: float = 1.0,
    seed: int = 0,
) -> tuple[DataFrame, DataFrame]:
    """Vectors x_u and y_i of users and items by implicit ALS (Hu, Koren and Volinsky, ICDM 2008), in Spark MLlib.

    They minimise Σ_{u,i} (1 + alpha r_ui) (p_ui - x_u · y_i)² + λ (Σ_u n_u |x_u|² + Σ_i n_i |y_i|²) with r_ui the
    count, p_ui = 1 where there is one, and n_u, n_i the numbers of counts (MLlib weighs λ as Zhou et al., AAIM 2008).

    counts: user_id, item_index and a column `count`, one row a pair. checkpoints: a folder that every executor reaches,
    for every second iteration's vectors; without it the chain of iterations grows until a thread's stack overflows, ten
    being enough. Returns user_id and item_index, each with FACTORS, array<float> of `rank`. The last step is that of
    the users: each x_u is the exact minimum, given all y_i. The same seed gives the same vectors for the same rows in
    the same partitions. Time: iterations × (pairs × rank² + (users + items) × rank³), in Spark.
    """
    spark = counts.sparkSession
    spark.sparkContext.setCheckpointDir(checkpoints)
    blocks = int(spark.conf.get("spark.sql.shuffle.partitions") or 10)
    als = ALS(
        rank=rank,
        maxIter=iterations,
        regParam=regularisation,
        alpha=alpha,
        implicitPrefs=True,
        userCol=_USER,
        itemCol=ITEMS.item_index,
        ratingCol=count,
        seed=seed,
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        checkpointInterval=2,
    )
    with number_rows(counts.select(EVENTS.user_id).distinct(), [EVENTS.user_id], 0, _USER) as users:
        numbered = counts.join(users, EVENTS.user_id).select(_USER, ITEMS.item_index, F.col(count).cast("float"))
        model = als.fit(numbered)
        named = model.userFactors.join(users, F.col(_ID) == F.col(_USER)).select(EVENTS.user_id, FACTORS)
        return named.localCheckpoint(), model.itemFactors.withColumnRenamed(_ID, ITEMS.item_index)
