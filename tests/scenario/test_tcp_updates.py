"""TCP connections while the control plane changes what they use."""
import json
import os
import socket

import pytest
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2  # noqa: F401 the control plane packs it

from harness import config
from harness.controlplane import ads_bootstrap
from harness.proxy import Log
from harness.upstream import Upstream
from harness.wait import wait_for
from harness.tcp import connect, tcp

pytestmark = pytest.mark.threads


def say_name_then_echo(name):
    def handler(connection):
        connection.sock.sendall(name.encode())
        while data := connection.sock.recv(65536):
            connection.sock.sendall(data)
    return handler


class Held:
    """A connection that is kept open."""

    def __init__(self, port):
        self.sock = connect(port)
        self.name = self.sock.recv(3)

    def works(self):
        self.sock.sendall(b"ping")
        return self.sock.recv(4) == b"ping"

    def ended(self):
        self.sock.settimeout(0.05)
        try:
            return self.sock.recv(1) == b""
        except socket.timeout:
            return False
        except ConnectionResetError:
            return True


@pytest.fixture
def house(control_plane, skiff):
    plane = control_plane()
    servers = {name: Upstream(name, handler=say_name_then_echo(name)) for name in ("old", "new")}
    plane.set("cluster", [config.cluster(name, [server.port]) for name, server in servers.items()])
    plane.set("listener", [listener("old")])
    proxy = skiff(ads_bootstrap(plane.port), args=["--drain-time-s", "2"])
    yield plane, proxy, servers
    for server in servers.values():
        server.stop()


def listener(cluster, extra=()):
    chains = [{"name": "main", "filters": [tcp("t", cluster=cluster)]},
              *({"name": f"extra{port}", "filter_chain_match": {"destination_port": port}, "filters": [tcp(f"e{port}")]} for port in extra)]
    return config.listener("main", filter_chains=chains)


def test_a_connection_outlives_changes_of_other_chains(house):
    plane, proxy, _ = house
    held = Held(proxy.port())
    for port in range(1, 20):
        plane.set("listener", [listener("old", [port])])
        plane.wait_ack("listener")
    assert held.works()
    wait_for(lambda: "listener_in_place_updated: 19" in proxy.admin("/stats").text, "updates in place")
    assert held.works()


def test_a_changed_chain_drains(house):
    plane, proxy, _ = house
    held = Held(proxy.port())
    plane.set("listener", [listener("new")])
    plane.wait_ack("listener")
    wait_for(lambda: Held(proxy.port()).name == b"new", "the new chain")
    assert held.works()
    wait_for(held.ended, "the drain time to end the old connection", 20)


def test_a_connection_outlives_its_cluster_version(house):
    plane, proxy, servers = house
    held = Held(proxy.port())
    plane.set("cluster", [config.cluster("old", [servers["new"].port]), config.cluster("new", [servers["new"].port])])
    wait_for(lambda: Held(proxy.port()).name == b"new", "the cluster's new host")
    assert held.works()


def sockets(proxy):
    """How many listen."""
    return sum(proxy.stat(f"listener_manager.total_listeners_{state}") for state in ("active", "warming", "draining"))


def test_a_thousand_listeners_come_and_go(house):
    """With connections to some of them: these drain, and no file is left open."""
    plane, proxy, _ = house
    plane.wait_ack("listener")
    files = len(os.listdir(f"/proc/{proxy.pid}/fd"))
    many = [config.listener(f"m{i}", [tcp("m", cluster="old")]) for i in range(1000)]
    plane.set("listener", [listener("old"), *many])
    plane.wait_ack("listener")
    assert sockets(proxy) == 1001
    held = [Held(proxy.port(f"m{i}")) for i in (0, 500, 999)]
    assert all(h.works() for h in held)
    plane.set("listener", [listener("old")])
    plane.wait_ack("listener")
    wait_for(lambda: all(h.ended() for h in held), "the drained connections to end")
    wait_for(lambda: sockets(proxy) == 1, "the listeners to go")
    wait_for(lambda: len(os.listdir(f"/proc/{proxy.pid}/fd")) <= files + 4, "the files to be closed")  # some more for our own admin connections
    assert Held(proxy.port("main")).works()


def test_connections_while_clusters_flap(house):
    plane, proxy, servers = house
    for turn in range(30):
        held = Held(proxy.port())
        plane.set("cluster", [config.cluster("old", [servers[("old", "new")[turn % 2]].port], connect_timeout=f"{turn + 1}s")])
        assert held.works()
        held.sock.close()
    plane.wait_ack("cluster")
    wait_for(lambda: "cluster.old.upstream_cx_active: 0" in proxy.admin("/stats").text, "all to end")


def test_thousands_of_attempts_are_not_all_listed(skiff, dead_port, tmp_path):
    """The list of hosts is copied at each attempt: without a bound the time and the memory grow with the square."""
    proxy = skiff(config.bootstrap([config.listener("main", [tcp("t", log=str(tmp_path), max_connect_attempts=3000)])],
                                   [config.cluster("echo", [dead_port])]))
    sock = connect(proxy.port())
    assert sock.recv(1) == b""
    sock.close()
    line = json.loads(Log(str(tmp_path / "t.log")).wait(1)[0])
    assert line["attempts"] == 3000 and 10000 < len(line["tries"]) < 17000
