"""The order of the steps, with the steps themselves left out: tests/e2e walks the whole way."""

import pytest

from behavior_lib.cli import load_job
from behavior_lib.config import load
from behavior_lib.errors import DataRefused, TornFiles


@pytest.mark.parametrize(
    ("step", "error", "wanted"),
    [
        ("ingest", TornFiles("a compressed file ends too early"), None),
        ("sessionize", DataRefused("there is no event"), ["ingest", "sessionize"]),
    ],
)
def test_torn_files_end_the_run_after_the_others_went_the_whole_way(tmp_path, monkeypatch, step, error, wanted):
    pipeline = load_job("pipeline")
    done = []

    def execute(job, run):
        done.append(job.name)
        if job.name == step:
            raise error
        return {"job": job.name, "status": "succeeded", "metrics": {}, "tables": {}, "seconds": 0}

    monkeypatch.setattr(pipeline, "execute", execute)
    paths = [f"paths.{name}={tmp_path / name}" for name in ("raw", "warehouse", "var")]
    job = pipeline.Job("pipeline", load("test", "pipeline", paths))
    with pytest.raises(type(error)) as raised:
        pipeline.run(job)
    assert raised.value is error
    assert done == (wanted or list(pipeline.STEPS))
