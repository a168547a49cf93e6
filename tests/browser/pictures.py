"""Take the pictures that the documents show: `python tests/browser/pictures.py var/report.html docs`."""

import sys
from pathlib import Path

from chromium import chromium

WIDE, PHONE = (1280, 1500), (390, 1100)


def main(report: Path, folder: Path) -> None:
    with chromium() as page:
        for name, (width, height) in (("report-wide", WIDE), ("report-phone", PHONE)):
            page.open(report.absolute(), width=width)
            page.screenshot(folder / f"{name}.png", height)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
