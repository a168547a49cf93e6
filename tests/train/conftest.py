import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Models this small lose more to several threads than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
