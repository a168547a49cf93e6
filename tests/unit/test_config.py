from pathlib import Path

import pytest

from behavior_lib.config import Config, load, load_source
from behavior_lib.config.duration import parse_duration
from behavior_lib.errors import ConfigError

SHOP = """
name: shop
format: json
path: ${paths.raw}/shop/*/
columns: {user_id: customer, event_type: "'purchase'", event_time: try_to_timestamp(ts), value: price}
key: [customer, ts]
"""


def source_from(tmp_path: Path, text: str) -> object:
    (tmp_path / "shop.yaml").write_text(text)
    config = Config(source=str(tmp_path / "shop.yaml"))
    config.paths.raw, config.paths.warehouse = "/raw", "/warehouse"
    return load_source(config)


def test_later_layers_win_and_are_named():
    loaded = load("local", overrides=["train.epochs=3", "paths.var=/v"])
    assert loaded.config.train.epochs == 3
    assert loaded.config.paths.warehouse == "/v/warehouse"
    lines = {line.split(":")[0]: line for line in loaded.lines()}
    assert lines["train.epochs"] == "train.epochs: 3  # --set"
    assert lines["source"] == "source: complete_journey  # conf/base.yaml"
    assert lines["paths.warehouse"] == "paths.warehouse: /v/warehouse  # conf/env/local.yaml"
    assert lines["late.max_days"] == "late.max_days: 30  # default"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.worker=3", "unknown key train.worker in --set; did you mean train.workers?"),
        ("epochs=3", "unknown key epochs in --set; did you mean train.epochs?"),
        ("train.workers", "an override is not KEY=VALUE in --set: 'train.workers'"),
        ("zzz=1", "unknown key zzz in --set"),
        ("train.communicator=mpi", "train.communicator has a value of the wrong type"),
        ("train.workers=many", "train.workers has a value of the wrong type"),
        ("seed=-1", "a seed must be a number from 0 to 4294967295: -1; --set seed=…"),
        ("seed=4294967296", "a seed must be a number from 0 to 4294967295: 4294967296"),
    ],
)
def test_a_wrong_override_is_one_sentence(override: str, sentence: str):
    with pytest.raises(ConfigError) as error:
        load("local", overrides=[override])
    assert str(error.value).startswith(sentence)
    assert error.value.exit_code == 2


def test_a_digest_is_of_sections_and_of_single_keys():
    plain, other = load("local", None, []), load("local", None, ["evaluate.k=5"])
    assert plain.digest("model") == other.digest("model")
    assert plain.digest("model", "evaluate.k") != other.digest("model", "evaluate.k")
    assert plain.digest("evaluate.most_events") == other.digest("evaluate.most_events")


def test_text_stays_text():
    config = load("local", overrides=["run.batch_id=0010", "split.test=2011-01-05"]).config
    assert (config.run.batch_id, config.split.test) == ("0010", "2011-01-05")
    assert load("local", overrides=["run.batch_id=null"]).config.run.batch_id is None


def test_spark_settings_keep_their_dots():
    conf = load("local", overrides=["spark.conf.spark.sql.shuffle.partitions=7"]).config.spark.conf
    assert conf["spark.sql.shuffle.partitions"] == "7"
    assert conf["spark.sql.session.timeZone"] == "UTC"


def test_a_key_without_value_is_named():
    with pytest.raises(
        ConfigError, match=r"^paths.raw has no value; add --set paths.raw=… or set it in the --env file$"
    ):
        load("test")


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ("locl", "unknown environment: 'locl'; did you mean local?"),
        ("/nowhere/x.yaml", "no such environment file in /nowhere/x.yaml"),
    ],
)
def test_an_unknown_environment_names_the_nearest(environment: str, sentence: str):
    with pytest.raises(ConfigError) as error:
        load(environment)
    assert str(error.value) == sentence


def test_an_environment_file_of_ones_own_is_strict_too(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("path: {raw: x}\n")
    with pytest.raises(ConfigError, match=r"unknown key path in .*mine.yaml"):
        load(str(path))


def test_secrets_of_the_environment_are_shown_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STORE_PASSWORD", "hunter2")
    path = tmp_path / "mine.yaml"
    path.write_text(
        "paths: {raw: r, warehouse: w, var: v}\nmlflow: {tracking_uri: 'https://${oc.env:STORE_PASSWORD}@host'}\n"
    )
    loaded = load(str(path))
    assert loaded.config.mlflow.tracking_uri == "https://hunter2@host"
    assert "hunter2" not in "\n".join(loaded.lines())


def test_a_source_is_read_with_its_defaults(tmp_path: Path):
    source = source_from(
        tmp_path, SHOP + "rules: [{id: positive, keep_if: 'value > 0', else: drop}]\nsession_gap: 45m\n"
    )
    assert source.path == "/raw/shop/*/"
    assert source.gap.total_seconds() == 2700
    assert (source.rules[0].test, source.rules[0].policy.value) == ("keep_if", "drop")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("key: [customer, ts]", "keys: [customer]", "unknown key keys in source shop.yaml; did you mean key?"),
        ("user_id:", "userid:", "columns.userid is no column of events in source shop.yaml; did you mean user_id?"),
        (
            "key: [customer, ts]",
            "",
            "neither columns.event_id nor key is given in source shop.yaml; name what makes a row unique",
        ),
        ("name: shop\n", "", "name is missing in source shop.yaml"),
        ("format: json", "format: jsn", "unknown format in source shop.yaml: 'jsn'; did you mean json?"),
        (
            "format: json",
            "format: kafka",
            "unknown format in source shop.yaml: 'kafka'; one of json, csv, parquet, delta",
        ),
        ("key:", "pattern: '(?<a>x)'\nkey:", "pattern is for format text in source shop.yaml: 'json'"),
        (
            "format: json",
            "format: text",
            "format text needs a pattern in source shop.yaml; give a Java regular expression with a named group",
        ),
        (
            "format: json",
            "format: text\npattern: '(.*) (?:x)'",
            "pattern has no named group in source shop.yaml: '(.*) (?:x)'; name them: (?<name>…), letters and",
        ),
        (
            "format: json",
            "format: text\npattern: '(?<a>x)'\nschema: a string",
            "format text takes no schema in source shop.yaml; leave schema out: the pattern's groups are the columns",
        ),
        (
            "format: json",
            "format: delta\noptions: {versionAsOf: '1'}",
            "unknown option in source shop.yaml: 'versionAsOf'; format delta has one option, skipChangeCommits",
        ),
        (
            "key:",
            "session_gap: 30\nkey:",
            "not a duration in session_gap of source shop: '30'; write 30m, 1h, 45s or 2d",
        ),
        ("key:", "rules: [{id: a, keepif: x}]\nkey:", "unknown key keepif in source shop.yaml; did you mean keep_if?"),
        ("key:", "rules: [{id: a}]\nkey:", "a rule has exactly one test in rule a of source shop.yaml: []"),
        (
            "key:",
            "rules: [{id: a, outlier: iqr, column: price}]\nkey:",
            "outlier needs a column of events in rule a of source shop.yaml: 'price'",
        ),
        (
            "key:",
            "users: {format: csv, path: x, user_id: y, label: {old: z}}\nkey:",
            "unknown key label in source shop.yaml; did you mean labels?",
        ),
        (
            "key:",
            "users: {format: csv, path: x, user_id: y}\nkey:",
            "users has no labels in source shop.yaml; give users.labels a name and a Spark SQL expression",
        ),
        (
            "key:",
            "users: {format: csv, path: x, user_id: y, labels: {churn: z}}\nkey:",
            "users.labels.churn is no name for a label in source shop.yaml; call it otherwise",
        ),
        (
            "key:",
            "users: {format: csv, path: x, user_id: y, labels: {old: z}, classes: {old: z}}\nkey:",
            "users.labels and users.classes have one name in source shop.yaml: 'old'; call one of them otherwise",
        ),
        (
            "key:",
            "users: {format: csv, path: x, user_id: y, classes: {a.b: z}}\nkey:",
            "a label has no plain name in users.classes of source shop.yaml: 'a.b'",
        ),
        (
            "key:",
            "users: {format: csv, path: x, user_id: y, labels: {a.b: z}}\nkey:",
            "a label has no plain name in users.labels of source shop.yaml: 'a.b'",
        ),
        (
            "key:",
            "items: {format: csv, path: x, item_id: y, vectors: {a.b: z}}\nkey:",
            "a vector has no plain name in items.vectors of source shop.yaml: 'a.b'; letters, digits and _ make a name",
        ),
        (
            "key:",
            "rules: [{id: a, keep_if: x, else: clip}]\nkey:",
            "only range and outlier can clip in rule a of source shop.yaml: 'keep_if'",
        ),
        (
            "key:",
            "rules: [{id: a, range: [1, 9], column: item_id}]\nkey:",
            "range needs a column of numbers in rule a of source shop.yaml: 'item_id'; value is one",
        ),
    ],
)
def test_a_wrong_source_is_one_sentence(tmp_path: Path, old: str, new: str, sentence: str):
    with pytest.raises(ConfigError) as error:
        source_from(tmp_path, SHOP.replace(old, new))
    assert str(error.value).startswith(sentence)


def test_the_shipped_sources_are_sound():
    for name in ("complete_journey", "online_retail", "web_access_log", "clickstream"):
        assert load_source(load("local", overrides=[f"source={name}"]).config).name == name


def test_an_unknown_source_names_the_nearest():
    with pytest.raises(ConfigError) as error:
        load_source(load("local", overrides=["source=online_retial"]).config)
    assert str(error.value) == "unknown source: 'online_retial'; did you mean online_retail?"


@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("1h", 3600), ("45s", 45), ("2d", 172800), ("1.5h", 5400)]
)
def test_durations(text: str, seconds: int):
    assert parse_duration(text, "x").total_seconds() == seconds
