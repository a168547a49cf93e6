"""Which versions may be judged: of the source, and with nothing learned that is asked."""

from datetime import datetime

import pytest
from pyspark.sql import functions as F

from behavior_lib.config.schema import SplitKind
from behavior_lib.errors import ConfigError, DataRefused
from behavior_lib.registry import SOURCE, TAUGHT_BY, TRAIN_CUT, Registered
from behavior_lib.spark.admission import Admission, Cut, other_cut
from behavior_lib.tables import SEQUENCES

pytestmark = pytest.mark.spark
MAY, JUNE = datetime(2017, 5, 1), datetime(2017, 6, 1, 6, 30)


def version(**tags):
    names = {"source": SOURCE, "split": TAUGHT_BY, "cut": TRAIN_CUT}
    return Registered("encoder", 7, "run", {names[name]: str(value) for name, value in tags.items()})


def admission(told=None, refusal=ConfigError):
    return Admission("shop", "probe.model", "another cut", [].append if told is None else told.append, refusal)


def test_the_cut_of_sequences_is_that_of_their_rows(spark):
    told = [("train", MAY, None), ("refit", JUNE, None), ("test", MAY, "an event"), ("test", JUNE, None)]
    names = f"{SEQUENCES.split} string, {SEQUENCES.as_of} timestamp, {SEQUENCES.held_out_id} string"
    sequences = spark.createDataFrame(told, names)
    splits = ("train", "refit", "test", "validation")
    found = [Cut.of(sequences.where(F.col(SEQUENCES.split) == split)) for split in splits]
    assert found == [Cut(MAY), Cut(JUNE), Cut(None), None]
    assert [str(cut) for cut in found[:3]] == ["2017-05-01T00:00:00", "2017-06-01T06:30:00", "leave_one_out"]
    assert [Cut.learned_by(version(cut=cut)) for cut in found[:3]] == found[:3]
    assert [Cut.at(JUNE, kind) for kind in (SplitKind["global"], SplitKind.leave_one_out)] == [Cut(JUNE), Cut(None)]


def test_a_tag_set_by_hand_is_a_time_with_or_without_a_zone():
    for text in ("2017-05-01", "2017-05-01T00:00:00Z", "2017-05-01T02:00:00+02:00"):
        assert Cut.learned_by(version(cut=text)) == Cut(MAY)
    sentence = (
        "a version's tag train_cut is no time in probe.model: '2017/05/01'; give it an ISO time, or leave_one_out"
    )
    with pytest.raises(DataRefused, match=f"^{sentence}$"):
        admission(refusal=DataRefused).check_cut(version(cut="2017/05/01"), Cut(JUNE))


def test_versions_of_the_source_with_an_earlier_cut_are_admitted():
    told = []
    for model in (version(source="shop", cut=Cut(MAY), split="train"), version(source="shop", cut=Cut(JUNE))):
        admission(told).check_origin(model)
        admission(told).check_refit(model, "validation")
        admission(told).check_cut(model, Cut(JUNE))
    admission(told).check_cut(version(cut=Cut(None)), Cut(None))
    admission(told).check_cut(version(cut=Cut(JUNE)), None)  # nobody is asked
    admission(told).check_refit(version(split="refit"), "test")
    assert told == []
    # One from before the tag was there is not refused, but not in silence either.
    admission(told).check_cut(version(source="shop"), Cut(MAY))
    assert told == [
        "version 7 does not say up to which cut it has learned (no tag train_cut): whether it knows the answers is not"
        " noticed"
    ]


@pytest.mark.parametrize(
    ("check", "arguments", "sentence"),
    [
        (
            "check_origin",
            (version(source="mall"),),
            "a version has learned from another source in probe.model: 'version 7 of mall, asked of shop'; give"
            " source=mall, or each source a model of its own: mlflow.model_name=…",
        ),
        (
            "check_refit",
            (version(split="refit"), "validation"),
            "a refit has learned from what follows the cut in probe.model: 7; another cut",
        ),
        (
            "check_cut",
            (version(cut=Cut(JUNE)), Cut(MAY)),
            "a version has learned from what follows the cut in probe.model: 'version 7 up to 2017-06-01T06:30:00,"
            " asked as of 2017-05-01T00:00:00'; another cut",
        ),
        (
            "check_cut",
            (version(cut=Cut(None)), Cut(JUNE)),
            "a version has learned from another kind of split in probe.model: 'version 7 up to leave_one_out, asked"
            " as of 2017-06-01T06:30:00'; ask with split.kind=leave_one_out",
        ),
        (
            "check_cut",
            (version(cut=Cut(MAY)), Cut(None)),
            "a version has learned from another kind of split in probe.model: 'version 7 up to 2017-05-01T00:00:00,"
            " asked as of leave_one_out'; ask with split.kind=global",
        ),
    ],
)
@pytest.mark.parametrize("refusal", [ConfigError, DataRefused])
def test_others_are_refused_in_one_sentence(check, arguments, sentence, refusal):
    with pytest.raises(refusal) as problem:
        getattr(admission(refusal=refusal), check)(*arguments)
    assert str(problem.value) == sentence


def test_the_mend_is_a_cut_that_can_be_asked():
    assert other_cut("probe", "validation") == "ask on test: probe.split=test"
    assert other_cut("probe", "test") == "ask as of a later cut: split.test=…"
