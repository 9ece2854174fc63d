"""Archives on a Ray cluster of three nodes, one of which is killed."""

import os
import threading

import pytest
from archive.conftest import read_digests, write_recordings

from kerastag.archive import write_archive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.filterwarnings("ignore")
def test_a_lost_node_changes_no_byte(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    pytest.importorskip("ray", reason="needs the package ray (extra `ray`)")
    from ray.cluster_utils import Cluster

    from checks import ROOT

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    write_recordings(tmp_path / "recordings", 120)
    write_archive(["recordings"], "local", "esc10", jobs=2, shard_files=5)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        is_lost = threading.Event()

        def lose_node():
            while not list((tmp_path / "out" / "shards").glob("*.json")):
                is_lost.wait(0.05)
            cluster.remove_node(nodes[0], allow_graceful=False)
            is_lost.set()

        thread = threading.Thread(target=lose_node)
        thread.start()
        report = write_archive(["recordings"], "out", "esc10", engine="ray", address=cluster.address, shard_files=5)
        thread.join()
    finally:
        cluster.shutdown()
    assert is_lost.is_set()
    assert report["is_complete"]
    assert report["run"]["files"] == 123
    assert read_digests(tmp_path / "out") == read_digests(tmp_path / "local")
    # A process of the lost node may have created its folder after the run ended: the next run removes it.
    write_archive(["recordings"], "out", "esc10")
    assert not [path for path in (tmp_path / "out").rglob(".*") if path.name != ".archive.lock"]
