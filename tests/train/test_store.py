"""A folder in the store is whole or not there: on a disk and behind a remote file system alike."""

import json
import uuid

import pytest

from behavior_lib.errors import DataRefused
from behavior_lib.train.executor import reason
from behavior_lib.train.store import MANIFEST, FolderStore


@pytest.fixture(params=["path", "uri"])
def location(request, tmp_path):
    return str(tmp_path / "a store") if request.param == "path" else f"memory://{uuid.uuid4().hex}/store"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "a.bin").write_bytes(bytes(range(256)))
    (folder / "b.json").write_text("{}")
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_put_is_got(location, folder, tmp_path):
    store = FolderStore(location)
    assert store.names() == []
    store.put("step-2", folder)
    store.put("step-1", folder)
    again = FolderStore(location)
    assert again.names() == ["step-1", "step-2"]
    again.get("step-2", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(folder)


def test_putting_again_replaces_everything(location, folder, tmp_path):
    store = FolderStore(location)
    store.put("best", folder)
    (folder / "b.json").unlink()
    (folder / "a.bin").write_bytes(b"new")
    store.put("best", folder)
    store.get("best", tmp_path / "out")
    assert contents(tmp_path / "out") == {"a.bin": b"new"}


def test_a_folder_without_its_manifest_is_not_there(location, folder):
    store = FolderStore(location)
    store.put("half", folder)
    store._files.rm(f"{store._root}/half/{MANIFEST}")
    assert store.names() == []


@pytest.mark.parametrize(
    ("file", "content"), [("a.bin", b"torn"), (MANIFEST, b"{"), (MANIFEST, b"[]"), (MANIFEST, b'{"a.bin": 1}')]
)
def test_a_torn_file_is_refused(location, folder, tmp_path, file, content):
    store = FolderStore(location)
    store.put("torn", folder)
    store._files.pipe_file(f"{store._root}/torn/{file}", content)
    with pytest.raises(DataRefused, match="torn"):
        store.get("torn", tmp_path / "out")


def test_what_is_not_there_is_refused_and_removing_it_is_nothing(location, tmp_path):
    store = FolderStore(location)
    store.remove("nothing")
    with pytest.raises(DataRefused, match="not whole"):
        store.get("nothing", tmp_path / "out")


def test_clearing_leaves_nothing(location, folder):
    store = FolderStore(location)
    store.put("one", folder)
    store.clear()
    assert store.names() == []
    store.clear()


def test_clearing_takes_what_needs_another_before_it(location, folder, monkeypatch):
    store = FolderStore(location)
    for name in ("best-0001", "step-000000002", "failed-1"):
        store.put(name, folder)
    removed, remove = [], store.remove
    monkeypatch.setattr(store, "remove", lambda name: removed.append(name) or remove(name))
    store.clear()
    assert removed == ["step-000000002", "failed-1", "best-0001"]


def test_the_reason_of_the_first_rank_is_told_once(location, tmp_path):
    store = FolderStore(location)
    for rank, kind in ((1, "TrainingFailed"), (0, "DataRefused")):
        (tmp_path / str(rank)).mkdir()
        (tmp_path / str(rank) / "reason.json").write_text(json.dumps({"kind": kind, "sentence": f"rank {rank}"}))
        store.put(f"reason-{rank}", tmp_path / str(rank))
    found = reason(store)
    assert (type(found), str(found)) == (DataRefused, "rank 0")
    assert reason(store) is None
