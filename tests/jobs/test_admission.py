"""train, evaluate, compare, probe and fine_tune: a version is never judged on what it has learned from."""

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from behavior_lib.cli import load_job
from behavior_lib.errors import ConfigError
from behavior_lib.inference.vocabulary import Vocabulary
from behavior_lib.models.base import ModelSpec
from behavior_lib.models.build import build_model, save_model
from behavior_lib.registry import CHALLENGER, SOURCE, TAUGHT_BY, TRAIN_CUT, Registry
from behavior_lib.tables import EVALUATIONS, SEQUENCES
from tests.jobs.small_source import TRAINING, YAML, failure, line

pytestmark = [pytest.mark.spark, pytest.mark.distributed]
EARLY, LATE = ("split.validation=2017-05-10", "split.test=2017-05-20"), ("split.validation=2017-05-20",)
LATE += ("split.test=2017-05-25",)
NAME = "mlflow.model_name=encoder"
FROM_LATE = "version 1 up to 2017-05-20T00:00:00, asked as of 2017-05-10T00:00:00"
QUICK = ("probe.folds=2", "probe.inner_folds=2", "probe.repeats=1", "probe.clusters=0", "probe.leave_out=[spend]")
QUICK += ("probe.horizon_days=1",)


@pytest.fixture
def log(shop, source):
    """Three weeks of a shop in `events` and `sessions`. Returns the setting that names it."""
    random = np.random.default_rng(1)
    days = [(user, day, random.integers(9)) for user in range(24) for day in range(1, 31) if random.random() < 0.4]
    text = [line(user=f"u{user}", item=f"i{item}", time=f"2017-05-{day:02} 12:00:00") for user, day, item in days]
    setting = source(YAML, log_json=b"".join(text))
    for job in ("ingest", "sessionize"):
        assert shop.run(job, setting)["exit_code"] == 0
    return setting


@pytest.fixture
def register(shop, tmp_path):
    """register(tags) adds an untrained version, which knows the items by their names."""
    uri = f"sqlite:///{shop.root / 'var' / 'mlflow.db'}"
    registry = Registry(uri, "encoder")
    spec = ModelSpec("gru", length=8, window=8, n_items=12, n_event_types=4, dimension=8, layers=1)
    vocabulary = Vocabulary.from_pairs([(f"i{number}", 3 + number) for number in range(9)], [("view", 3)])

    def version(tags):
        torch.manual_seed(1)
        save_model(build_model(spec, torch.arange(12)), tmp_path / "checkpoint")
        experiment = registry.experiment("behavior", str(shop.root / "var" / "artifacts"))
        run_id = MlflowClient(uri).create_run(experiment).info.run_id
        return registry.register(run_id, tmp_path / "checkpoint", vocabulary, tags)

    version.registry, version.client = registry, MlflowClient(uri)
    return version


def test_what_follows_the_cut_of_training_alone_is_asked(shop, log, register):
    """Trained up to a late cut, then asked as of an earlier one, which was the answer of yesterday's tables."""
    assert shop.run("build_sequences", log, *LATE)["exit_code"] == 0
    trained = shop.run("train", log, NAME, *TRAINING, *LATE)
    assert trained["exit_code"] == 0, trained["stderr"]
    version = register.registry.find(CHALLENGER)
    assert (version.tags[TRAIN_CUT], version.tags[SOURCE]) == ("2017-05-20T00:00:00", "shop")
    assert register.client.get_run(version.run_id).data.tags[TRAIN_CUT] == version.tags[TRAIN_CUT]

    probe = ("probe", log, NAME, "probe.model=1", *QUICK)
    learned = "a version has learned from what follows the cut in"
    code, sentence = failure(shop.run(*probe, *EARLY, "probe.split=validation"))
    assert (code, sentence) == (2, f"{learned} probe.model: '{FROM_LATE}'; ask on test: probe.split=test")
    allowed = shop.run(*probe, *EARLY, "probe.split=test")
    assert (allowed["exit_code"], allowed["cut"]) == (0, "2017-05-20T00:00:00"), allowed["stderr"]
    assert "does not say up to which cut" not in allowed["stderr"]
    code, sentence = failure(shop.run(*probe, *LATE, "split.kind=leave_one_out"))
    assert (code, "another kind of split in probe.model" in sentence) == (2, True)

    assert shop.run("build_sequences", log, *EARLY)["exit_code"] == 0
    code, sentence = failure(shop.run("evaluate", log, NAME, *EARLY))
    mend = "train on these sequences, or build them with a later cut"
    assert (code, sentence) == (3, f"{learned} model encoder: '{FROM_LATE}'; {mend}")
    two = ("compare", log, NAME, "compare.models=[2,1]")
    register({SOURCE: "shop", TRAIN_CUT: "2017-05-10T00:00:00"})
    code, sentence = failure(shop.run(*two, *EARLY, "compare.split=validation"))
    mend = "ask on test: compare.split=test; or leave it out of compare.models"
    assert (code, sentence) == (2, f"{learned} compare.models: '{FROM_LATE}'; {mend}")
    compared = shop.run(*two, *EARLY)
    assert (compared["exit_code"], compared["split"]) == (0, "test"), compared["stderr"]

    begun = (log, NAME, *TRAINING, *EARLY, "train.start_model=1", "train.dry_run=true")
    code, sentence = failure(shop.run("train", *begun))
    assert (code, sentence) == (2, f"{learned} train.start_model: '{FROM_LATE}'; start from another version")
    # A champion that knows too much does not stand in the way of a challenger that does not.
    register.client.set_registered_model_alias("encoder", "champion", "1")
    judged = shop.run("evaluate", log, NAME, *EARLY, "evaluate.gate=[popularity]", "evaluate.baselines=[popularity]")
    assert f"the champion cannot be judged: {learned} model encoder: '{FROM_LATE}'" in judged["stderr"]
    told = {row.method for row in shop.tables.read(EVALUATIONS).where(f"{EVALUATIONS.model_version} = 2").collect()}
    assert told == {"model", "popularity"}


def test_a_run_that_cannot_begin_has_failed(shop, log, register, monkeypatch):
    def missing(*told):
        raise ConfigError("tensorboard is not installed")

    assert shop.run("build_sequences", log, *EARLY)["exit_code"] == 0
    monkeypatch.setattr(load_job("train"), "Board", missing)
    told = shop.run("train", log, NAME, *TRAINING, *EARLY, "train.tensorboard=board")
    assert failure(told) == (2, "tensorboard is not installed")
    (run,) = register.client.search_runs([register.registry.experiment("behavior", "")])
    assert run.info.status == "FAILED"


def test_a_refit_is_compared_on_test_alone(shop, log, register):
    assert shop.run("build_sequences", log, *EARLY)["exit_code"] == 0
    register({TAUGHT_BY: "train"})
    register({TAUGHT_BY: "refit"})
    two = ("compare", log, NAME, *EARLY, "compare.models=[1,2]")
    assert failure(shop.run(*two, "compare.split=validation")) == (
        2,
        "a refit has learned from what follows the cut in compare.models: 2; ask on test: compare.split=test; or leave"
        " it out of compare.models",
    )
    told = shop.run(*two)
    assert (told["exit_code"], told["versions"]) == (0, {"1": 1, "2": 2})
    unknown = "version 2 does not say up to which cut it has learned (no tag train_cut)"
    assert unknown in told["stderr"]


def test_versions_of_another_source_are_never_judged_here(shop, source, register):
    log, mend = source(), "give source=mall, or each source a model of its own: mlflow.model_name=…"
    told = f"'version 1 of mall, asked of shop'; {mend}"
    register({SOURCE: "mall"})
    another = "a version has learned from another source in"
    assert failure(shop.run("probe", log, NAME, "probe.model=1")) == (2, f"{another} probe.model: {told}")
    register({SOURCE: "shop"})
    two = shop.run("compare", log, NAME, "compare.models=[2,1]")
    assert failure(two) == (2, f"{another} compare.models: {told}")
    register.client.set_registered_model_alias("encoder", "champion", "1")
    # Its rows of the other source's users would be replaced by these.
    assert failure(shop.run("embed", log, NAME)) == (3, f"{another} model encoder: {told}")
    warned = shop.run("train", log, NAME)["stderr"]  # there are no sequences yet
    assert "the champion of encoder is of source mall: evaluate will refuse this model" in warned
    reported = shop.run("report", log, NAME, f"report.path={shop.root / 'report.html'}")
    assert reported["exit_code"] == 0, reported["stderr"]
    assert "the champion of encoder is of source mall: the report leaves it out" in reported["stderr"]
    assert f"models:/{NAME.partition('=')[2]}@champion" not in (shop.root / "report.html").read_text()
    # Neither a challenger nor a champion: what it would win is the alias that the other source's jobs read.
    aliases = {"challenger": "2", "champion": "1"}
    for names in (aliases, {"challenger": "1", "champion": "2"}, {"challenger": "1"}, {"champion": "1"}):
        for alias in aliases:
            register.client.delete_registered_model_alias("encoder", alias)
        for alias, version in names.items():
            register.client.set_registered_model_alias("encoder", alias, version)
        assert failure(shop.run("evaluate", log, NAME)) == (3, f"{another} model encoder: {told}")
        assert {alias: register.registry.resolve(alias) and alias for alias in aliases} == {
            alias: alias if alias in names else None for alias in aliases
        }


def test_sequences_of_another_source_are_made_again_and_never_taken_for_ones_own(shop, register):
    cuts, settings = ("split.validation=2017-05-03", "split.test=2017-05-05"), []
    for name in ("shop", "mall"):
        folder = shop.root / "raw" / name
        folder.mkdir(parents=True)
        days = (f"2017-05-0{day} 12:00:00" for day in range(1, 8))
        (folder / "log.json").write_bytes(b"".join(line(user=f"{name}'s", time=day) for day in days))
        text = YAML.replace("name: shop", f"name: {name}").replace("${paths.raw}", f"${{paths.raw}}/{name}")
        (shop.root / f"{name}.yaml").write_text(text)
        settings.append(f"source={shop.root / name}.yaml")
        for job in ("ingest", "sessionize"):
            assert shop.run(job, settings[-1])["exit_code"] == 0

    def build(source):
        told = shop.run("build_sequences", source, *cuts)
        return told["status"], {row.user_id for row in shop.tables.read(SEQUENCES).collect()}

    first, second = settings
    assert build(first) == ("succeeded", {"shop's"})
    assert build(second) == ("succeeded", {"mall's"})
    # Neither has new events or another configuration than at its last build.
    assert build(first) == ("succeeded", {"shop's"})
    assert build(first) == ("unchanged", {"shop's"})
    assert build(second) == ("succeeded", {"mall's"})
    register({SOURCE: "shop"})
    mend = "make those of shop, or give each source a warehouse of its own: behavior build_sequences"
    refusal = 3, f"the newest build was another source's in sequences: 'mall'; {mend}"
    for job in ("train", "tune", "evaluate", "compare"):
        assert failure(shop.run(job, first, NAME, "compare.models=[1]", "compare.vectors=[int8]")) == refusal
    told = shop.run("train", second, NAME, *TRAINING, "train.dry_run=true")
    assert told["exit_code"] == 0, told["stderr"]
