"""Write the synthetic access log of this folder anew: `python make_slice.py`. The same bytes every time."""

import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

# Europe/Berlin leaves summer time in the night between the two days.
DAYS = [("2024-10-26", "+0200", 2), ("2024-10-27", "+0100", 1)]
BROWSERS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.6 Safari/605.1.15",
    'Mozilla/5.0 (\\"Fancy\\" build; x86)',
]
ROBOTS = ["Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "curl/8.5.0", "-"]
PAGES = [
    "/",
    "/shoes/42",
    "/shoes/43?ref=mail",
    "/%D7%97%D7%9C%D7%91",
    "/search?q=red+shoes&page=2",
    "/cart",
    "/app.css",
]
STATUS = ["200"] * 8 + ["304", "301", "404", "500"]
NO_REQUEST = [
    '198.51.100.9 - - [{time}] "\\x16\\x03\\x01\\x05" 400 226 "-" "-"',
    '198.51.100.9 - - [{time}] "-" 408 0 "-" "-"',
    '203.0.113.7 - - [{time}] "GET /shoes/42 HT',
    "",
]


def lines_of(day: str, offset: str, hours: int, source: random.Random) -> list[str]:
    start = datetime.fromisoformat(f"{day}T06:00:00").replace(tzinfo=timezone(timedelta(hours=hours)))
    lines: list[str] = []
    for number in range(140):
        start += timedelta(seconds=source.randrange(0, 240))
        moment = f"{start:%d/%b/%Y:%H:%M:%S} {offset}"
        if number % 35 == 34:
            lines.append(NO_REQUEST[number // 35].format(time=moment))
            continue
        if number % 40 == 39:
            lines.append(lines[-1])
            continue
        client = source.choice(["203.0.113.7", "203.0.113.8", "2001:db8::17", "198.51.100.23"])
        user = source.choice(["-", "-", "-", "ann", "bob.k"])
        method = source.choice(["GET"] * 8 + ["POST", "HEAD"])
        status = source.choice(STATUS)
        size = "-" if status == "304" else str(source.randrange(100, 90_000))
        referrer = source.choice(["-", 'https://www.example.org/?q=\\"a\\"'])
        agent = source.choice(BROWSERS * 3 + ROBOTS)
        protocol = source.choice(["HTTP/1.1", "HTTP/2.0"])
        request = f"{method} {source.choice(PAGES)} {protocol}"
        lines.append(f'{client} - {user} [{moment}] "{request}" {status} {size} "{referrer}" "{agent}"')
    return lines


def main() -> None:
    source = random.Random(20241026)
    for day, offset, hours in DAYS:
        text = "".join(f"{line}\n" for line in lines_of(day, offset, hours, source))
        (Path(__file__).parent / f"access.log-{day}").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
