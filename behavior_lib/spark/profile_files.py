"""Which raw files a profile looks at, and in which format they are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from behavior_lib.config import Config, SourceConfig, load_source
from behavior_lib.config.loader import find_yaml
from behavior_lib.errors import ConfigError
from behavior_lib.layout import conf_root
from behavior_lib.profile.guesses import Guesses
from behavior_lib.profile.names import source_name
from behavior_lib.profile.sniff import Format, sniff
from behavior_lib.spark.canonical import canonical
from behavior_lib.spark.raw import read_raw
from behavior_lib.spark.raw_files import RawFile, find_files, literal

_HEAD_LINES = 20
_DEEPEST = 3
_NOT_LOOKED_AT = ("text", "delta")  # whose columns a pattern and a log give, not the files
# Spark's own column for what it cannot read, which stands in the schema that it finds in JSON.
_CORRUPT = "_corrupt_record"


@dataclass(frozen=True)
class Raw:
    """Raw files and how they are read. path: the folder or glob in which they lie, as a source says it."""

    name: str
    path: str
    format: Format
    files: tuple[RawFile, ...]
    schema: str | None = None
    timezone: str = "UTC"

    def read(self, spark: SparkSession) -> DataFrame:
        """All rows, text as text, with `_unreadable`."""
        return read_raw(spark, self._source(), self.files).drop(_CORRUPT)

    def canonical(self, raw: DataFrame, guesses: Guesses, key: list[str]) -> DataFrame:
        """Raw rows as the guesses see them."""
        columns = {name: guess.expression for name, guess in guesses.found.items()}
        return canonical(raw, replace(self._source(), columns=columns, key=key))

    def yaml_path(self, config: Config) -> str:
        """The path as the YAML says it: below paths.raw where the files lie there."""
        root = config.paths.raw if "://" in config.paths.raw else str(Path(config.paths.raw).absolute())
        inside = self.path.removeprefix(root.rstrip("/") + "/")
        return self.path if inside == self.path else f"${{paths.raw}}/{inside}"

    def _source(self) -> SourceConfig:
        return SourceConfig(
            name=self.name,
            format=self.format.name,
            path=self.path,
            options=dict(self.format.options),
            schema=self.schema,
            timezone=self.timezone,
        )


def find_raw(
    spark: SparkSession, config: Config, source: str | None, pattern: str | None, format_name: str | None
) -> Raw:
    """What `--source`, `--input` and `--format` name.

    source: a source by name or YAML file, or raw files. pattern: raw files, in place of the source's own.
    Raises ConfigError where nothing is named, or nothing is there.
    """
    known = _known_source(config, source)
    if known is not None and known.format in _NOT_LOOKED_AT and format_name in (None, known.format):
        mend = "write its YAML by hand (docs/sources.md), or look at files by --input"
        raise ConfigError(
            "no profile is made of this format", where=f"source {known.name}", value=known.format, mend=mend
        )
    named = pattern if pattern is not None else known.path if known is not None else source
    if named is None:
        raise ConfigError("nothing to look at", mend="give --source NAME, or --input PATH")
    path, files = _find(spark, named)
    if known is not None and format_name in (None, known.format):
        form = Format(known.format, known.options, "as the source says")
        return Raw(known.name, path, form, files, known.schema, known.timezone)
    lines = [] if format_name == "parquet" else _head(spark, files[0])
    name = known.name if known is not None else source_name(path)
    return Raw(name, path, sniff(files[0].path, lines, format_name), files)


def _known_source(config: Config, source: str | None) -> SourceConfig | None:
    if source is None:
        return None
    is_yaml = source.endswith((".yaml", ".yml")) or (conf_root() / "sources" / f"{source}.yaml").is_file()
    is_word = not any(mark in source for mark in "/.*") and not Path(source).exists()
    if is_word and not is_yaml:
        find_yaml(source, "sources", "source")  # raises, and names the nearest
    return load_source(replace(config, source=source)) if is_yaml else None


def _find(spark: SparkSession, pattern: str) -> tuple[str, tuple[RawFile, ...]]:
    """The files, looked for in folders below where there are none at the place itself, and the glob that finds them."""
    base = pattern if "://" in pattern else str(Path(pattern).absolute())
    for depth in range(_DEEPEST + 1):
        path = base + "/*" * depth
        try:
            files = [file for file in find_files(spark, path) if file.size_bytes]
        except AnalysisException:
            continue
        if files:
            return path, tuple(files)
    raise ConfigError("no file with anything in it", where=base, mend="check --source or --input")


def _head(spark: SparkSession, file: RawFile) -> list[str]:
    return [row[0] for row in spark.read.text(literal(file.path)).limit(_HEAD_LINES).collect()]
