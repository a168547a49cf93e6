import pytest


@pytest.fixture(autouse=True, scope="module")
def one_thread_everywhere(one_thread):
    """As its name says."""
