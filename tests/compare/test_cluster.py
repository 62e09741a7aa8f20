"""The same runs on a local Ray cluster of two nodes."""

import sys

import pytest

from yolograft import cli
from yolograft.compare import cluster
from yolograft.errors import ConfigError

from .calls import SETTINGS, WORDS, numbers

pytestmark = pytest.mark.xdist_group("compare")


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="--ray needs Ray, which is not installed"):
        cluster.Cluster("auto", "cpu")


def test_an_address_without_a_cluster_is_refused():
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=r"--ray 127\.0\.0\.1:1: no cluster"):
        cluster.Cluster("127.0.0.1:1", "cpu")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_nodes_leave_the_same_records(whole, tiny, tmp_path, capsys):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    nodes.add_node(num_cpus=2)  # Ray gives a task as many threads; the sums must not change
    try:
        given = ["compare", "--base", "yolov8n.yaml", "--recipes", "ca", "--data", str(tiny)]
        given += ["--project", str(tmp_path / "ray"), "--ray", nodes.address, *WORDS, *SETTINGS]
        assert cli.main(given) == 0, capsys.readouterr().err
    finally:
        import ray

        ray.shutdown()
        nodes.shutdown()
    assert numbers(tmp_path / "ray") == numbers(whole)
