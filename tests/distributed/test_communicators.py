"""Horovod and torch.distributed say the same, and what they say is the mean, the sum and the smallest."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from behavior_lib.train.communicator import SingleProcess, _Shares

pytestmark = pytest.mark.distributed
ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 120
# Rank 0 looks up rows 1 and 3, rank 1 rows 5, 3, 5 and 0 with twice the weight; the other table rank 0 alone.
EXPECTED_ROWS = np.repeat([[1, 0.5, 0, 1.5, 0, 2, 0], [0, 0.5, 0, 0.5, 0, 0, 0]], 2).reshape(2, 7, 2)


def talk(name, folder):
    """What each of two ranks said."""
    module = ["-m", "tests.distributed.talk", name, (folder / "rendezvous").as_uri(), str(folder / name)]
    if name == "horovod":
        commands = [["-m", "horovod.runner.launch", "--gloo", "-np", "2", "-H", "localhost:2", sys.executable, *module]]
    else:
        commands = [module, module]
    processes = [
        subprocess.Popen([sys.executable, *command], cwd=ROOT, env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"})
        for rank, command in enumerate(commands)
    ]
    assert [process.wait(LIMIT_SECONDS) for process in processes] == [0] * len(commands)
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in (0, 1)]


def expected_gradients():
    """The mean of both ranks' gradients, computed here in one process with rank 0's weights."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.fill_(0.1 * (number + 1))
    inputs = torch.arange(12.0).view(4, 3)
    (model(inputs).square().sum() + model[0](inputs + 1).square().sum()).div(2).backward()
    return [parameter.grad.flatten().tolist() for parameter in model.parameters()]


@pytest.mark.parametrize("name", ["horovod", "torch"])
def test_two_ranks_agree(name, tmp_path):
    first, second = talk(name, tmp_path)
    assert [(said["rank"], said["size"]) for said in (first, second)] == [(0, 2), (1, 2)]
    for said in (first, second):
        assert said["weights"] == first["weights"]
        np.testing.assert_allclose(said["weights"][1], [0.2, 0.2], rtol=1e-6)
        for found, wanted in zip(said["gradients"], expected_gradients(), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
        assert said["sum"] == [4.0, 2.0**-39]
        assert said["minimum"] == 6
        assert said["votes"] == 1.0
        for found in said["rows"]:
            np.testing.assert_allclose(found, EXPECTED_ROWS, rtol=1e-6)
        # As float16: three digits, and what is beyond its largest value stays there.
        np.testing.assert_allclose(said["half"], [1.5, 1.5e-3, 32_752 + 30_000, 0.15, 0.0, -65_504], rtol=2e-3)
        assert said["shared"] == "ранг 0, ☃"


def test_one_process_talks_to_nobody():
    alone = SingleProcess()
    model = torch.nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    before = model.weight.grad.clone()
    alone.broadcast(list(model.parameters()))
    assert alone.average_gradients(model, 1.0) == 1.0
    assert torch.equal(model.weight.grad, before)
    assert (alone.rank, alone.size, alone.sum("s", [2.5]), alone.minimum("m", 4)) == (0, 1, [2.5], 4)
    assert alone.share("t", "text") == "text"


@pytest.mark.parametrize("size", range(1, 17))
def test_what_is_beyond_float16_travels_as_its_largest_at_any_number_of_ranks(size):
    model = torch.nn.Linear(3, 1, bias=False)
    model.weight.grad = torch.tensor([[1e9, -1e9, 3.0]])
    ((_, share),) = _Shares(model, size, half=True).shares
    total = share.double() * size
    assert total.abs().max() <= 65_504
    np.testing.assert_allclose(total.flatten(), [65_504, -65_504, 3.0], rtol=3e-3)


def test_what_is_no_number_stays_none_as_float16():
    model = torch.nn.Linear(2, 1, bias=False)
    model.weight.grad = torch.tensor([[float("inf"), float("nan")]])
    ((_, share),) = _Shares(model, 2, half=True).shares
    assert not share.isfinite().any()


CLOSED = """
import glob
from pathlib import Path
import torch
from behavior_lib.train.communicator import TorchCommunicator

communicator = TorchCommunicator()
weight = torch.nn.Parameter(torch.ones(1))
torch.optim.AdamW([weight])  # imports what keeps the group of the moment
communicator.sum("x", [1.0])
threads = lambda: [Path(file).read_text().strip() for file in glob.glob("/proc/self/task/*/comm")]
began = any("gloo" in name for name in threads())
communicator.close()
print(began, [name for name in threads() if "gloo" in name])
"""


def test_a_closed_group_leaves_no_thread_behind(tmp_path):
    """One that still drops a tensor while Python ends aborts the process."""
    alone = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-c", CLOSED]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **alone}, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "True []\n"), done.stderr
