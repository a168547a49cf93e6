"""How a fine-tuned model is judged: on users that nobody learned from, beside plain answers."""

import hashlib

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from behavior_lib.evaluation.labels import FINE_TUNED, LINEAR, as_table, groups, judge_label, objection
from behavior_lib.evaluation.probes import Label
from behavior_lib.evaluation.probes_features import MAJORITY
from behavior_lib.evaluation.probes_folds import TEST_FOLD, TRAIN_FOLD, VALIDATION_FOLD, part

FOLD = np.repeat([TRAIN_FOLD, VALIDATION_FOLD, TEST_FOLD], [60, 20, 20])
RANDOM = np.random.default_rng(3)
VECTORS = RANDOM.normal(size=(100, 4)).astype(np.float32)
TRUE = (VECTORS[:, 0] + RANDOM.normal(0, 0.3, 100) > 0).astype(float)


def test_a_user_is_in_the_part_that_the_hash_of_the_id_says():
    ids = np.array([f"user {number}" for number in range(4000)], dtype=object)
    found = part(ids, 0.2, 0.1, "7")
    share = int(hashlib.sha256(b"7\x1fuser 5").hexdigest()[:16], 16) / 2**64
    assert found[5] == (TEST_FOLD if share < 0.1 else VALIDATION_FOLD if share < 0.3 else TRAIN_FOLD)
    assert np.bincount(found) / 4000 == pytest.approx([0.7, 0.2, 0.1], abs=0.02)
    assert np.array_equal(part(ids[::-1], 0.2, 0.1, "7")[::-1], found)
    assert not np.array_equal(part(ids, 0.2, 0.1, "8"), found)


def test_classes_stand_together_where_all_of_them_are_kept():
    values = np.zeros(3)
    names = (("a", None), ("x", "one"), ("y", "one"), ("u", "two"), ("v", "two"), ("n", "three"))
    labels = [Label(name, values, True, of) for name, of in names]
    assert groups(labels, labels).tolist() == [0, 1, 1, 2, 2, 3]
    assert groups([labels[0], *labels[2:]], labels).tolist() == [0, 0, 1, 1, 2]
    assert groups(labels[:1], labels).tolist() == [0]


def test_all_are_judged_on_the_test_users_alone():
    label = Label("busy", np.where(np.arange(100) % 10 == 9, np.nan, TRUE), True)
    answer = RANDOM.random(100)
    judged = judge_label(label, answer, VECTORS, FOLD, 1)
    asked = np.flatnonzero((FOLD == TEST_FOLD) & (np.arange(100) % 10 != 9))
    assert judged.n_users == len(asked) == 18
    assert judged.figures[FINE_TUNED]["auc"] == roc_auc_score(TRUE[asked], answer[asked])
    assert judged.figures[MAJORITY]["auc"] == 0.5
    by_hand = []
    train = np.flatnonzero((FOLD == TRAIN_FOLD) & (np.arange(100) % 10 != 9))
    scaler = StandardScaler().fit(VECTORS[train].astype(float))
    for strength in (0.0003, 0.003, 0.03, 0.3, 3.0):
        learner = LogisticRegression(C=strength, max_iter=2000).fit(scaler.transform(VECTORS[train]), TRUE[train])
        by_hand.append(roc_auc_score(TRUE[asked], learner.decision_function(scaler.transform(VECTORS[asked]))))
    assert min(abs(judged.figures[LINEAR]["auc"] - figure) for figure in by_hand) < 1e-9
    assert judged.figures[LINEAR]["auc"] > 0.85
    assert judged.as_dict()["headline"] == "auc"


def test_numbers_are_judged_by_what_they_explain():
    values = VECTORS[:, 1] * 3.0 + 5
    judged = judge_label(Label("spent", values.astype(float), False), values + 1.0, VECTORS, FOLD, 1)
    test = values[FOLD == TEST_FOLD].astype(float)
    assert judged.figures[FINE_TUNED]["mae"] == pytest.approx(1.0, rel=1e-5)
    assert judged.figures[FINE_TUNED]["r2"] == pytest.approx(1 - 20 / ((test - test.mean()) ** 2).sum(), rel=1e-4)
    assert judged.figures[LINEAR]["r2"] > 0.99
    assert as_table([judged], "told").row_count == 3


def test_what_cannot_be_learned_or_judged_is_told():
    def reason(*values):
        return objection(Label("busy", np.array(values), True), np.array([0, 0, 1, 1, 2, 2]))

    nan = np.nan
    assert reason(0, 1, 0, 1, 0, 1) is None
    assert reason(0, 1, 0, 1, 0, nan) == "all 1 test users whose label is known have the same"
    assert reason(0, 1, nan, nan, 0, 1) == "it is known of no validation user"
    assert reason(1, 1, 0, 1, 0, 1) == "all 2 train users whose label is known have the same"
