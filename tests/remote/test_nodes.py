"""Nodes of a Ray cluster that die under load: stress/nodes.py, twice."""

from __future__ import annotations

import pytest

from tests.support.modules import built

pytest.importorskip("fsspec")
pytest.importorskip("ray.serve")

from stress.nodes import nodes

pytestmark = [pytest.mark.long, pytest.mark.alone]  # Ray takes half a minute to start, and gives up after another


@pytest.mark.timeout(600)
def test_a_node_that_dies_costs_no_result_and_no_saved_state() -> None:
    built("calls"), built("keeps")  # outside the test's time
    with nodes() as cluster:
        for _ in range(2):
            assert cluster.round(5).answers > 0
