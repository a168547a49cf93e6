"""Where a session takes Delta from."""

from behavior_lib.spark.jars import DELTA_COORDINATE, DELTA_EXCLUDES, delta_configs


def test_fetched_jars_need_no_network(tmp_path):
    for name in ("b.jar", "a.jar", "a.txt"):
        (tmp_path / name).touch()
    assert delta_configs(tmp_path, {}) == {"spark.jars": f"{tmp_path}/a.jar,{tmp_path}/b.jar"}


def test_without_fetched_jars_spark_resolves_them(tmp_path):
    assert delta_configs(tmp_path / "nothing", {}) == {
        "spark.jars.packages": DELTA_COORDINATE,
        "spark.jars.excludes": DELTA_EXCLUDES,
    }


def test_databricks_and_spark_submit_bring_their_own(tmp_path):
    (tmp_path / "a.jar").touch()
    assert delta_configs(tmp_path, {"DATABRICKS_RUNTIME_VERSION": "15.4"}) == {}
    assert delta_configs(tmp_path, {"PYSPARK_GATEWAY_PORT": "25333"}) == {}
