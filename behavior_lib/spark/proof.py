"""What a warehouse leaves on disks beside its rows: where ids may have stayed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from pyspark.sql import SparkSession

from behavior_lib.config.schema import Config
from behavior_lib.privacy.needles import Needles
from behavior_lib.privacy.scan import Proof, scan
from behavior_lib.spark.storage import Files, local_path
from behavior_lib.spark.tables import Tables
from behavior_lib.tables import ALL_TABLES

TRACES = "logs"  # folder below paths.var
_PARTS = 10  # progress lines of a scan


class Remains:
    """The files of the tables and of paths.var; the raw files belong to whoever sends them."""

    def __init__(self, spark: SparkSession, tables: Tables, config: Config, names: Collection[str]) -> None:
        self._tables, self._config = tables, config
        self._files, self._needles = Files(spark), Needles(frozenset(names))

    def remove_pages_and_traces(self) -> list[str]:
        """Remove the report and stack traces that name one of the people; returns what was removed.

        A short id may also stand there by chance. That costs a page, which the next `report` writes again.
        """
        report = self._config.report.path
        candidates = [report] if Path(report).is_file() else []
        candidates += self._files.list(f"{self._config.paths.var}/{TRACES}")
        removed = []
        for path in candidates:
            with self._files.fetch(path) as local:
                is_theirs = self._needles.anywhere_in(local.read_bytes())
            if is_theirs:
                removed.append(path)
        self._files.delete(self._absolute(path) for path in removed)
        return removed

    def scan(self, say: Callable[[str], None]) -> Proof:
        """Search every file. Progress is a line each tenth."""
        paths = self.paths()

        def tell(done: int) -> None:
            if done * _PARTS // len(paths) > (done - 1) * _PARTS // len(paths):
                say(f"searched {done:,} of {len(paths):,} files")

        return scan(paths, self._needles, self._files.fetch, tell)

    def paths(self) -> list[str]:
        """Every file once, but raw files and the file of ids."""
        roots = [
            self._config.paths.var,
            *(self._tables.location(spec) for spec in ALL_TABLES if self._tables.exists(spec)),
        ]
        if self._config.tables.catalog is None:
            roots.append(self._config.paths.warehouse)
        found = {self._absolute(path) for root in roots for path in self._files.list(root)}
        raw = self._absolute(self._config.paths.raw).rstrip("/") + "/"
        ids = self._absolute(str(self._config.forget.ids))
        return sorted(path for path in found if path != ids and not path.startswith(raw))

    def _absolute(self, path: str) -> str:
        local = local_path(path)
        return path if local is None else str(local.absolute())
