"""One rank of the communicators' test: `python -m tests.distributed.talk NAME RENDEZVOUS OUT`."""

import json
import sys
from pathlib import Path

import torch

from behavior_lib.train.communicator import connect
from behavior_lib.train.rowwise import make_sparse


def rows(communicator, half):
    """The mean of both ranks' gradients of a table, made dense; rank 1 looks up other rows, and one of them twice."""
    model = torch.nn.ModuleDict({"seen": torch.nn.Embedding(7, 2), "unseen": torch.nn.Embedding(7, 2)})
    make_sparse(model)
    table = model["seen"].weight
    table.data.fill_(0.5)
    index = torch.tensor([[1, 3], [5, 3, 5, 0]][communicator.rank])
    (model["seen"](index) * (communicator.rank + 1)).sum().backward()
    if communicator.rank == 0:
        model["unseen"](index).sum().backward()
    communicator.average_gradients(model, 0.0, half)
    assert table.grad.is_sparse
    return torch.stack([parameter.grad.to_dense() for parameter in model.parameters()])


def main(name, rendezvous, out):
    torch.set_num_threads(1)
    communicator = connect(name, rendezvous)
    rank = communicator.rank
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.fill_(0.1 * (number + 1) + rank)
    communicator.broadcast(list(model.parameters()))
    weights = [parameter.tolist() for parameter in model.parameters()]
    # The second layer has no gradient on rank 1.
    inputs = torch.arange(12.0).view(4, 3) + rank
    output = model(inputs) if rank == 0 else model[0](inputs)
    output.square().sum().backward()
    votes = communicator.average_gradients(model, float(rank))
    gradients = [parameter.grad.flatten().tolist() for parameter in model.parameters()]
    model[0].weight.grad.copy_(torch.tensor([[1.0, 1e-3, 60_000.0], [0.1, 0.0, -1e9]]) * (rank + 1))
    communicator.average_gradients(model, 0.0, half=True)
    said = {
        "rank": rank,
        "rows": [rows(communicator, half).tolist() for half in (False, True)],
        "half": model[0].weight.grad.flatten().tolist(),
        "size": communicator.size,
        "weights": weights,
        "gradients": gradients,
        "sum": communicator.sum("a sum", [1.5 + rank, 2.0**-40]),
        "votes": votes,
        "shared": communicator.share("a text", "ранг 0, ☃" if rank == 0 else "something longer than that, of rank 1"),
        "minimum": communicator.minimum("a minimum", 7 - rank),
    }
    Path(f"{out}-{rank}.json").write_text(json.dumps(said))
    communicator.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
