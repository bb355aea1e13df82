"""use_original_dst: a connection goes to the listener of its original destination, whose own listener filters then see it. Istio's
sidecars live by it; there iptables changes the destination, here a PROXY header does."""
import socket

import pytest

from harness import config
from harness.proxy import Proxy

TYPE = "type.googleapis.com/envoy.extensions.filters."
PROTOCOL = {"name": "envoy.filters.listener.proxy_protocol", "typed_config": {"@type": TYPE + "listener.proxy_protocol.v3.ProxyProtocol"}}
INSPECTOR = {"name": "envoy.filters.listener.http_inspector", "typed_config": {"@type": TYPE + "listener.http_inspector.v3.HttpInspector"}}


def says(text):
    """A chain that answers with a text."""
    return {"filters": [{"name": "say", "typed_config": {"@type": TYPE + "network.direct_response.v3.Config",
                                                         "response": {"inline_string": text}}}]}


def there(name, host, port, **over):
    return {"name": name, "address": config.address(port, host), "bind_to_port": False, **over}


LISTENERS = [
    {"name": "door", "address": config.address(0), "use_original_dst": True, "listener_filters": [PROTOCOL],
     "filter_chains": [says("door")]},
    there("plain", "127.0.0.9", 4241, filter_chains=[says("plain")]),
    there("sniffing", "127.0.0.9", 4242, listener_filters=[INSPECTOR], listener_filters_timeout="0s",
          filter_chains=[{"filter_chain_match": {"application_protocols": ["http/1.1"]}, **says("http")}],
          default_filter_chain=says("not http")),
    there("second door", "127.0.0.9", 4243, use_original_dst=True, filter_chains=[says("second door")]),
    there("any", "0.0.0.0", 4244, listener_filters=[INSPECTOR],
          filter_chains=[{"filter_chain_match": {"application_protocols": ["http/1.1"]}, **says("any, http")}],
          default_filter_chain=says("any, not http")),
    there("no chain", "127.0.0.9", 4245, filter_chains=[{"filter_chain_match": {"destination_port": 1}, **says("never")}]),
]
CASES = {
    "nobody there": ("127.0.0.9", 1, b"x"),
    "a listener without filters": ("127.0.0.9", 4241, b"x"),
    "HTTP is found out": ("127.0.0.9", 4242, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    "it is not HTTP": ("127.0.0.9", 4242, b"\x00\x01\x02\x03 hello hello hello"),
    "another door": ("127.0.0.9", 4243, b"x"),
    "a listener of any address": ("127.0.0.77", 4244, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    "a listener of any address, not HTTP": ("127.0.0.77", 4244, b"\x00\x01\x02\x03 hello hello hello"),
    "no chain fits there": ("127.0.0.9", 4245, b"x"),
}


@pytest.fixture(scope="module")
def sides(envoy_binary, skiff_binary, concurrency):
    made = [Proxy(binary, config.bootstrap(LISTENERS), concurrency=concurrency) for binary in (envoy_binary, skiff_binary)]
    yield made
    made[0].stop(check=False)
    made[1].stop()


def answer(proxy, host, port, data):
    with socket.create_connection(("127.0.0.1", proxy.port("door")), 30) as sock:
        sock.sendall(f"PROXY TCP4 127.0.0.8 {host} 1000 {port}\r\n".encode() + data)
        out = b""
        try:
            while chunk := sock.recv(4096):
                out += chunk
        except ConnectionResetError:
            pass  # what was sent is not always read before the close
        return out.decode()


@pytest.mark.parametrize("name", CASES)
def test_as_envoy(sides, name):
    envoy, skiff = (answer(proxy, *CASES[name]) for proxy in sides)
    assert skiff == envoy
    sides[1].check_health()


def test_the_listener_that_serves_counts(sides):
    envoy, skiff = (({k: v for k, v in proxy.stats(r"^listener\..*(downstream_cx_total|no_filter_chain_match)$").items()
                      if ".worker_" not in k and "admin" not in k and k.startswith("listener.127.0.0.9")}) for proxy in sides)
    assert skiff == envoy
    assert envoy, "Envoy counts them under the address of the listener"
