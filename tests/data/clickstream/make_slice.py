"""Write the synthetic clickstream of this folder anew: `python make_slice.py`. The same bytes every time."""

import json
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

# Europe/Berlin enters summer time in the night between the two days.
DAYS = [("2024-03-30", 1), ("2024-03-31", 2)]
PRICES = {"A-1": "19.90", "A-2": 5, "B-7": 120.5, "ספר": "33.00"}


def click(number: int, moment: datetime, source: random.Random) -> dict:
    kind = source.choice(["view"] * 5 + ["search", "cart", "purchase"])
    event = {
        "event_id": f"{source.getrandbits(64):016x}",
        "type": kind,
        "visitor": f"v{source.randrange(12)}",
        "customer": source.choice([None, None, f"c{source.randrange(4)}"]),
        "time": moment.isoformat(timespec="milliseconds"),
        "page": f"/{kind}",
    }
    if kind == "search":
        return {**event, "query": source.choice(["red shoes", "חלב", ""])}
    skus = source.choices(list(PRICES), k=1 if kind == "view" else source.randrange(1, 4))
    event["items"] = [{"sku": sku, "quantity": source.randrange(1, 4), "price": PRICES[sku]} for sku in skus]
    return {**event, "order_id": f"o{number}"} if kind == "purchase" else event


def spoilt(event: dict, number: int) -> dict:
    """Every 20th click has what real ones have wrong."""
    wrong = [{"items": []}, {"items": None}, {"type": "hover"}, {"visitor": None, "customer": None}, {"time": "soon"}]
    price = {"type": "purchase", "items": [{"sku": "A-1", "quantity": 1, "price": "n/a"}, {"sku": None}, None]}
    return {**event, **[*wrong, price][number // 20 % 6]} if number % 20 == 19 else event


def main() -> None:
    source = random.Random(20240330)
    for day, hours in DAYS:
        moment = datetime.fromisoformat(f"{day}T08:00:00").replace(tzinfo=timezone(timedelta(hours=hours)))
        lines: list[str] = []
        for number in range(160):
            moment += timedelta(milliseconds=source.randrange(0, 120_000))
            event = spoilt(click(number, moment, source), number)
            if hours == 2:
                event["experiment"] = source.choice(["a", "b"])  # a column that the collector got over night
            lines.append(json.dumps(event, ensure_ascii=False))
            if number % 30 == 29:
                lines.append(source.choice(lines))  # delivered once more
        lines.append(lines[-1][:40])
        (Path(__file__).parent / f"{day}.json").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
