"""Reads a small Parquet dataset through Petastorm."""

import tempfile
import warnings
from pathlib import Path

ROWS, GROUP = 1000, 250


def main() -> None:
    """Write row numbers as Parquet, read them back in batches, compare."""
    warnings.simplefilter("ignore")
    import petastorm
    import pyarrow as pa
    from petastorm import make_batch_reader
    from pyarrow import parquet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.parquet")
        parquet.write_table(pa.table({"row": pa.array(range(ROWS), pa.int32())}), path, row_group_size=GROUP)
        with make_batch_reader(path.as_uri(), reader_pool_type="dummy", shuffle_row_groups=False) as reader:
            read = [int(row) for batch in reader for row in batch.row]
    if read != list(range(ROWS)):
        raise SystemExit(f"{len(read)} of {ROWS} rows came back")
    print(f"{petastorm.__version__} read {ROWS:,} rows back")


if __name__ == "__main__":
    main()
