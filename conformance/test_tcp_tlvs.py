"""tcp_proxy's proxy_protocol_tlvs: the PROXY header that the upstream gets, from Skiff and from Envoy."""
import base64
import json
import struct

import pytest

from harness import config
from harness.proxy import Proxy, validate
from harness.tcp import connect, tcp
from harness.upstream import Upstream

EXT = config.TYPE + "extensions."
RAW = {"name": "r", "typed_config": {"@type": EXT + "transport_sockets.raw_buffer.v3.RawBuffer"}}
PROXY = [{"name": "p", "typed_config": {"@type": EXT + "filters.listener.proxy_protocol.v3.ProxyProtocol",
                                        "pass_through_tlvs": {"match_type": "INCLUDE_ALL"}}}]

PROXY_MAYBE = [{"name": "p", "typed_config": {**PROXY[0]["typed_config"], "allow_requests_without_proxy_protocol": True}}]


def tlv(kind, value=None, text=None):
    out = {"type": kind}
    if value:
        out["value"] = base64.b64encode(value).decode()
    if text:
        out["format_string"] = {"text_format_source": {"inline_string": text}}
    return out


def transport(**fields):
    return {"name": "x", "typed_config": {"@type": EXT + "transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
                                          "config": fields, "transport_socket": RAW}}


ALL = {"match_type": "INCLUDE_ALL"}
SOCKETS = {"all": transport(version="V2", pass_through_tlvs=ALL), "none": transport(version="V2"), "first": transport(version="V1"),
           "some": transport(version="V2", pass_through_tlvs={"match_type": "INCLUDE", "tlv_type": [0xF1]}, added_tlvs=[tlv(0xF3, b"host")]),
           "plain": None}
TLVS = [tlv(0xF2, text="%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"), tlv(0xF1, b"one"), tlv(0xF4, text="a text")]
POLICIES = ("OVERWRITE_BY_TYPE_IF_EXISTS_OR_ADD", "APPEND_IF_EXISTS_OR_ADD")
HEADER = (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack(">H", 25) + bytes([1, 2, 3, 4, 5, 6, 7, 8]) + struct.pack(">HH", 1, 2)
          + b"\xe1\x00\x02ab" + b"\xf1\x00\x05clien")
BARE = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack(">H", 12) + bytes([1, 2, 3, 4, 5, 6, 7, 8]) + struct.pack(">HH", 1, 2)
WORD = b"the word"


class Side:
    def __init__(self, binary):
        self.got = []
        self.upstream = Upstream("t", handler=self.serve)
        clusters = [config.cluster(name, [self.upstream.port], transport_socket=socket) for name, socket in SOCKETS.items()]
        listeners = []
        for name in SOCKETS:
            listeners += [config.listener(name, [tcp(name, cluster=name, proxy_protocol_tlvs=TLVS)]),
                          config.listener("in_" + name, [tcp(name, cluster=name, proxy_protocol_tlvs=TLVS)], listener_filters=PROXY)]
        for policy in POLICIES:
            listeners.append(config.listener(policy, [tcp(policy, cluster="all", proxy_protocol_tlvs=TLVS, proxy_protocol_tlv_merge_policy=policy)],
                                             listener_filters=PROXY_MAYBE))
        self.proxy = Proxy(binary, config.bootstrap(listeners, clusters))

    def serve(self, connection):
        data = b""
        while not data.endswith(WORD):
            more = connection.sock.recv(1000)
            if not more:
                return
            data += more
        self.got.append(data)
        connection.sock.sendall(b"k")

    def ask(self, name, header):
        with connect(self.proxy.port(name)) as sock:
            own = sock.getsockname()[1]
            sock.sendall(header + WORD)
            assert sock.recv(1) == b"k"
        out = self.got.pop()
        for number in (own, self.proxy.port(name)):
            out = out.replace(struct.pack(">H", number), b"<port>", 1).replace(b" %d" % number, b" <port>", 1)
        return out


@pytest.fixture(scope="module")
def sides(skiff_binary, envoy_binary):
    made = [Side(binary) for binary in (skiff_binary, envoy_binary)]
    yield made
    made[1].proxy.stop(check=False)
    made[0].proxy.stop()
    for side in made:
        side.upstream.stop()


ROWS = [(name, b"") for name in SOCKETS] + [("in_" + name, HEADER) for name in SOCKETS] + [("in_all", BARE)] + [(policy, header) for policy in POLICIES for header in (HEADER, BARE, b"")]


@pytest.mark.parametrize("name,header", ROWS, ids=[f"{name}_{len(header)}" for name, header in ROWS])
def test_header(sides, name, header):
    skiff, envoy = (side.ask(name, header) for side in sides)
    assert skiff == envoy
    sides[0].proxy.check_health()


@pytest.mark.parametrize("entry", [tlv(0xF1), {"type": 256, "value": "YQ=="}, tlv(0xF1, text="%NO_SUCH%")], ids=["nothing", "type", "format"])
def test_refused(skiff_binary, envoy_binary, entry):
    body = config.bootstrap([config.listener("l", [tcp("l", proxy_protocol_tlvs=[entry])])], [config.cluster("echo", [1])])
    codes = [validate(binary, json.dumps(body)) for binary in (envoy_binary, skiff_binary)]
    assert [code for code, _ in codes] == [1, 1], codes
    assert "proxy_protocol_tlvs[0]" in codes[1][1]
