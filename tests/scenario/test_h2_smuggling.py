"""HTTP/2 requests that would become something else in HTTP/1 (and in HTTP/2), and what is safe.

Each row: name, header list, body frames, verdict.
  reject   nothing of it reaches the upstream
  clean    exactly one request reaches the upstream, framed without doubt, with nothing of the attack in it
  safe     either of the two
Every row is sent to an HTTP/1 and to an HTTP/2 upstream; rows of responses come from a hostile HTTP/2 upstream to an
HTTP/1 client. After each row a plain request must still work.
"""
import itertools

import pytest

from harness import client, config, http2
from harness.proxy import Proxy
from harness.upstream import Upstream

EVIL = b"\r\nevil: 1\r\n\r\nGET /evil HTTP/1.1\r\nhost: evil\r\n\r\n"
OPTIONS = config.TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions"
H2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}}


def get(*more, method="GET", path="/x", host="test", scheme="http"):
    return http2.request_fields(method, path, host, more, scheme)


def without(name, fields=None):
    return [f for f in fields or get() if f[0] != name]


NAMES = [
    ("CR LF in a name", get((b"x-a" + EVIL, "b")), None, "reject"),
    ("LF in a name", get((b"x-a\nevil", "b")), None, "reject"),
    ("CR in a name", get((b"x-a\revil", "b")), None, "reject"),
    ("NUL in a name", get((b"x-a\0evil", "b")), None, "reject"),
    ("a colon in a name", get((b"x-a: b", "c")), None, "reject"),
    ("a colon at the end of a name", get((b"x-a:", "c")), None, "reject"),
    ("a space in a name", get((b"x a", "b")), None, "reject"),
    ("a space at the end of a name", get((b"transfer-encoding ", "chunked")), None, "reject"),
    ("a space at the start of a name", get((b" transfer-encoding", "chunked")), None, "reject"),
    ("a tab in a name", get((b"x\ta", "b")), None, "reject"),
    ("capitals in a name", get(("X-Evil", "b")), None, "reject"),
    ("Transfer-Encoding in capitals", get(("Transfer-Encoding", "chunked"), method="POST"), b"0\r\n\r\n", "reject"),
    ("an empty name", get(("", "b")), None, "reject"),
    ("a name of DEL", get((b"x\x7f", "b")), None, "reject"),
    ("a name beyond ASCII", get((b"x\xc3\xa9", "b")), None, "reject"),
    ("a name with a parenthesis", get(("x(evil)", "b")), None, "reject"),
    ("a name with a quote", get(('x"evil', "b")), None, "reject"),
    ("a name with a slash", get(("x/evil", "b")), None, "reject"),
]
VALUES = [
    ("CR LF in a value", get(("x-a", b"b" + EVIL)), None, "reject"),
    ("LF in a value", get(("x-a", b"b\nevil: 1")), None, "reject"),
    ("CR in a value", get(("x-a", b"b\revil: 1")), None, "reject"),
    ("NUL in a value", get(("x-a", b"b\0evil")), None, "reject"),
    ("CR LF alone as a value", get(("x-a", b"\r\n")), None, "reject"),
    ("a space before a value", get(("x-a", " b")), None, "safe"),
    ("a tab after a value", get(("x-a", "b\t")), None, "safe"),
    ("CR LF in a cookie", get(("cookie", b"a=1" + EVIL), ("cookie", "b=2")), None, "reject"),
    ("CR LF in user-agent", get(("user-agent", b"b" + EVIL)), None, "reject"),
    ("CR LF in content-length", get(("content-length", b"0" + EVIL), method="POST"), None, "reject"),
]
PSEUDO = [
    ("CR LF in :path", get(path=b"/x HTTP/1.1" + EVIL), None, "reject"),
    ("a space in :path", get(path="/x HTTP/1.1 y"), None, "reject"),
    ("a tab in :path", get(path="/x\ty"), None, "reject"),
    ("NUL in :path", get(path=b"/x\0y"), None, "reject"),
    ("a path that is a whole request", get(path=b"/x HTTP/1.1\nhost: evil\n\nGET /evil"), None, "reject"),
    ("an empty :path", get(path=""), None, "reject"),
    (":path without a slash", get(path="evil"), None, "reject"),
    (":path that is a URL", get(path="http://evil/x"), None, "reject"),
    (":path * with GET", get(path="*"), None, "reject"),
    ("no :path", without(":path"), None, "reject"),
    ("two :path", get() + [(":path", "/evil")], None, "reject"),
    ("CR LF in :method", get(method=b"GET /evil HTTP/1.1" + EVIL), None, "reject"),
    ("a space in :method", get(method="GET /evil HTTP/1.1"), None, "reject"),
    ("an empty :method", get(method=""), None, "reject"),
    ("no :method", without(":method"), None, "reject"),
    ("two :method", [(":method", "POST")] + get(), None, "reject"),
    ("a colon in :method", get(method="GE:T"), None, "reject"),
    ("CR LF in :authority", get(host=b"test" + EVIL), None, "reject"),
    ("a space in :authority", get(host="test evil"), None, "reject"),
    ("a user in :authority", get(host="evil@test"), None, "reject"),
    ("a path in :authority", get(host="test/evil"), None, "reject"),
    ("two :authority", get() + [(":authority", "evil")], None, "reject"),
    ("CR LF in :scheme", get(scheme=b"http" + EVIL), None, "reject"),
    ("a URL in :scheme", get(scheme="http://evil/x?"), None, "reject"),
    ("no :scheme", without(":scheme"), None, "reject"),
    ("two :scheme", [(":scheme", "https")] + get(), None, "reject"),
    ("an unknown pseudo-header", get() + [(":evil", "1")], None, "reject"),
    (":status in a request", get() + [(":status", "200")], None, "reject"),
    ("a pseudo-header after a field", [f for f in get() if f[0] != ":path"] + [("x-a", "b"), (":path", "/x")], None, "reject"),
    (":protocol without CONNECT", get() + [(":protocol", "websocket")], None, "reject"),
    ("a bare colon as a name", get((":", "b")), None, "reject"),
]
HOST = [
    ("host that differs from :authority", get(("host", "evil")), None, "reject"),
    ("two host fields", without(":authority") + [("host", "test"), ("host", "evil")], None, "reject"),
    ("host with CR LF", without(":authority") + [("host", b"test" + EVIL)], None, "reject"),
    ("host with a comma", without(":authority") + [("host", "test, evil")], None, "safe"),
    ("neither host nor :authority", without(":authority"), None, "reject"),
]
FRAMING = [
    ("transfer-encoding: chunked", get(("transfer-encoding", "chunked"), method="POST"), b"0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n", "reject"),
    ("transfer-encoding: identity", get(("transfer-encoding", "identity"), method="POST"), b"abc", "reject"),
    ("content-length smaller than the body", get(("content-length", "1"), method="POST"), b"aGET /evil HTTP/1.1\r\n\r\n", "cut"),
    ("content-length 0 with a body", get(("content-length", "0"), method="POST"), b"GET /evil HTTP/1.1\r\n\r\n", "safe"),
    ("content-length greater than the body", get(("content-length", "100"), method="POST"), b"abc", "cut"),
    ("content-length without a body", get(("content-length", "100"), method="POST"), None, "reject"),
    ("two content-lengths that differ", get(("content-length", "1"), ("content-length", "2"), method="POST"), b"ab", "reject"),
    ("two content-lengths that agree", get(("content-length", "2"), ("content-length", "2"), method="POST"), b"ab", "safe"),
    ("a list of content-lengths", get(("content-length", "1, 2"), method="POST"), b"ab", "reject"),
    ("content-length +2", get(("content-length", "+2"), method="POST"), b"ab", "reject"),
    ("content-length -1", get(("content-length", "-1"), method="POST"), b"ab", "reject"),
    ("content-length 0x2", get(("content-length", "0x2"), method="POST"), b"ab", "reject"),
    ("an empty content-length", get(("content-length", ""), method="POST"), b"ab", "reject"),
    ("content-length of 30 digits", get(("content-length", "9" * 30), method="POST"), b"ab", "reject"),
    ("content-length with a space", get(("content-length", "2 "), method="POST"), b"ab", "safe"),
    ("connection: close", get(("connection", "close")), None, "reject"),
    ("connection names a field", get(("connection", "x-forwarded-for")), None, "reject"),
    ("keep-alive", get(("keep-alive", "timeout=5")), None, "reject"),
    ("proxy-connection", get(("proxy-connection", "keep-alive")), None, "reject"),
    ("upgrade", get(("upgrade", "websocket")), None, "reject"),
    ("te that is not trailers", get(("te", "gzip")), None, "reject"),
    ("te: trailers, chunked", get(("te", "trailers, chunked")), None, "reject"),
    ("http2-settings", get(("http2-settings", "AAMAAABk")), None, "safe"),
    ("expect with a body", get(("expect", "100-continue"), method="POST"), b"abc", "clean"),
    ("GET with a body", get(), b"GET /evil HTTP/1.1\r\nhost: evil\r\n\r\n", "clean"),
    ("HEAD with a body", get(method="HEAD"), b"GET /evil HTTP/1.1\r\nhost: evil\r\n\r\n", "clean"),
    ("CONNECT with a path", get(method="CONNECT"), None, "reject"),
    ("CONNECT without an authority", [(":method", "CONNECT")], None, "reject"),
    ("CONNECT without a route", [(":method", "CONNECT"), (":authority", "test:80")], None, "reject"),
    ("extended CONNECT that is not configured", get(method="CONNECT") + [(":protocol", "websocket")], None, "reject"),
]
TRAILERS = [
    ("a pseudo-header in trailers", [(":path", "/evil")], "cut"),
    (":status in trailers", [(":status", "200")], "cut"),
    ("CR LF in a trailer", [("x-t", b"1" + EVIL)], "cut"),
    ("capitals in a trailer", [("X-T", "1")], "cut"),
    ("connection in trailers", [("connection", "close")], "cut"),
    ("transfer-encoding in trailers", [("transfer-encoding", "chunked")], "cut"),
    ("content-length in trailers", [("content-length", "5")], "safe"),
    ("host in trailers", [("host", "evil")], "safe"),
]
REQUESTS = NAMES + VALUES + PSEUDO + HOST + FRAMING
SCREENED = {"transfer-encoding", "keep-alive", "proxy-connection", "evil", "x-evil"}


class Stage:
    """A proxy before an HTTP/1 upstream that keeps every byte and an HTTP/2 upstream that keeps every field."""

    def __init__(self, binary, concurrency):
        self.one, self.two = Upstream("one", handler=self.serve), http2.Upstream2("two")
        self.raw, self.rows = [], itertools.count()
        modes = {"allow": {}, "reject": {"headers_with_underscores_action": "REJECT_REQUEST"}, "drop": {"headers_with_underscores_action": "DROP_HEADER"}}
        listeners = [config.listener(f"{target}-{mode}", [config.hcm([config.route("/", target)], stat_prefix=mode, common_http_protocol_options=over)])
                     for target in ("one", "two") for mode, over in modes.items()]
        clusters = [config.cluster("one", [self.one.port]), config.cluster("two", [self.two.port], typed_extension_protocol_options=H2)]
        self.proxy = Proxy(binary, config.bootstrap(listeners, clusters), concurrency=concurrency)

    def serve(self, connection):
        while True:
            request = connection.read_request()
            self.raw.append(request)
            connection.read_body(request)
            connection.answer({"body": "one"}, request, "one")

    def forget(self):
        self.raw.clear()
        self.two.play()

    def begun(self):
        """The requests whose heads came; some are `whole`."""
        return list(self.raw) + list(self.two.requests)

    def plain(self, target):
        with http2.Client(self.proxy.port(f"{target}-allow")) as peer:
            assert peer.request(path="/plain").status == 200
        assert client.get(self.proxy.port(f"{target}-allow"), "/plain").status == 200

    def stop(self):
        self.proxy.stop()
        self.one.stop()
        self.two.stop()


@pytest.fixture(scope="module")
def stage(skiff_binary, concurrency):
    made = Stage(skiff_binary, concurrency)
    yield made
    made.stop()


def one_framing(request):
    """A head that can be read in one way only."""
    names = [n.lower() for n, _ in request.headers]
    assert not ("content-length" in names and "transfer-encoding" in names), request.headers
    assert names.count("content-length") <= 1 and names.count("host") <= 1, request.headers
    assert request.header("transfer-encoding") in (None, "chunked"), request.headers
    assert not SCREENED & (set(names) - {"transfer-encoding"}), request.headers
    assert "/evil" not in request.line and request.path.split("?")[0] in ("/x", "/plain"), request.line
    for name, value in request.headers:
        assert "evil" not in name and not set(name + value) & set("\r\n\0"), (name, value)


def play(stage, target, mode, fields, body, trailers, verdict):
    stage.forget()
    row = f"row-{next(stage.rows)}"  # the upstream may see the end of the row before only now
    fields = fields + [("x-row", row)]
    with http2.Client(stage.proxy.port(f"{target}-{mode}")) as peer:
        stream = peer.open(fields, body is None and trailers is None)
        if body is not None:
            peer.send(http2.data(stream, body, trailers is None))
        if trailers is not None:
            peer.send(http2.headers(stream, trailers))
        message = peer.wait(stream)
        got = message.status if message.reset is None and message.complete else 0
    stage.plain(target)
    begun = [r for r in stage.begun() if r.path != "/plain" and r.header("x-row", row) == row]
    whole = [r for r in begun if r.whole]
    for request in begun:
        one_framing(request)
    if verdict == "reject":
        assert not begun, f"forwarded: {[(r.line, r.headers) for r in begun]}"
        assert got != 200
    elif verdict == "cut":  # the head may be on its way when the body turns out wrong; the request is never whole
        assert not whole and got != 200, f"forwarded whole: {[(r.line, r.headers, r.body) for r in whole]}"
    elif verdict == "clean":
        assert len(whole) == 1 and got == 200
        assert whole[0].body == (body or b"")
    else:
        assert len(begun) <= 1 and not any(b"evil" in r.body for r in begun)
    return begun


@pytest.mark.parametrize("target", ["one", "two"])
@pytest.mark.parametrize("name, fields, body, verdict", REQUESTS, ids=[r[0] for r in REQUESTS])
def test_request(stage, target, name, fields, body, verdict):
    play(stage, target, "allow", fields, body, None, verdict)


@pytest.mark.parametrize("target", ["one", "two"])
@pytest.mark.parametrize("name, trailers, verdict", TRAILERS, ids=[r[0] for r in TRAILERS])
def test_trailers(stage, target, name, trailers, verdict):
    play(stage, target, "allow", get(method="POST"), b"abc", trailers, verdict)


@pytest.mark.parametrize("target", ["one", "two"])
@pytest.mark.parametrize("mode", ["allow", "reject", "drop"])
@pytest.mark.parametrize("name", ["content_length", "x_forwarded_for", "transfer_encoding", "_", "a_b"])
def test_underscores(stage, target, mode, name):
    """Some HTTP/1 servers read a_b as a-b."""
    begun = play(stage, target, mode, get((name, "5"), method="POST"), b"abc", None, "safe" if mode != "reject" else "reject")
    if mode == "reject":
        return
    assert len(begun) == 1 and (begun[0].header(name) is not None) == (mode == "allow")


def answer(*more, status="200"):
    return [(":status", status), *more]


# Answers of an HTTP/2 upstream to an HTTP/1 client: name, header list, body, trailers.
ANSWERS = [
    ("CR LF in a value", answer(("x-a", b"b\r\n\r\nHTTP/1.1 200 OK\r\nevil: 1")), b"", None),
    ("LF in a value", answer(("x-a", b"b\nevil: 1")), b"", None),
    ("NUL in a value", answer(("x-a", b"b\0")), b"", None),
    ("CR LF in a name", answer((b"x-a\r\nevil", "b")), b"", None),
    ("a colon in a name", answer(("x-a: evil", "b")), b"", None),
    ("capitals in a name", answer(("X-Evil", "b")), b"", None),
    ("transfer-encoding", answer(("transfer-encoding", "chunked")), b"0\r\n\r\n", None),
    ("connection", answer(("connection", "close")), b"", None),
    ("CR LF in :status", answer(status=b"200 OK\r\nevil: 1"), b"", None),
    ("a status that is no number", answer(status="abc"), b"", None),
    ("a status of four digits", answer(status="2000"), b"", None),
    ("no status", [("x-a", "b")], b"", None),
    ("two statuses", answer() + [(":status", "200")], b"", None),
    ("a request's pseudo-header", answer() + [(":path", "/")], b"", None),
    ("a pseudo-header after a field", [("x-a", "b"), (":status", "200")], b"", None),
    ("content-length smaller than the body", answer(("content-length", "1")), b"abc", None),
    ("content-length greater than the body", answer(("content-length", "100")), b"abc", None),
    ("two content-lengths", answer(("content-length", "1"), ("content-length", "3")), b"abc", None),
    ("a list of content-lengths", answer(("content-length", "3, 3")), b"abc", None),
    ("content-length +3", answer(("content-length", "+3")), b"abc", None),
    ("status 101 unasked", answer(status="101"), b"abc", None),
    ("a pseudo-header in trailers", answer(), b"abc", [(":status", "200")]),
    ("CR LF in a trailer", answer(), b"abc", [("x-t", b"1\r\n\r\nHTTP/1.1 200 OK\r\n")]),
]


@pytest.mark.parametrize("name, fields, body, trailers", ANSWERS, ids=[r[0] for r in ANSWERS])
def test_answer(stage, name, fields, body, trailers):
    def evil(server, stream, _):
        out = http2.headers(stream, fields, False) + http2.data(stream, body, trailers is None)
        server.send(out + (http2.headers(stream, trailers) if trailers else b""))
        return True
    stage.forget()
    stage.two.play(evil)
    with client.Client(stage.proxy.port("two-allow")) as peer:
        try:
            got = peer.request(path="/x")
        except EOFError:
            got = None
        assert got is None or got.status in (502, 503) or not got.complete, f"passed on: {got}"
        assert b"evil" not in peer.reader.raw.lower()
    stage.plain("two")
