"""What the name of a column says."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[^\W\d_]+")
# Shorter hints must be the whole word: `no` is in `note`.
_SHORTEST_INSIDE = 4

TIME = ("timestamp", "datetime", "time", "date", "ts", "epoch", "occurred", "created", "when", "at", "day")
USER = (
    "user", "customer", "household", "client", "member", "visitor", "person", "shopper", "buyer", "player", "listener",
    "reader", "subscriber", "account", "uid", "profile", "device", "cookie",
)  # fmt: skip
ITEM = (
    "item", "product", "sku", "article", "stock", "isbn", "asin", "track", "song", "movie", "film", "video", "book",
    "game", "content", "listing", "offer", "venue", "business", "poi", "page", "url",
)  # fmt: skip
SESSION = ("session", "basket", "visit", "invoice", "order", "cart", "receipt", "trip", "transaction")
TYPE = ("event", "action", "behavior", "behaviour", "activity", "interaction", "operation", "verb", "type", "kind")
VALUE = (
    "amount", "revenue", "sales", "total", "value", "price", "cost", "rating", "score", "stars", "duration", "seconds",
    "quantity", "qty",
)  # fmt: skip
QUANTITY = ("quantity", "qty", "units", "pieces")
PRICE = ("price", "cost")
BOUGHT = ("invoice", "order", "basket", "cart", "receipt", "price", "sales", "revenue", "purchase", "checkout")
IDENTITY = ("id", "key", "code", "no", "nr", "num", "number", "uuid", "guid", "hash", "ref")
_DESCRIBING = {
    "name", "title", "description", "type", "category", "class", "group", "brand", "kind", "status", "text", "comment",
    "label", "count", "price", "date", "time", "country", "city", "amount", "value", "size", "age", "agent",
}  # fmt: skip


def words(name: str) -> list[str]:
    """`CustomerID` → customer, id; `unit_price` → unit, price."""
    return [word.lower() for word in _WORD.findall(name)]


def hint(name: str, hints: Sequence[str]) -> str | None:
    """The first of the hints that the name has as a word, or, where it is long enough, inside a word."""
    own = words(name)
    for wanted in hints:
        if wanted in own or (len(wanted) >= _SHORTEST_INSIDE and any(wanted in word for word in own)):
            return wanted
    return None


def names_an_id(name: str) -> bool:
    """Whether the name says that its values tell things apart and measure nothing."""
    own = words(name)
    if not own or own[-1] in _DESCRIBING:
        return False
    ends_so = own[-1] in IDENTITY or (own[-1].endswith("id") and len(own[-1]) > _SHORTEST_INSIDE)
    return ends_so or hint(name, (*USER, *ITEM, *SESSION)) is not None


def source_name(path: str) -> str:
    """A source's name from where its files lie: the last part of the path that no wildcard is in, without endings."""
    parts = [part for part in re.split(r"[/\\]", path) if part and not re.search(r"[*?\[{]", part)]
    last = parts[-1] if parts else "source"
    return re.sub(r"\W+", "_", last.split(".")[0]).strip("_").lower() or "source"
