"""Graphs of the benchmarks are traced once a run, as those of tests/export."""

import pytest

from tests.support import graph_store


@pytest.fixture(autouse=True, scope="session")
def store(tmp_path_factory):
    """The folder of traced graphs that all workers of this run share."""
    folder = graph_store.of_run(tmp_path_factory)
    with graph_store.shared(folder):
        yield folder
