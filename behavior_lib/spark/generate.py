"""Raw events as a company would receive them: every row a function of the seed and its number, any number of them."""

from __future__ import annotations

import math

from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F

from behavior_lib.config.generator import BAD_KINDS, GeneratorConfig
from behavior_lib.spark.draws import Draws, Spread
from behavior_lib.spark.session import local_time
from behavior_lib.spark.visits import CUSTOMER, DAY, NUMBER, TIME, with_timelines

# The raw columns, all nullable: conf/sources/generated.yaml reads them.
REQUEST, WHO, ACTION, PRODUCT, OCCURRED, PRICE, DEVICE = (
    "request", "customer", "action", "product", "occurred_at", "price", "device",
)  # fmt: skip
COLUMNS = (REQUEST, WHO, ACTION, PRODUCT, OCCURRED, PRICE, DEVICE)
ARRIVAL_DAY, KIND = "day", "_kind"
EVENT, DUPLICATE = "event", "duplicate"
HEAVY_ITEM = "heavy-item"
# Action → share of the events. A search is of no product; what is put into a cart or bought has a price.
ACTIONS = {"view": 0.55, "click": 0.20, "search": 0.10, "cart": 0.09, "purchase": 0.06}
DEVICES = ("phone", "desktop", "tablet")
_ROW, _ARRIVAL, _IS_HEAVY_ITEM = "_row", "_arrival_us", "_is_heavy_item"
# What each draw is for; visits.py has those below 20.
_ACTION, _ITEM, _PRICE, _DELAY, _AGAIN, _DEVICE = range(20, 26)
# Parts of the golden ratio, √2 and √3: no multiple of one is near a multiple of another.
_COPIED, _LATE, _HEAVY = 0.6180339887, 0.4142135623, 0.7320508075


def row_numbers(spark: SparkSession, config: GeneratorConfig, partitions: int | None = None) -> DataFrame:
    """One row a row number, in the column `id`. partitions: by default what Spark takes for a range."""
    return spark.range(0, config.events, 1, partitions)


def raw_rows(numbers: DataFrame, config: GeneratorConfig) -> DataFrame:
    """The raw rows with the given numbers.

    numbers: row numbers from 0 up to, not including, config.events in the column `id`. The first config.counts.events
    numbers are distinct good events, the next are the duplicates, the last the bad rows.
    Returns the raw columns; `day`, the UTC day on which the row arrives; `_kind`, event, duplicate or one of BAD_KINDS;
    `_arrival_us`, µs since 1970, and `_row`, the number, by which a day's rows are ordered. A torn row has its columns
    still.
    """
    draws = Draws(config.seed)
    placed = _with_content(with_timelines(_with_kinds(numbers, config), config), config, draws)
    number, day = F.col(NUMBER), F.floor(F.col(_ARRIVAL) / DAY).cast("int")
    with local_time(numbers.sparkSession, "UTC"):
        rows = placed.withColumn(_ARRIVAL, _arrival(config, draws)).select(
            F.hex(number).alias(REQUEST),
            _spoilt("customer", F.col(CUSTOMER), F.lit(None)).alias(WHO),
            _spoilt("action", F.col(ACTION), F.lit("hover")).alias(ACTION),
            PRODUCT,
            _spoilt("time", F.timestamp_micros(TIME).cast("string"), F.lit("yesterday")).alias(OCCURRED),
            _spoilt("price", F.col(PRICE), -1 - F.coalesce(PRICE, F.lit(0.0))).alias(PRICE),
            _one_of(DEVICES, F.pmod(F.xxhash64(CUSTOMER), F.lit(len(DEVICES)))).alias(DEVICE),
            F.date_from_unix_date(day).alias(ARRIVAL_DAY),
            KIND,
            _ARRIVAL,
            _ROW,
        )
        # Reading the schema analyses the frame now, while UTC is in force.
        rows.schema  # noqa: B018
    return rows


def write_rows(rows: DataFrame, config: GeneratorConfig, folder: str) -> None:
    """Write raw rows below a folder that is not there yet: day=YYYY-MM-DD/, in the order of arrival inside a file.

    No file has more than config.rows_per_file rows: a gzip file is read by one task, whatever else there is to read.
    """
    middle = F.date_add(F.lit(config.start).cast("date"), config.days // 2)
    other = (1 - config.heavy_day) * 2 * config.events / config.days
    heavy = config.heavy_day * config.events + config.huge_session + other
    files = F.when(F.col(ARRIVAL_DAY) == middle, _files(heavy, config)).otherwise(_files(other, config))
    # Files of one day may meet in one task: what it writes is cut by their number of rows once more.
    slot = F.pmod(F.xxhash64(_ROW), files)
    cores = rows.sparkSession.sparkContext.defaultParallelism
    tasks = max(math.ceil(config.events / config.rows_per_file), 2 * cores)
    placed = rows.repartition(tasks, ARRIVAL_DAY, slot).sortWithinPartitions(ARRIVAL_DAY, _ARRIVAL, _ROW)
    is_torn = F.col(KIND) == "torn"
    if config.format == "json":
        line = F.to_json(F.struct(*COLUMNS))
        torn = F.expr("left(_line, length(_line) div 2)")
        lines = placed.withColumn("_line", line).select(
            F.when(is_torn, torn).otherwise(F.col("_line")).alias("value"), ARRIVAL_DAY
        )
        _writer(lines, config).option("compression", "gzip").text(folder)
    else:
        whole = [F.when(~is_torn, F.col(name)).alias(name) for name in COLUMNS]
        _writer(placed.select(*whole, ARRIVAL_DAY), config).parquet(folder)


def _writer(rows: DataFrame, config: GeneratorConfig) -> DataFrameWriter:
    return rows.write.partitionBy(ARRIVAL_DAY).option("maxRecordsPerFile", config.rows_per_file)


def _files(rows: float, config: GeneratorConfig) -> int:
    """Files of a day on which about so many rows arrive."""
    return max(1, math.ceil(min(rows, config.events) / config.rows_per_file))


def _with_kinds(numbers: DataFrame, config: GeneratorConfig) -> DataFrame:
    """Add `_kind` and `_number`, the number of the event that the row tells: a duplicate tells a good event's again."""
    counts, row = config.counts, F.col("id")
    copies = row - counts.events
    spoilt = copies - counts.duplicates
    kind = (
        F.when(row < counts.events, F.lit(EVENT))
        .when(spoilt < 0, F.lit(DUPLICATE))
        .otherwise(_one_of(tuple(BAD_KINDS), F.pmod(spoilt, F.lit(len(BAD_KINDS)))))
    )
    copied = Spread(max(counts.events, 1), _COPIED, config.seed).place(copies)
    number = F.when(row < counts.events, row).when(spoilt < 0, copied).otherwise(counts.events + spoilt)
    return numbers.select(row.alias(_ROW), kind.alias(KIND), number.alias(NUMBER))


def _with_content(events: DataFrame, config: GeneratorConfig, draws: Draws) -> DataFrame:
    """Add action, product and price."""
    number, counts = F.col(NUMBER), config.counts
    place = Spread(max(counts.events, 1), _HEAVY, config.seed).place(number)
    is_heavy = (number < counts.events) & (place < counts.heavy_item)
    share = draws.uniform(_ACTION, number)
    action, reached = F.lit("view"), 0.0
    for name, part in ACTIONS.items():
        action = F.when(share >= reached, F.lit(name)).otherwise(action)
        reached += part
    searches = events.withColumn(_IS_HEAVY_ITEM, is_heavy).withColumn(ACTION, action)
    # What the heavy item is shown in is no search.
    acted = searches.withColumn(
        ACTION, F.when(F.col(_IS_HEAVY_ITEM) & (F.col(ACTION) == "search"), "view").otherwise(F.col(ACTION))
    )
    rank = draws.zipf(_ITEM, number, config.n_items, config.item_exponent)
    product = F.when(F.col(_IS_HEAVY_ITEM), F.lit(HEAVY_ITEM)).when(
        F.col(ACTION) != "search", F.concat(F.lit("i"), rank)
    )
    price = F.when(F.col(ACTION).isin("cart", "purchase"), draws.below(_PRICE, number, 20_000) / F.lit(100.0))
    return acted.withColumns({PRODUCT: product, PRICE: price})


def _arrival(config: GeneratorConfig, draws: Draws) -> Column:
    """µs since 1970: when it happened, or 24 to 48 h later; a duplicate 0 to 3 days after the row that it repeats."""
    number, counts = F.col(NUMBER), config.counts
    place = Spread(max(counts.events, 1), _LATE, config.seed).place(number)
    is_late = (number < counts.events) & (place < counts.late)
    delay = F.when(is_late, DAY + draws.below(_DELAY, number, DAY)).otherwise(0)
    again = F.when(F.col(KIND) == DUPLICATE, draws.below(_AGAIN, F.col(_ROW), 4) * DAY).otherwise(0)
    return F.col(TIME) + delay + again


def _spoilt(kind: str, value: Column, spoilt: Column) -> Column:
    return F.when(F.col(KIND) == kind, spoilt).otherwise(value)


def _one_of(names: tuple[str, ...], index: Column) -> Column:
    chosen = F.lit(names[-1])
    for number, name in list(enumerate(names))[-2::-1]:
        chosen = F.when(index == number, F.lit(name)).otherwise(chosen)
    return chosen
