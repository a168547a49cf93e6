"""Texts that Spark 4.0 really prints, cut short, and what a user is told instead."""

import pytest
from pyspark.errors import AnalysisException

from behavior_lib.errors import BehaviorError, ConfigError
from behavior_lib.spark.failures import explain

JAVA = "An error occurred while calling o1.save.\n: org.apache.spark.SparkException: [FAILED_READ_FILE.NO_HINT] "


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        (
            JAVA + "Encountered error while reading file file:/raw/a.json.gz.  SQLSTATE: KD001\n"
            "Caused by: java.io.EOFException: Unexpected end of input stream",
            3,
            "a compressed file ends too early in file:/raw/a.json.gz; "
            "write the file again whole and rerun; nothing of the batch was taken",
        ),
        (
            "[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column with name `customer` cannot be resolved. "
            "Did you mean one of the following? [`user`, `item`].",
            2,
            "a column that the source names is not in its files: 'customer'; the files have user, item",
        ),
        (
            "[PATH_NOT_FOUND] Path does not exist: file:/raw/nowhere/*. SQLSTATE: 42K03",
            2,
            "no such file or folder: 'file:/raw/nowhere/*'; check paths.raw and the source's path",
        ),
        (
            "\n[PARSE_SYNTAX_ERROR] Syntax error at or near end of input. SQLSTATE: 42601 (line 1, pos 9)",
            2,
            "an expression of the source is not Spark SQL: "
            "'Syntax error at or near end of input. SQLSTATE: 42601 (line 1, pos 9)'; correct the source's YAML",
        ),
        (
            "An error occurred while calling None.org.apache.spark.api.java.JavaSparkContext.\n"
            ": java.net.BindException: Address already in use: Service 'SparkUI' failed after 16 retries",
            1,
            "a port is in use; set spark.conf.spark.driver.port or spark.conf.spark.ui.port to another",
        ),
        (
            "An error occurred while calling o9.sql.\n: java.io.IOException: Mkdirs failed to create file:/mnt/x",
            1,
            "a folder cannot be written: ': java.io.IOException: Mkdirs failed to create file:/mnt/x'; "
            "check paths.warehouse and paths.var",
        ),
        (
            "An error occurred while calling o9.save.\n: org.apache.spark.SparkException: Job aborted\n\tat a.b(c:1)\n"
            "Caused by: java.lang.IllegalStateException: odd",
            1,
            "Spark failed: 'java.lang.IllegalStateException: odd'",
        ),
    ],
)
def test_sparks_words_become_one_sentence(text: str, code: int, sentence: str):
    told = explain(AnalysisException(text))
    assert (told.exit_code, str(told)) == (code, sentence)


def test_other_errors():
    own = ConfigError("x")
    assert explain(own) is own
    assert str(explain(KeyError("k"))) == "KeyError: 'k'"
    assert str(explain(PermissionError(13, "Permission denied", "/f"))) == (
        "Permission denied in /f; check the path and who may write there"
    )
    assert str(explain(KeyboardInterrupt())) == "interrupted; run the same command again to go on"
    assert explain(BehaviorError("y")).exit_code == 1
