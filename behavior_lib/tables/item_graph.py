"""What items stand beside in histories: edges between them."""

from behavior_lib.tables.spec import INT, LONG, STRING, Column, TableSpec

NEXT, SESSION = "next", "session"

ITEM_GRAPH = TableSpec(
    name="item_graph",
    grain="one item and one of the neighbours, of one kind, that it has most often in the histories of a split",
    key=("split", "kind", "item_index", "neighbour_index"),
    partition_by=("split", "kind"),
    sort_by=("item_index", "rank"),
    keeps_files=True,
    checks=(("two_items", "item_index >= 3 AND neighbour_index >= 3 AND item_index <> neighbour_index"),),
    columns=(
        Column("split", STRING, "train or refit, whose rows of sequences were counted"),
        Column(
            "kind",
            STRING,
            "next: an event of one stood in the instant after one of the other; session: both stood in one session",
        ),
        Column("item_index", INT, "the item, as numbered in sequences; of rare items their bucket"),
        Column("neighbour_index", INT, "its neighbour, likewise"),
        Column("rank", INT, "1 for the neighbour of the greatest weight, …; of equal ones the lower index comes first"),
        Column(
            "count",
            LONG,
            "next: pairs of an event of the item and one of the neighbour in the instant after it, 0 where there are "
            "only pairs the other way; session: sessions that hold both",
        ),
        Column("weight", LONG, "what an edge between the two weighs: next: pairs either way; session: count"),
        Column("kept", INT, "how many neighbours an item has at most, sequences.neighbours"),
        Column("sequences_version", LONG, "version of sequences that was counted"),
    ),
)
