"""Long admin pages: written while the client takes them, whatever happens in between."""
import http.client
import json
import socket

import pytest

from harness import config
from harness.wait import wait_for
from test_file_updates import Files, bootstrap

CLUSTERS, HOSTS = 400, 8


class SlowReader(http.client.HTTPConnection):
    """Asks for a page and takes nothing of it but its head until it is told to."""

    def connect(self):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.settimeout(60)
        self.sock.connect((self.host, self.port))


def ask(proxy, path):
    reader = SlowReader("127.0.0.1", proxy.admin_port())
    reader.request("GET", path)
    response = reader.getresponse()
    assert response.status == 200
    return reader, response


def many(first=0):
    return [config.cluster(f"c{n:04d}", [9] * HOSTS) for n in range(first, CLUSTERS)]


@pytest.fixture
def loaded(tmp_path, skiff):
    files = Files(tmp_path)
    files.write("cluster", many())
    files.write("listener", [])
    proxy = skiff(bootstrap(files))
    wait_for(lambda: proxy.stats("^cluster_manager.active_clusters$").popitem()[1] == CLUSTERS, "the clusters")
    return files, proxy


def names_of(page, path):
    if "prometheus" in path:
        lines = [line for line in page.splitlines() if line.startswith("envoy_cluster_upstream_cx_total{")]
        return [line.split('"')[1] for line in lines]
    if "config_dump" in path:
        return [c["cluster"]["name"] for c in json.loads(page)["configs"]]
    return [c["name"] for c in json.loads(page)["cluster_statuses"]]


@pytest.mark.parametrize("path", ["/stats/prometheus?filter=cx_total|le_time|cx_active|rq_total|lb_", "/clusters?format=json",
                                  "/config_dump?resource=dynamic_active_clusters"])
def test_clusters_go_while_a_page_is_read(loaded, path):
    """A page is whole, in order and without doubles, though most of what it tells of goes in the middle of it."""
    files, proxy = loaded
    reader, response = ask(proxy, path)
    assert proxy.admin("/ready").status == 200  # the page that waits for its client stops nobody
    files.write("cluster", many(CLUSTERS - 5), "2")
    wait_for(lambda: proxy.stats("^cluster_manager.active_clusters$").popitem()[1] == 5, "the clusters' end")
    names = names_of(response.read().decode(), path)
    reader.close()
    assert names == sorted(set(names)) and names[-5:] == [f"c{n:04d}" for n in range(CLUSTERS - 5, CLUSTERS)]
    assert names_of(proxy.admin(path).text, path) == names[-5:]


def test_clients_leave_in_the_middle(loaded):
    _, proxy = loaded
    paths = ["/stats/prometheus", "/stats?format=html", "/clusters", "/config_dump?include_eds"]
    for path in paths:
        for taken in (0, 300_000):
            reader, response = ask(proxy, path)
            assert len(response.read(taken)) == taken
            reader.close()
            assert proxy.admin("/ready").status == 200
        assert not proxy.admin(path, method="HEAD").body
    readers = [ask(proxy, path) for path in paths]  # they are still there when the process ends
    proxy.stop()
    for reader, _ in readers:
        reader.close()
