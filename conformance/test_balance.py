"""connection_balance_config: connections of a listener over the workers, on Skiff and on Envoy."""
import socket

import pytest

from harness import config
from harness.proxy import Proxy
from harness.wait import wait_for

WORKERS = 4
EXACT = {"connection_balance_config": {"exact_balance": {}}}
INSPECTOR = {"name": "t", "typed_config": {"@type": config.TYPE + "extensions.filters.listener.tls_inspector.v3.TlsInspector"}}
ECHO = {"name": "e", "typed_config": {"@type": config.TYPE + "extensions.filters.network.echo.v3.Echo"}}
# name, listener fields
LISTENERS = {
    "reuse": {**EXACT},
    "shared": {**EXACT, "enable_reuse_port": False},
    "inspected": {**EXACT, "listener_filters": [INSPECTOR]},
    "single": {**EXACT, "enable_reuse_port": False, "listener_filters": [INSPECTOR]},
}


@pytest.fixture(scope="module")
def proxies(skiff_binary, envoy_binary):
    listeners = [config.listener(name, [ECHO], stat_prefix=name, **over) for name, over in LISTENERS.items()]
    made = [Proxy(binary, config.bootstrap(listeners), concurrency=WORKERS) for binary in (skiff_binary, envoy_binary)]
    yield made
    made[1].stop(check=False)
    made[0].stop()


def talk(sock, word=b"no TLS at all"):
    sock.sendall(word)
    assert sock.recv(100) == word


def active(proxy, name):
    return sorted(proxy.stats(rf"^listener\.{name}\.worker_\d+\.downstream_cx_active$").values())


def opened(proxy, name, count):
    """One after the other: the next is accepted only after the one before has answered."""
    socks = []
    for _ in range(count):
        socks.append(socket.create_connection(("127.0.0.1", proxy.port(name)), 60))
        talk(socks[-1])
    return socks


@pytest.mark.parametrize("name", LISTENERS)
def test_exact(proxies, name):
    seen = []
    for proxy in proxies:
        here = []
        socks = opened(proxy, name, 5 * WORKERS)
        here.append(active(proxy, name))
        for sock in socks[::2]:
            sock.close()
        wait_for(lambda p=proxy: sum(active(p, name)) == len(socks[1::2]), "connections to end")
        socks = socks[1::2] + opened(proxy, name, 5 * WORKERS - len(socks[1::2]))
        here.append(active(proxy, name))
        for sock in socks:
            talk(sock)
            sock.close()
        wait_for(lambda p=proxy: sum(active(p, name)) == 0, "connections to end")
        seen.append(here)
    assert seen[0] == seen[1] == [[5] * WORKERS] * 2


def test_burst(proxies):
    """All at once: workers that choose at the same time leave no worker behind by more than their number."""
    proxy = proxies[0]
    socks = [socket.create_connection(("127.0.0.1", proxy.port("reuse")), 60) for _ in range(200)]
    for sock in socks:
        talk(sock)
    counts = active(proxy, "reuse")
    assert sum(counts) == 200 and counts[-1] - counts[0] <= WORKERS, counts
    for sock in socks:
        sock.close()
    proxy.check_health()
