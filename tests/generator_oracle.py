"""The generator's rows in plain Python, one at a time, from what its documentation says."""

import math
from datetime import datetime, timedelta, timezone

MASK = 2**64 - 1
P1, P2, P3, P4, P5 = (
    0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5,
)  # fmt: skip
SECOND, DAY = 10**6, 86_400 * 10**6
SIZES = (1, 2, 3, 4, 6, 8, 16, 24)
ACTIONS = (("view", 0.55), ("click", 0.20), ("search", 0.10), ("cart", 0.09), ("purchase", 0.06))
BAD = ("time", "customer", "price", "action", "torn")


def xxh64(value: int, seed: int) -> int:
    """XXH64 of one 64-bit integer."""
    mixed = (seed + P5 + 8) & MASK
    mixed ^= _left(value * P2 & MASK, 31) * P1 & MASK
    mixed = (_left(mixed, 27) * P1 + P4) & MASK
    mixed = (mixed ^ mixed >> 33) * P2 & MASK
    mixed = (mixed ^ mixed >> 29) * P3 & MASK
    return mixed ^ mixed >> 32


def _left(value: int, bits: int) -> int:
    return (value << bits | value >> 64 - bits) & MASK


class Oracle:
    """Rows of one configuration; `good`, `copies` and `bad` are the numbers of rows of each kind."""

    def __init__(self, config, good: int, copies: int, late: int, heavy: int, heavy_item: int) -> None:
        self.config, self.good, self.copies = config, good, copies
        self.late, self.heavy, self.heavy_item = late, heavy, heavy_item
        self.gap = config.session_gap // timedelta(microseconds=1)
        first = datetime.fromisoformat(config.start).replace(tzinfo=timezone.utc)
        self.start = int(first.timestamp()) * SECOND

    def row(self, row: int) -> tuple:
        """request, customer, action, product, occurred_at, price, arrival day, kind."""
        if row < self.good:
            kind, number = "event", row
        elif row < self.good + self.copies:
            kind, number = "duplicate", self.spread(0.6180339887, row - self.good)
        else:
            kind, number = BAD[(row - self.good - self.copies) % len(BAD)], row - self.copies
        customer, time = self.who_and_when(number)
        action, product, price = self.what(number)
        late = number < self.good and self.spread(0.4142135623, number) < self.late
        arrival = time + (DAY + self.below(23, number, DAY) if late else 0)
        arrival += DAY * self.below(24, row, 4) if kind == "duplicate" else 0
        text = "yesterday" if kind == "time" else _text(time)
        price = -1 - (price or 0.0) if kind == "price" else price
        customer = None if kind == "customer" else customer
        action = "hover" if kind == "action" else action
        return f"{number:X}", customer, action, product, text, price, _text(arrival)[:10], kind

    def who_and_when(self, number: int) -> tuple[str, int]:
        config, block, place = self.config, *divmod(number, sum(SIZES))
        index = max(i for i in range(len(SIZES)) if sum(SIZES[:i]) <= place)
        visit, position, size = block * len(SIZES) + index, place - sum(SIZES[:index]), SIZES[index]
        step = SECOND + self.below(5, visit, self.gap // 6 - SECOND)
        cut, silence, is_midnight = None, None, False
        if size > 1:
            kind, third = self.uniform(6, visit), config.boundaries / 3
            bound = config.boundaries + config.midnights
            is_midnight = config.boundaries <= kind < bound
            pause = self.gap + SECOND + self.below(8, visit, 8 * self.gap - SECOND)
            if kind < config.boundaries:
                silence = self.gap + (-1 if kind < third else 0 if kind < 2 * third else 1)
            elif kind < bound + config.pauses:
                silence = step if is_midnight else pause
            cut = None if silence is None else 1 + self.below(7, visit, size - 1)
        clock = (self.below(3, visit, DAY) + self.below(4, visit, DAY)) // 2
        time = self.start + self.day(visit) * DAY + (DAY - cut * step if is_midnight else clock) + position * step
        time += 0 if cut is not None and position in (cut - 1, cut) else self.below(9, number, step)
        time += silence - step if cut is not None and position >= cut else 0
        if number < self.heavy:
            return "heavy-user", time
        if number < self.heavy + config.huge_session:
            even = max(1, min(self.gap // 2, DAY // config.huge_session))
            return "huge-session-user", self.start + config.days // 2 * DAY + (number - self.heavy) * even
        return f"u{self.zipf(1, visit, config.n_users, config.user_exponent)}", time

    def what(self, number: int) -> tuple[str, str | None, float | None]:
        share, reached, action = self.uniform(20, number), 0.0, ""
        for name, part in ACTIONS:
            action = name if share >= reached else action
            reached += part
        price = self.below(22, number, 20_000) / 100 if action in ("cart", "purchase") else None
        if number < self.good and self.spread(0.7320508075, number) < self.heavy_item:
            return ("view" if action == "search" else action), "heavy-item", price
        item = f"i{self.zipf(21, number, self.config.n_items, self.config.item_exponent)}"
        return action, (None if action == "search" else item), price

    def day(self, visit: int) -> int:
        days, share = self.config.days, self.config.heavy_day
        if share == 0 or days == 1:
            return self.below(2, visit, days)
        if self.uniform(-2, visit) < share:
            return days // 2
        return (days // 2 + 1 + self.below(2, visit, days - 1)) % days

    def spread(self, share: float, number: int) -> int:
        step = max(1, int(self.good * share))
        while math.gcd(step, self.good) != 1:
            step += 1
        return (number + self.config.seed) * step % self.good

    def zipf(self, purpose: int, number: int, size: int, exponent: float) -> int:
        uniform = self.uniform(purpose, number)
        if exponent == 1:
            return min(size, int((size + 1) ** uniform))
        power = 1 - exponent
        return min(size, int((1 + uniform * ((size + 1) ** power - 1)) ** (1 / power)))

    def uniform(self, purpose: int, number: int) -> float:
        return self.below(purpose, number, 2**53) / 2**53

    def below(self, purpose: int, number: int, limit: int) -> int:
        mixed = 42
        for part in (self.config.seed, purpose, number):
            mixed = xxh64(part & MASK, mixed)
        return (mixed - 2**64 if mixed >= 2**63 else mixed) % limit


def _text(time: int) -> str:
    """As Spark writes a timestamp: a fraction without its last zeros."""
    moment = datetime(1970, 1, 1) + timedelta(microseconds=time)
    whole, _, fraction = f"{moment:%Y-%m-%d %H:%M:%S.%f}".partition(".")
    return f"{whole}.{fraction.rstrip('0')}".rstrip(".")
