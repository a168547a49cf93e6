"""A sequences table in an S3-compatible store: the same batches as from the disk, by both readers; states there too."""

import os
import shutil

import pytest
from moto.server import ThreadedMotoServer

from behavior_lib.data.loader import Loader
from behavior_lib.data.snapshot import Snapshot, count_train
from behavior_lib.errors import DataRefused
from behavior_lib.train.store import FolderStore
from tests.sequences_example import frame, histories, write

BUCKET = "shop"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3():
    """A server on a port of its own, named to every client by the environment, as in production."""
    import s3fs

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ.update({**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ALLOW_HTTP": "true"})
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    store.mkdir(BUCKET)
    yield store
    server.stop()
    os.environ.clear()
    os.environ.update(before)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def tables(s3, tmp_path_factory):
    """The same table on the disk and in the bucket."""
    path = tmp_path_factory.mktemp("tables") / "sequences"
    frames = [
        frame(histories([[3 + row] * (1 + row % 5) for row in range(start, start + 9)], 5), "train", first_user=start)
        for start in (0, 9)
    ]
    version = write(path, *frames, row_group=4)
    s3.put(str(path), f"{BUCKET}/warehouse/sequences", recursive=True)
    return Snapshot.resolve(str(path), version), Snapshot.resolve(f"s3://{BUCKET}/warehouse/sequences", version)


def as_bytes(snapshot, reader, rank):
    batches = Loader(snapshot, "train", 4, reader, 1, rank, 2).epoch(0)
    return [[array.tobytes() for array in vars(numbered.histories).values()] for numbered in batches]


def test_a_snapshot_knows_the_files_of_the_bucket(tables):
    local, remote = tables
    assert [file.groups for file in remote.files["train"]] == [file.groups for file in local.files["train"]]
    assert all(
        file.path.startswith(f"s3://{BUCKET}/warehouse/sequences/split=train/") for file in remote.files["train"]
    )
    assert (count_train(remote).items == count_train(local).items).all()


@pytest.mark.parametrize("reader", ["pyarrow", "petastorm"])
@pytest.mark.parametrize("rank", [0, 1])
def test_both_readers_give_the_batches_of_the_disk(tables, reader, rank):
    local, remote = tables
    assert as_bytes(remote, reader, rank) == as_bytes(local, reader, rank)


def test_a_folder_that_petastorm_would_unpickle_from_is_refused(s3, tables):
    _, remote = tables
    s3.pipe_file(f"{BUCKET}/warehouse/sequences/_common_metadata", b"")
    try:
        with pytest.raises(DataRefused, match="unpickle"):
            Snapshot.resolve(remote.location, remote.version)
    finally:
        s3.rm(f"{BUCKET}/warehouse/sequences/_common_metadata")


def test_states_are_stored_there(s3, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    (given / "state.safetensors").write_bytes(os.urandom(1000))
    store = FolderStore(f"s3://{BUCKET}/checkpoints/a run")
    store.put("step-000000001", given)
    store.put("step-000000002", given)
    assert store.names() == ["step-000000001", "step-000000002"]
    store.get("step-000000002", tmp_path / "got")
    assert (tmp_path / "got" / "state.safetensors").read_bytes() == (given / "state.safetensors").read_bytes()
    store.remove("step-000000001")
    assert FolderStore(f"s3://{BUCKET}/checkpoints/a run").names() == ["step-000000002"]
    store.clear()
    shutil.rmtree(given)
    assert store.names() == []
