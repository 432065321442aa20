"""A cluster of Ray on this machine: raylets are nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors, and a node with two."""
    ray = pytest.importorskip("ray")
    made = pytest.importorskip("ray.cluster_utils").Cluster(initialize_head=True, head_node_args={
        "num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000})
    try:
        made.add_node(num_cpus=2, object_store_memory=80_000_000)
        ray.init(address=made.address, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
