"""One rank of a Horovod run: every rank adds its number plus one, and all must agree on the sum."""

import signal

LIMIT_SECONDS = 110


def main() -> None:
    """Sum over the ranks; rank 0 prints the outcome."""
    # Ranks that wait for each other wait for ever; horovodrun starts them outside its own process group.
    signal.alarm(LIMIT_SECONDS)
    import horovod
    import horovod.torch as hvd
    import torch

    hvd.init()
    total = hvd.allreduce(torch.tensor([hvd.rank() + 1.0]), op=hvd.Sum, name="doctor").item()
    expected = hvd.size() * (hvd.size() + 1) / 2
    if total != expected:
        raise SystemExit(f"the sum over {hvd.size()} processes is {total}, expected {expected}")
    if hvd.rank() == 0:
        print(f"{horovod.__version__} summed over {hvd.size()} processes", flush=True)
    hvd.shutdown()


if __name__ == "__main__":
    main()
