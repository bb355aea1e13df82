"""The dynamic forward proxy over time: names that move, go, never come; clients that leave; configuration that contradicts itself."""
import socket
import threading

import pytest

from harness import client, config
from harness.dns import DnsServer
from harness.proxy import Proxy
from harness.upstream import Upstream
from harness.wait import wait_for

CLUSTER = config.TYPE + "extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig"
FILTER = config.TYPE + "extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig"
CARES = config.TYPE + "extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"


@pytest.fixture
def dns():
    server = DnsServer({"a.test": ["127.0.0.1"]}, ttl=1)
    yield server
    server.stop()


def cache(dns, name="names", **over):
    return {"name": name, "dns_lookup_family": "V4_ONLY", "dns_min_refresh_rate": "1s", "typed_dns_resolver_config": {
        "name": "cares", "typed_config": {"@type": CARES, "resolvers": [config.address(dns.port)]}}, **over}


def bootstrap(dns, filtered=True, other=None, **over):
    cluster = {"name": "dfp", "connect_timeout": "5s", "lb_policy": "CLUSTER_PROVIDED", "cluster_type": {
        "name": "envoy.clusters.dynamic_forward_proxy", "typed_config": {"@type": CLUSTER, "dns_cache_config": cache(dns, **over)}}}
    dfp = {"name": "envoy.filters.http.dynamic_forward_proxy", "typed_config": {"@type": FILTER, "dns_cache_config": other or cache(dns, **over)}}
    filters = [dfp] if filtered else []
    return config.bootstrap([config.listener("main", [config.hcm([config.route(cluster="dfp", timeout="60s")], http_filters=filters + [config.router()])])],
                            [cluster])


def ask(proxy, host):
    with client.Client(proxy.port()) as c:
        return c.request(host=host)


def stat(proxy, name):
    for line in proxy.admin(f"/stats?filter=^{name}$").text.splitlines():
        return int(line.split(": ")[1])
    return None


@pytest.mark.threads
@pytest.mark.parametrize("filtered", [True, False], ids=["filter", "cluster alone"])
def test_many_at_once(skiff, upstream, dns, filtered):
    """Sixty requests for twenty names, most of which are new, from several threads; the cluster alone resolves as well."""
    server = upstream("a")
    dns.names.update({f"n{i}.test": ["127.0.0.1"] for i in range(20)})
    proxy = skiff(bootstrap(dns, filtered))
    answers = []

    def some(part):
        for i in range(20):
            answers.append(ask(proxy, f"n{(i * 7 + part) % 20}.test:{server.port}").status)
    threads = [threading.Thread(target=some, args=(part,)) for part in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 60
    assert stat(proxy, "cluster.dfp.membership_total") == 20
    assert ask(proxy, f"nobody.test:{server.port}").status == 503


@pytest.mark.parametrize("filtered", [True, False], ids=["filter", "cluster alone"])
def test_a_name_moves(skiff, dns, upstream, filtered):
    same = upstream("here").port
    there = At("there", "127.0.0.2", same)
    try:
        proxy = skiff(bootstrap(dns, filtered))
        assert ask(proxy, f"a.test:{same}").text == "here"
        dns.names["a.test"] = ["127.0.0.2"]
        wait_for(lambda: ask(proxy, f"a.test:{same}").text == "there", "the name to move")
    finally:
        there.stop()


class At(Upstream):
    """An upstream on an address of its own and a port that is known."""

    def __init__(self, name, host, port):
        super().__init__(name, host=host)
        self.sock.close()
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((host, port))
        self.sock.listen(16)
        self.port = port
        threading.Thread(target=self.accept, daemon=True).start()


def test_an_unused_name_goes(skiff, upstream, dns):
    server = upstream("a")
    proxy = skiff(bootstrap(dns, host_ttl="1s"))
    assert ask(proxy, f"a.test:{server.port}").status == 200
    wait_for(lambda: stat(proxy, "dns_cache.names.host_removed") == 1 and stat(proxy, "cluster.dfp.membership_total") == 0, "the name to go")
    assert ask(proxy, f"a.test:{server.port}").status == 200


def test_a_client_leaves_before_the_answer(skiff, upstream, dns):
    server = upstream("a")
    proxy = skiff(bootstrap(dns, dns_query_timeout="60s"))
    for _ in range(3):
        with client.Client(proxy.port()) as c:
            c.send(client.request_bytes("GET", "/", [], None, f"silent.test:{server.port}", "HTTP/1.1"))
            wait_for(lambda: "silent.test" in dns.asked, "the question")
            assert ask(proxy, f"a.test:{server.port}").status == 200
    wait_for(lambda: stat(proxy, "http.main.downstream_rq_active") == 0, "nothing to be active")


def test_contradicting_caches_are_refused(skiff_binary, dns):
    proxy = Proxy(skiff_binary, bootstrap(dns, other=cache(dns, max_hosts=5)), wait=False)
    assert proxy.wait_end() != 0
    assert "config specified DNS cache 'names' with different settings" in proxy.log()
    proxy.stop(check=False)
