"""UDP listeners and udp_proxy: the same datagrams through Skiff and through the real Envoy; what the client sees, the access log and the
statistics must agree."""
import json
import os
import socket
import threading

import pytest

from harness import config
from harness.ports import udp_ports
from harness.proxy import Proxy, validate
from harness.wait import wait_for

UDP = config.TYPE + "extensions.filters.udp.udp_proxy.v3."
LOG = {"session": "%DYNAMIC_METADATA(udp.proxy.session)%", "type": "%ACCESS_LOG_TYPE%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
       "direct": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "local": "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "host": "%UPSTREAM_HOST%",
       "upstream": "%UPSTREAM_REMOTE_ADDRESS%", "own": "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "cluster": "%UPSTREAM_CLUSTER%",
       "flags": "%RESPONSE_FLAGS%", "rx": "%BYTES_RECEIVED%", "tx": "%BYTES_SENT%", "protocol": "%PROTOCOL%", "code": "%RESPONSE_CODE%",
       "details": "%RESPONSE_CODE_DETAILS%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"}
PROXY_LOG = {"proxy": "%DYNAMIC_METADATA(udp.proxy.proxy)%", "type": "%ACCESS_LOG_TYPE%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS%"}
QUIET = 0.3  # how long nothing must come; what is late is a failure of the comparison, not of time


class Server:
    """A UDP server; `answer(data, peer)` gives the datagrams to send back."""

    def __init__(self, answer, host="127.0.0.1"):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((host, 0))
        self.port, self.answer = self.sock.getsockname()[1], answer
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(65536)
                for out in self.answer(data, peer):
                    self.sock.sendto(out, peer)
            except OSError:
                return


SERVERS = {
    "echo": lambda data, peer: [data], "one": lambda data, peer: [b"one"], "two": lambda data, peer: [b"two"], "mute": lambda data, peer: [],
    "sizes": lambda data, peer: [b"s" * int(data)], "many": lambda data, peer: [b"%d" % i for i in range(int(data))],
    "length": lambda data, peer: [b"%d" % len(data)], "peer": lambda data, peer: [peer[0].encode()],
}


def route(cluster):
    return {"action": {"name": "route", "typed_config": {"@type": UDP + "Route", "cluster": cluster}}}


def udp(name, directory, cluster="echo", **over):
    base = {"@type": UDP + "UdpProxyConfig", "stat_prefix": name, "matcher": {"on_no_match": route(cluster)},
            "access_log": [config.file_log(os.path.join(directory, name + ".log"), LOG)],
            "proxy_access_log": [config.file_log(os.path.join(directory, name + ".proxy.log"), PROXY_LOG)]}
    return {"name": "envoy.filters.udp_listener.udp_proxy", "typed_config": config.merge(base, over)}


def listener(name, filters, host="127.0.0.1", **over):
    base = {"name": name, "address": {"socket_address": {"protocol": "UDP", "address": host, "port_value": 0}}, "stat_prefix": name,
            "listener_filters": filters}
    return config.merge(base, over)


# --- clients: what they saw ---

def client(port, host="127.0.0.1", source=None):
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    if source:
        sock.bind((source, 0))
    sock.connect((host, port))
    sock.settimeout(30)
    return sock


def ask(*words, **how):
    """Each word has its answer before the next is sent."""
    def run(port):
        with client(port, **how) as sock:
            out = []
            for word in words:
                sock.send(word)
                out.append(sock.recv(65536))
            return out
    return run


def sized(*words):
    return lambda port: [(len(got), got[:8]) for got in ask(*words)(port)]


def told(*words, **how):
    """Nothing comes back."""
    def run(port):
        with client(port, **how) as sock:
            for word in words:
                sock.send(word)
            sock.settimeout(QUIET)
            try:
                return sock.recv(65536)
            except (TimeoutError, ConnectionRefusedError) as error:
                return type(error).__name__
    return run


def dropped_then(*words, last):
    """What is dropped has no answer; the last word does."""
    def run(port):
        with client(port) as sock:
            for word in words:
                sock.send(word)
            sock.send(last)
            return sock.recv(65536)
    return run


def gather(word, count):
    def run(port):
        with client(port) as sock:
            sock.send(word)
            return sorted(sock.recv(65536) for _ in range(count))
    return run


def clients(*sources):
    """One word from each address; the answers."""
    return lambda port: [ask(source.encode(), source=source)(port) for source in sources]


def again_from_one_port(port):
    """Two flows from two ports; each gets its own answers."""
    with client(port) as first, client(port) as second:
        first.send(b"first")
        second.send(b"second")
        out = [second.recv(100), first.recv(100)]
        first.send(b"first again")
        return out + [first.recv(100)]


def which_hosts(port):
    """Which hosts answer 8 datagrams of one flow, each flow's set."""
    with client(port) as sock:
        out = []
        for _ in range(8):
            sock.send(b"x")
            out.append(sock.recv(100))
    return sorted(set(out))


def one_host(port):
    return len(which_hosts(port))


def sticky(port):
    """All flows of one address go to one host."""
    out = set()
    for _ in range(6):
        out.update(ask(b"x")(port))
    return len(out)


def typed(name, kind, **body):
    return {"name": name, "typed_config": {"@type": kind, **body}}


NETWORK = config.TYPE + "extensions.matching.common_inputs.network.v3."
SOURCE_IP, SOURCE_PORT = (typed("in", NETWORK + kind) for kind in ("SourceIPInput", "SourcePortInput"))
DESTINATION_IP, DESTINATION_PORT = (typed("in", NETWORK + kind) for kind in ("DestinationIPInput", "DestinationPortInput"))


def where(predicate, cluster):
    return {"predicate": predicate, "on_match": route(cluster)}


def is_one(data, **value):
    return {"single_predicate": {"input": data, "value_match": value}}


def matching(*rules, otherwise=None):
    out = {"matcher_list": {"matchers": list(rules)}, "on_no_match": route(otherwise) if otherwise else None}
    return {"matcher": out}


def tree(data, kind, otherwise=None, **clusters):
    return {"matcher": {"matcher_tree": {"input": data, kind: {"map": {key: route(cluster) for key, cluster in clusters.items()}}},
                        "on_no_match": route(otherwise) if otherwise else None}}


def ranges(data, otherwise, *v):
    inside = {"@type": "type.googleapis.com/xds.type.matcher.v3.IPMatcher", "range_matchers": [
        {"ranges": [{"address_prefix": ip, "prefix_len": bits}], "on_match": route(cluster)} for ip, bits, cluster in v]}
    return {"matcher": {"matcher_tree": {"input": data, "custom_match": {"name": "ip", "typed_config": inside}}, "on_no_match": route(otherwise)}}


TWO_SOURCES = clients("127.0.0.2", "127.0.0.3")
GRO = {"prefer_gro": True}
NO_GRO = {"prefer_gro": False}
# name, client, udp_proxy fields, listener fields
CASES = [
    ("echo", ask(b"hello"), {}, {}),
    ("echo_twice", ask(b"hello", b"world"), {}, {}),
    ("two_flows", again_from_one_port, {}, {}),
    ("empty", ask(b""), {}, {}),
    ("empty_answer", ask(b"0"), {"cluster": "sizes"}, {}),
    ("longest", sized(b"l" * 1500), {}, {}),
    ("too_long", dropped_then(b"l" * 1501, b"l" * 9000, last=b"short"), {}, {}),
    ("longest_set", sized(b"l" * 100), {}, {"udp_listener_config": {"downstream_socket_config": {"max_rx_datagram_size": 100}}}),
    ("too_long_set", dropped_then(b"l" * 101, last=b"short"), {},
     {"udp_listener_config": {"downstream_socket_config": {"max_rx_datagram_size": 100}}}),
    ("long_allowed", ask(b"l" * 60000), {"cluster": "length"},
     {"udp_listener_config": {"downstream_socket_config": {"max_rx_datagram_size": 65535}}}),
    ("long_gro", ask(b"l" * 1600), {"cluster": "length"}, {"udp_listener_config": {"downstream_socket_config": GRO}}),
    ("answer_longest", sized(b"1500"), {"cluster": "sizes"}, {}),
    ("answer_long", sized(b"9000"), {"cluster": "sizes"}, {}),
    ("answer_no_gro", sized(b"1500"), {"cluster": "sizes", "upstream_socket_config": NO_GRO}, {}),
    ("answer_too_long", told(b"1501"), {"cluster": "sizes", "upstream_socket_config": NO_GRO}, {}),
    ("answer_set", sized(b"3000"), {"cluster": "sizes", "upstream_socket_config": {"max_rx_datagram_size": 3000, **NO_GRO}}, {}),
    ("answer_too_long_set", told(b"3001"), {"cluster": "sizes", "upstream_socket_config": {"max_rx_datagram_size": 3000, **NO_GRO}}, {}),
    ("answer_small_gro", sized(b"3000"), {"cluster": "sizes", "upstream_socket_config": {"max_rx_datagram_size": 100}}, {}),
    ("many_answers", gather(b"40", 40), {"cluster": "many"}, {}),
    ("one_answer", gather(b"1", 1), {"cluster": "many"}, {}),
    ("no_answer", told(b"x"), {"cluster": "mute"}, {}),
    ("dead", told(b"x"), {"cluster": "dead"}, {}),
    ("no_hosts", told(b"x"), {"cluster": "empty"}, {}),
    ("full", told(b"x"), {"cluster": "full"}, {}),
    ("full_twice", told(b"x", b"y"), {"cluster": "full"}, {}),
    ("unknown_cluster", told(b"x"), {"cluster": "nobody"}, {}),
    ("unknown_cluster_thrice", told(b"x", b"y", b"z"), {"cluster": "nobody"}, {}),
    ("no_route", told(b"x"), {"matcher": {"on_no_match": None}}, {}),
    ("cluster_field", ask(b"x"), {"matcher": None, "old": "echo"}, {}),
    ("cluster_field_unknown", told(b"x"), {"matcher": None, "old": "nobody"}, {}),
    ("stat_prefix", ask(b"x"), {"stat_prefix": "other"}, {}),
    ("idle_short", ask(b"x"), {"idle_timeout": "0.05s"}, {}),
    ("sticky_flow", one_host, {"cluster": "both"}, {}),
    ("hash_source", sticky, {"cluster": "ring", "hash_policies": [{"source_ip": True}]}, {}),
    ("hash_key", sticky, {"cluster": "ring", "hash_policies": [{"key": "k"}]}, {}),
    ("hash_source_hosts", clients(*[f"127.0.0.{i}" for i in range(2, 10)]), {"cluster": "ring", "hash_policies": [{"source_ip": True}]}, {}),
    ("hash_key_hosts", clients("127.0.0.2", "127.0.0.3"), {"cluster": "ring", "hash_policies": [{"key": "another key"}]}, {}),
    ("maglev_hosts", clients(*[f"127.0.0.{i}" for i in range(2, 10)]), {"cluster": "maglev", "hash_policies": [{"source_ip": True}]}, {}),
    ("per_packet", which_hosts, {"cluster": "both", "use_per_packet_load_balancing": True}, {}),
    ("per_packet_echo", ask(b"a", b"b"), {"use_per_packet_load_balancing": True}, {}),
    ("per_packet_unknown", told(b"a", b"b"), {"cluster": "nobody", "use_per_packet_load_balancing": True}, {}),
    ("per_packet_no_hosts", told(b"a", b"b"), {"cluster": "empty", "use_per_packet_load_balancing": True}, {}),
    ("per_packet_full", told(b"a"), {"cluster": "full", "use_per_packet_load_balancing": True}, {}),
    ("proxy_address", ask(b"x", source="127.0.0.7"), {"cluster": "peer"}, {}),
    ("original_source", ask(b"x", source="127.0.0.7"), {"cluster": "peer", "use_original_src_ip": True}, {}),
    ("two_addresses", ask(b"x"), {}, {"additional_addresses": [
        {"address": {"socket_address": {"protocol": "UDP", "address": "127.0.0.2", "port_value": 0}}}]}),
    ("any_address", ask(b"x", host="127.0.0.1"), {}, {"host": "0.0.0.0"}),
    ("any_address_other", ask(b"x", host="127.0.0.9"), {}, {"host": "0.0.0.0"}),
    ("ipv6", ask(b"x", host="::1"), {}, {"host": "::1"}),
    ("any_ipv6", ask(b"x", host="::1"), {}, {"host": "::"}),
    ("mapped", ask(b"x", host="127.0.0.1"), {}, {"host": "::", "address": {"socket_address": {"ipv4_compat": True}}}),
    ("no_filter", told(b"x"), None, {"listener_filters": []}),
    ("socket_option", ask(b"x"), {}, {"socket_options": [{"level": 1, "name": 8, "int_value": 65536, "state": "STATE_PREBIND",
                                                          "type": {"datagram": {}}},
                                                         {"level": 6, "name": 1, "int_value": 1, "state": "STATE_PREBIND", "type": {"stream": {}}}]}),
    ("match_source", TWO_SOURCES, matching(where(is_one(SOURCE_IP, exact="127.0.0.2"), "one"), otherwise="two"), {}),
    ("match_prefix", TWO_SOURCES, matching(where(is_one(SOURCE_IP, prefix="127.0.0."), "one"), otherwise="two"), {}),
    ("match_suffix", TWO_SOURCES, matching(where(is_one(SOURCE_IP, suffix=".3"), "one"), otherwise="two"), {}),
    ("match_first", TWO_SOURCES, matching(where(is_one(SOURCE_IP, prefix="127."), "one"), where(is_one(SOURCE_IP, exact="127.0.0.3"), "two")), {}),
    ("match_not", TWO_SOURCES, matching(where({"not_matcher": is_one(SOURCE_IP, exact="127.0.0.2")}, "one"), otherwise="two"), {}),
    ("match_or", TWO_SOURCES, matching(where({"or_matcher": {"predicate": [is_one(SOURCE_IP, exact="1.2.3.4"), is_one(SOURCE_IP, suffix=".3")]}},
                                             "one"), otherwise="two"), {}),
    ("match_and", TWO_SOURCES, matching(where({"and_matcher": {"predicate": [is_one(SOURCE_IP, prefix="127"), is_one(SOURCE_IP, suffix=".3")]}},
                                              "one"), otherwise="two"), {}),
    ("match_destination", ask(b"x"), matching(where(is_one(DESTINATION_IP, exact="127.0.0.1"), "one"), otherwise="two"), {}),
    ("match_regex", TWO_SOURCES, matching(where(is_one(SOURCE_IP, safe_regex={"google_re2": {}, "regex": ".*[3-9]"}), "one"), otherwise="two"), {}),
    ("match_port", ask(b"x"), matching(where(is_one(SOURCE_PORT, safe_regex={"google_re2": {}, "regex": "[0-9]+"}), "one"), otherwise="two"), {}),
    ("match_destination_port", ask(b"x"), matching(where(is_one(DESTINATION_PORT, exact="1"), "one"), otherwise="two"), {}),
    ("match_nothing", told(b"x"), matching(where(is_one(SOURCE_IP, exact="1.2.3.4"), "one")), {}),
    ("match_unknown", told(b"x"), matching(where(is_one(SOURCE_IP, prefix="127"), "nobody"), otherwise="two"), {}),
    ("match_map", TWO_SOURCES, tree(SOURCE_IP, "exact_match_map", "echo", **{"127.0.0.2": "one", "127.0.0.3": "two"}), {}),
    ("match_map_else", TWO_SOURCES, tree(SOURCE_IP, "exact_match_map", "echo", **{"127.0.0.2": "one"}), {}),
    ("match_prefixes", TWO_SOURCES, tree(SOURCE_IP, "prefix_match_map", "echo", **{"127": "one", "127.0.0.3": "two"}), {}),
    ("match_ranges", TWO_SOURCES, ranges(SOURCE_IP, "echo", ("127.0.0.0", 8, "one"), ("127.0.0.3", 32, "two")), {}),
    ("match_per_packet", TWO_SOURCES, {**matching(where(is_one(SOURCE_IP, suffix=".2"), "one"), otherwise="two"),
                                       "use_per_packet_load_balancing": True}, {}),
    ("freebind", ask(b"x"), {}, {"freebind": True}),
    ("transparent", ask(b"x"), {}, {"transparent": True}),
]
NO_SESSION = ("no_hosts", "unknown_cluster", "no_route", "cluster_field_unknown", "match_nothing", "match_unknown", "per_packet_unknown", "per_packet_no_hosts", "no_filter")
LOOSE = ("_ms", "membership", "circuit_breakers", "update_", "upstream_cx_length", "max_host_weight", "version", "assignment", "lb_recalculate",
         "warming", "ring_hash", "maglev_lb")


def start(binary, listeners, every_cluster, **more):
    """A proxy whose listeners have ports that are theirs alone."""
    with udp_ports() as port:
        for one in listeners:
            one["address"]["socket_address"]["port_value"] = port()
        return Proxy(binary, config.bootstrap(listeners, every_cluster), **more)


class Run:
    """One proxy with all the listeners."""

    def __init__(self, binary, ports, directory, cases, concurrency):
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        listeners = [self.listener(name, fields, dict(over)) for name, _, fields, over in cases]
        self.proxy = start(binary, listeners, clusters(ports), directory=directory, concurrency=concurrency)

    def listener(self, name, fields, over):
        if fields is None:
            return listener(name, [], **over)
        fields = {"idle_timeout": "0.4s", **fields}
        cluster, old = fields.pop("cluster", "echo"), fields.pop("old", None)
        one = udp(name, self.directory, cluster, **fields)
        if old:
            one["typed_config"]["cluster"] = old
        return listener(name, [one], **over)

    def stats(self):
        every = self.proxy.stats(r"^(udp|cluster|listener)\.")
        return {k: v for k, v in every.items() if not any(word in k for word in LOOSE) and not k.startswith("listener.admin") and ".worker_" not in k}

    def log(self, name, suffix=".log"):
        try:
            with open(os.path.join(self.directory, name + suffix), encoding="utf-8") as file:
                return [json.loads(line) for line in file]
        except FileNotFoundError:
            return []

    def idle(self):
        return all(v == 0 for v in self.proxy.stats(r"\.downstream_sess_active$").values())

    def run(self, name, one):
        before = self.stats()
        seen = one(self.proxy.port(name))
        wait_for(self.idle, "sessions to end", 20)
        if not name.startswith(NO_SESSION):
            wait_for(lambda: self.log(name), f"{name}'s log", 20)
        return seen, before


def clusters(ports):
    out = [config.cluster(name, [ports[name]]) for name in SERVERS]
    both = [ports["one"], ports["two"]]
    out += [config.cluster("empty", []), config.cluster("dead", [ports["closed"]]), config.cluster("both", both),
            config.cluster("ring", both, lb_policy="RING_HASH"), config.cluster("maglev", both, lb_policy="MAGLEV"),
            config.cluster("full", [ports["echo"]], circuit_breakers={"thresholds": [{"max_connections": 0}]})]
    return out


@pytest.fixture(scope="module")
def ports():
    servers = {name: Server(answer) for name, answer in SERVERS.items()}
    closed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    closed.bind(("127.0.0.1", 0))
    out = {name: server.port for name, server in servers.items()}
    out["closed"] = closed.getsockname()[1]
    closed.close()
    yield out
    for server in servers.values():
        server.sock.close()


@pytest.fixture(scope="module")
def runs(skiff_binary, envoy_binary, ports, tmp_path_factory, concurrency):
    folder = tmp_path_factory.mktemp("udp")
    made = [Run(binary, ports, str(folder / which), CASES, concurrency) for which, binary in (("skiff", skiff_binary), ("envoy", envoy_binary))]
    yield made
    made[1].proxy.stop(check=False)
    made[0].proxy.stop()


def changes(run, before):
    after = run.stats()
    return {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}


def sorted_log(run, name):
    lines = run.log(name)
    for line in lines:
        if name == "original_source":  # Envoy leaves the socket unbound and gives each datagram its source
            line.pop("own")
        if name in ("sticky_flow", "per_packet"):  # each worker has its own turn
            line["host"] = line["upstream"] = "one of both"
    return sorted(lines, key=json.dumps)


@pytest.mark.parametrize("name,one", [(case[0], case[1]) for case in CASES], ids=[case[0] for case in CASES])
def test_as_envoy(runs, name, one):
    skiff, envoy = runs
    there, before_there = envoy.run(name, one)
    here, before_here = skiff.run(name, one)
    assert here == there
    wait_for(lambda: len(skiff.log(name)) == len(envoy.log(name)), "as many log lines", 10)
    assert sorted_log(skiff, name) == sorted_log(envoy, name)
    assert changes(skiff, before_here) == changes(envoy, before_there)
    skiff.proxy.check_health()


def test_names_of_statistics(runs):
    names = [sorted(n for n in run.proxy.stats(r"^(udp\.|cluster\..*\.udp\.|listener\..*\.udp\.)")) for run in runs]
    assert names[0] == names[1]


# --- updates: the listener comes from a file ---

class Late:
    """Echoes, remembers who spoke, and speaks to all of them later."""

    def __init__(self):
        self.peers, self.server = [], Server(self.answer)

    def answer(self, data, peer):
        if peer not in self.peers:
            self.peers.append(peer)
        return [data]

    def say(self, data):
        for peer in self.peers:
            self.server.sock.sendto(data, peer)


class Updated:
    """One proxy whose listener `u` is in a file."""

    def __init__(self, binary, directory, server, listeners, concurrency):
        self.directory = str(directory)
        os.makedirs(os.path.join(self.directory, "run"))
        self.write(listeners)
        path = {"path_config_source": {"path": self.path(), "watched_directory": {"path": self.directory}}}
        body = config.bootstrap([], [config.cluster("echo", [server.port])], node={"id": "n", "cluster": "c"},
                                dynamic_resources={"lds_config": path})
        self.proxy = Proxy(binary, body, directory=os.path.join(self.directory, "run"), concurrency=concurrency, args=["--drain-time-s", "5"])
        self.proxy.wait_stat("listener_manager.total_listeners_active", 1)

    def path(self):
        return os.path.join(self.directory, "lds.json")

    def write(self, listeners):
        body = {"resources": [{"@type": config.TYPE + "config.listener.v3.Listener", **one} for one in listeners]}
        with open(self.path() + ".new", "w", encoding="utf-8") as file:
            json.dump(body, file)
        os.rename(self.path() + ".new", self.path())

    def update(self, listeners, stat, value):
        self.write(listeners)
        self.proxy.wait_stat("listener_manager." + stat, value)


def heard(sock, wait=QUIET):
    sock.settimeout(wait)
    try:
        return sock.recv(100)
    except (TimeoutError, ConnectionRefusedError) as error:
        return type(error).__name__


def through_updates(run, late, make):
    """What a client hears while its listener changes, with the statistics of then (Envoy's of an old version stay while it drains)."""
    seen = []

    def note(what, version):
        names = rf"^(udp\.{version}\.downstream_sess_(total|active)|listener_manager\.listener_(added|modified|removed))"
        seen.append((what, {k: v for k, v in run.proxy.stats(names).items() if v}))
    port = run.proxy.port("u")
    with client(port) as sock:
        sock.send(b"first")
        note(heard(sock, 20), "v1")
        run.update([make("v1"), make("more")], "listener_added", 2)
        late.say(b"kept")
        note(heard(sock, 20), "v1")
        run.update([make("v2"), make("more")], "listener_modified", 1)
        wait_for(lambda: run.proxy.stat("udp.v1.downstream_sess_active") in (0, None), "the old sessions to end")
        late.say(b"lost")
        note(heard(sock), "v2")
    with client(run.proxy.port("u")) as sock:
        sock.send(b"second")
        note(heard(sock, 20), "v2")
        run.update([make("more")], "listener_removed", 1)
        wait_for(lambda: run.proxy.stat("udp.v2.downstream_sess_active") in (0, None), "the sessions to end")
        late.say(b"lost")
        note(heard(sock), "none")
    return seen


def test_updates(skiff_binary, envoy_binary, tmp_path, concurrency):
    def of(directory, ports):
        return lambda prefix: listener("u" if prefix.startswith("v") else prefix, [udp(prefix, str(directory))], stat_prefix="l",
                                       address={"socket_address": {"port_value": ports[prefix.startswith("v")]}})
    seen = []
    for which, binary in (("skiff", skiff_binary), ("envoy", envoy_binary)):
        with udp_ports() as port:
            make, late = of(tmp_path / which, [port(), port()]), Late()
            run = Updated(binary, tmp_path / which, late.server, [make("v1")], concurrency)
            seen.append(through_updates(run, late, make))
        run.proxy.stop(check=which == "skiff")
        late.server.sock.close()
    assert seen[0] == seen[1]


# --- the proxy's own log, and sessions over clusters that change ---

def test_proxy_log(skiff_binary, envoy_binary, ports, tmp_path, concurrency):
    """One line a worker at the end; Envoy's each tell the sums of the process, Skiff's the sums so far: the largest agree."""
    largest = []
    for which, binary in (("skiff", skiff_binary), ("envoy", envoy_binary)):
        run = Run(binary, ports, str(tmp_path / which), [("p", None, {"idle_timeout": "60s"}, {})], concurrency)
        assert ask(b"some", b"words")(run.proxy.port("p")) == [b"some", b"words"]
        run.proxy.stop(check=which == "skiff")
        lines = run.log("p", ".proxy.log")
        assert len(lines) == concurrency and len(run.log("p")) == 1
        assert {(line["type"], line["remote"]) for line in lines} == {("NotSet", None)}
        largest.append({key: max(line["proxy"][key] for line in lines) for key in lines[0]["proxy"]})
    assert largest[0] == largest[1]


def test_flows_keep_their_worker(skiff_binary, ports, tmp_path):
    """With four workers each flow has one session, whatever the number of its datagrams."""
    run = Run(skiff_binary, ports, str(tmp_path), [("w", None, {"idle_timeout": "60s"}, {})], 4)
    port = run.proxy.port("w")
    socks = [client(port) for _ in range(64)]
    for word in (b"1", b"2", b"3", b"4"):
        for sock in socks:
            sock.send(word)
            assert sock.recv(100) == word
    assert run.proxy.stat("udp.w.downstream_sess_total") == 64
    assert run.proxy.stat("udp.w.downstream_sess_active") == 64
    for sock in socks:
        sock.close()
    run.proxy.stop()


def test_session_limit(skiff_binary, envoy_binary, ports, tmp_path, concurrency):
    """max_connections of the cluster bounds its sessions."""
    seen = []
    for which, binary in (("skiff", skiff_binary), ("envoy", envoy_binary)):
        listeners = [listener("l", [udp("l", str(tmp_path / which), idle_timeout="60s")])]
        os.makedirs(tmp_path / which)
        few = config.cluster("echo", [ports["echo"]], circuit_breakers={"thresholds": [{"max_connections": 5}]})
        proxy = start(binary, listeners, [few], directory=str(tmp_path / which), concurrency=concurrency)
        socks = [client(proxy.port("l")) for _ in range(8)]
        answers = []
        for number, sock in enumerate(socks):
            sock.send(b"x")
            answers.append(heard(sock, 20 if number < 5 else QUIET))
        stats = proxy.stats(r"^udp\.l\.downstream_sess_(total|active)|upstream_cx_overflow$|circuit_breakers.default.cx_open$")
        seen.append((answers, stats))
        for sock in socks:
            sock.close()
        proxy.stop(check=which == "skiff")
    assert seen[0] == seen[1]


# --- mistakes: both refuse, and Skiff names the field; None: both accept ---

SECOND = {"address": {"socket_address": {"protocol": "UDP", "address": "127.0.0.2", "port_value": 0}}}
SOCKET = "udp_listener_config"
REFUSED = [
    # name, listener fields, udp_proxy fields, what Skiff's message contains
    ("plain", {}, {}, None),
    ("chains", {"filter_chains": [{"filters": []}]}, {}, "1 filter chain(s) specified for connection-less UDP listener"),
    ("default_chain", {"default_filter_chain": {}}, {}, "connection-less UDP listener"),
    ("no_reuse_port", {"enable_reuse_port": False}, {}, "SO_REUSEPORT"),
    ("not_bound", {"bind_to_port": False}, {}, "bind_to_port"),
    ("mixed", {"additional_addresses": [{"address": config.address(0)}]}, {}, "additional_addresses[0].address"),
    ("second", {"additional_addresses": [SECOND]}, {}, None),
    ("datagram_zero", {SOCKET: {"downstream_socket_config": {"max_rx_datagram_size": 0}}}, {}, "max_rx_datagram_size"),
    ("datagram_big", {SOCKET: {"downstream_socket_config": {"max_rx_datagram_size": 65536}}}, {}, "max_rx_datagram_size"),
    ("upstream_datagram_big", {}, {"upstream_socket_config": {"max_rx_datagram_size": 65536}}, "upstream_socket_config.max_rx_datagram_size"),
    ("quic", {SOCKET: {"quic_options": {}}}, {}, "udp_listener_config.quic_options"),
    ("original_dst", {"use_original_dst": True}, {}, None),
    ("balance", {"connection_balance_config": {"exact_balance": {}}}, {}, None),
    ("no_balance", {"connection_balance_config": {}}, {}, "connection_balance_config"),
    ("no_stat_prefix", {}, {"stat_prefix": ""}, "stat_prefix"),
    ("no_route", {}, {"matcher": None}, "route_specifier"),
    ("empty_cluster", {}, {"matcher": None, "cluster": ""}, "cluster"),
    ("empty_route", {}, {"matcher": {"on_no_match": route("")}}, "cluster"),
    ("empty_matcher", {}, {"matcher": {"on_no_match": None}}, None),
    ("unknown_cluster", {}, {"matcher": {"on_no_match": route("nobody")}}, None),
    ("wrong_action", {}, {"matcher": {"on_no_match": {"action": {"name": "x", "typed_config": {"@type": UDP + "UdpProxyConfig"}}}}}, "on_no_match"),
    ("http_input", {}, matching(where(is_one(typed("in", config.TYPE + "type.matcher.v3.HttpRequestHeaderMatchInput", header_name="a"),
                                             exact="x"), "echo")), "input"),
    ("sni_input", {}, matching(where(is_one(typed("in", NETWORK + "ServerNameInput"), exact="x"), "echo")), "input"),
    ("bad_regex", {}, matching(where(is_one(SOURCE_IP, safe_regex={"google_re2": {}, "regex": "("}), "echo")), "regex"),
    ("no_hash", {}, {"hash_policies": [{}]}, "hash_policies[0]"),
    ("hash_false", {}, {"hash_policies": [{"source_ip": False}]}, "source_ip"),
    ("hash_empty", {}, {"hash_policies": [{"key": ""}]}, "key"),
    ("two_hashes", {}, {"hash_policies": [{"source_ip": True}, {"key": "k"}]}, "hash_policies"),
    ("negative_idle", {}, {"idle_timeout": "-1s"}, "idle_timeout"),
    ("no_interval", {}, {"access_log_options": {"access_log_flush_interval": "0s"}}, "access_log_flush_interval"),
    ("flush", {}, {"access_log_options": {"flush_access_log_on_tunnel_connected": True}}, None),
    ("nameless_filter", {}, {"session_filters": [{"name": ""}]}, "session_filters"),
]


@pytest.mark.parametrize("over,fields,text", [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(skiff_binary, envoy_binary, tmp_path, over, fields, text):
    body = config.bootstrap([listener("l", [udp("l", str(tmp_path), **fields)], **over)], [config.cluster("echo", [1])])
    codes = []
    for binary in (envoy_binary, skiff_binary):
        code, output = validate(binary, json.dumps(body), args=["--concurrency", "2"])
        codes.append(code)
    assert codes == ([1, 1] if text else [0, 0]), output
    assert not text or text in output, output


def test_refused_only_here(skiff_binary, tmp_path):
    """What Envoy would do and Skiff does not: told by its path."""
    tunnel = {"proxy_host": "a", "target_host": "b", "default_target_port": 1}
    capsule = {"@type": UDP.replace("v3.", "") + "session.http_capsule.v3.FilterConfig"}
    for field, value in (("tunneling_config", tunnel), ("session_filters", [{"name": "x", "typed_config": capsule}])):
        body = config.bootstrap([listener("l", [udp("l", str(tmp_path), **{field: value})])], [])
        code, output = validate(skiff_binary, json.dumps(body))
        assert code == 1 and f"listeners[0].listener_filters[0].typed_config.{field}" in output, output
