"""Hostile upstream responses, and what is safe.

Each row: name, bytes, verdict. The upstream sends the bytes as its answer to a GET and closes.
  bad      the client gets 502 or 503, or nothing: never the upstream's answer as a whole one
  cut      a whole head, then a body that ends early: the client must be able to tell (the answer is not complete)
  ok       exactly the expected body, once
  safe     either bad or whole, but nothing that could be read in two ways
The same upstream then answers well, and the next client must get that answer.
"""
import re
import threading

import pytest

from harness import client, http1
from harness.wait import wait_for

OK = b"HTTP/1.1 200 OK\r\n"


def answer(fields=b"", body=b"", line=OK):
    return line + fields + b"\r\n" + body


LENGTH = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

LINES = [
    ("nothing at all", b"", "bad"),
    ("only a line end", b"\r\n", "bad"),
    ("text", b"this is not HTTP\r\n\r\n", "bad"),
    ("half a status line", b"HTTP/1.1 20", "bad"),
    ("no status", answer(LENGTH, b"ok", b"HTTP/1.1\r\n"), "bad"),
    ("a status that is a word", answer(LENGTH, b"ok", b"HTTP/1.1 abc OK\r\n"), "bad"),
    ("a status of two digits", answer(LENGTH, b"ok", b"HTTP/1.1 20 OK\r\n"), "bad"),
    ("a status of four digits", answer(LENGTH, b"ok", b"HTTP/1.1 2000 OK\r\n"), "bad"),
    ("a status of 20 digits", answer(LENGTH, b"ok", b"HTTP/1.1 20000000000000000000 OK\r\n"), "bad"),
    ("a negative status", answer(LENGTH, b"ok", b"HTTP/1.1 -200 OK\r\n"), "bad"),
    ("status zero", answer(LENGTH, b"ok", b"HTTP/1.1 000 OK\r\n"), "bad"),
    ("status 99", answer(LENGTH, b"ok", b"HTTP/1.1 099 OK\r\n"), "bad"),
    ("a status with a sign", answer(LENGTH, b"ok", b"HTTP/1.1 +20 OK\r\n"), "bad"),
    ("two spaces before the status", answer(LENGTH, b"ok", b"HTTP/1.1  200 OK\r\n"), "bad"),
    ("a tab before the status", answer(LENGTH, b"ok", b"HTTP/1.1\t200 OK\r\n"), "bad"),
    ("version HTTP/2.0", answer(LENGTH, b"ok", b"HTTP/2.0 200 OK\r\n"), "bad"),
    ("version HTTP/0.9", answer(LENGTH, b"ok", b"HTTP/0.9 200 OK\r\n"), "bad"),
    ("version HTTP/1.9", answer(LENGTH, b"ok", b"HTTP/1.9 200 OK\r\n"), "safe"),
    ("version in small letters", answer(LENGTH, b"ok", b"http/1.1 200 OK\r\n"), "bad"),
    ("another protocol", answer(LENGTH, b"ok", b"ICY 200 OK\r\n"), "bad"),
    ("a reason with a NUL", answer(LENGTH, b"ok", b"HTTP/1.1 200 O\x00K\r\n"), "safe"),
    ("a reason with a bare CR", answer(LENGTH, b"ok", b"HTTP/1.1 200 O\rK\r\n"), "bad"),
    ("a reason of 100 kB", answer(LENGTH, b"ok", b"HTTP/1.1 200 " + b"a" * 100000 + b"\r\n"), "safe"),
    ("a bare LF after the status line", answer(LENGTH, b"ok", b"HTTP/1.1 200 OK\n"), "safe"),
    ("a request instead", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "bad"),
    ("an endless status line", b"HTTP/1.1 200 " + b"a" * 2000000, "bad"),
]

HEADERS = [
    ("a space in a name", answer(LENGTH + b"bad name: 1\r\n", b"ok"), "bad"),
    ("a space before the colon", answer(b"Content-Length : 2\r\n", b"ok"), "bad"),
    ("no colon", answer(LENGTH + b"nocolon\r\n", b"ok"), "bad"),
    ("an empty name", answer(LENGTH + b": 1\r\n", b"ok"), "bad"),
    ("a NUL in a name", answer(LENGTH + b"x\x00y: 1\r\n", b"ok"), "bad"),
    ("a NUL in a value", answer(LENGTH + b"x: a\x00b\r\n", b"ok"), "bad"),
    ("a bare CR in a value", answer(LENGTH + b"x: a\rb\r\n", b"ok"), "bad"),
    ("a bare CR and a header", answer(LENGTH + b"x: a\rset-cookie: evil=1\r\n", b"ok"), "bad"),
    ("an escape byte in a value", answer(LENGTH + b"x: a\x1bb\r\n", b"ok"), "bad"),
    ("a folded header", answer(LENGTH + b"x: a\r\n b\r\n", b"ok"), "bad"),
    ("a pseudo-header", answer(LENGTH + b":status: 500\r\n", b"ok"), "bad"),
    ("ten thousand headers", answer(LENGTH + b"".join(b"x-%d: 1\r\n" % n for n in range(10000)), b"ok"), "bad"),
    ("a header of a megabyte", answer(LENGTH + b"x: " + b"a" * 1000000 + b"\r\n", b"ok"), "bad"),
    ("headers without an end", OK + b"x: y\r\n" * 100000, "bad"),
    ("a head that ends early", OK + LENGTH, "bad"),
]

FRAMING = [
    ("both lengths", answer(b"Content-Length: 3\r\n" + CHUNKED, b"2\r\nok\r\n0\r\n\r\n"), "bad"),
    ("both lengths, other order", answer(CHUNKED + b"Content-Length: 3\r\n", b"2\r\nok\r\n0\r\n\r\n"), "bad"),
    ("differing lengths", answer(LENGTH + b"Content-Length: 3\r\n", b"okk"), "bad"),
    ("equal lengths twice", answer(LENGTH + LENGTH, b"ok"), "safe"),
    ("a length list", answer(b"Content-Length: 2, 3\r\n", b"okk"), "bad"),
    ("a negative length", answer(b"Content-Length: -2\r\n", b"ok"), "bad"),
    ("a length with a sign", answer(b"Content-Length: +2\r\n", b"ok"), "bad"),
    ("a length that is a word", answer(b"Content-Length: two\r\n", b"ok"), "bad"),
    ("an empty length", answer(b"Content-Length:\r\n", b"ok"), "bad"),
    ("a length over 64 bits", answer(b"Content-Length: 18446744073709551618\r\n", b"ok"), "bad"),
    ("a length of an exabyte", answer(b"Content-Length: 1152921504606846976\r\n", b"ok"), "cut"),
    ("an unknown coding", answer(b"Transfer-Encoding: cow\r\n", b"ok"), "bad"),
    ("coding gzip", answer(b"Transfer-Encoding: gzip\r\n", b"ok"), "bad"),
    ("chunked not last", answer(b"Transfer-Encoding: chunked, gzip\r\n", b"2\r\nok\r\n0\r\n\r\n"), "bad"),
    ("chunked twice", answer(CHUNKED + CHUNKED, b"2\r\nok\r\n0\r\n\r\n"), "bad"),
    ("an odd coding", answer(b"Transfer-Encoding: xchunked\r\n", b"2\r\nok\r\n0\r\n\r\n"), "bad"),
    ("coding behind a vertical tab", answer(b"Transfer-Encoding: \x0bchunked\r\n", b"2\r\nok\r\n0\r\n\r\n"), "bad"),
    ("HTTP/1.0 and chunked", answer(CHUNKED, b"2\r\nok\r\n0\r\n\r\n", b"HTTP/1.0 200 OK\r\n"), "safe"),
]

BODIES = [
    ("a body that ends early", answer(b"Content-Length: 10\r\n", b"abc"), "cut"),
    ("no body", answer(b"Content-Length: 10\r\n"), "cut"),
    ("chunks that end early", answer(CHUNKED, b"5\r\nabc"), "cut"),
    ("no last chunk", answer(CHUNKED, b"3\r\nabc\r\n"), "cut"),
    ("the last chunk without its end", answer(CHUNKED, b"3\r\nabc\r\n0\r\n"), "cut"),
    ("a bad chunk size", answer(CHUNKED, b"3\r\nabc\r\nzz\r\n"), "cut"),
    ("a chunk size that wraps", answer(CHUNKED, b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n"), "cut"),
    ("a chunk longer than its size", answer(CHUNKED, b"3\r\nabcd\r\n0\r\n\r\n"), "cut"),
    ("a negative chunk size", answer(CHUNKED, b"-3\r\nabc\r\n0\r\n\r\n"), "cut"),
    ("a bare LF after a chunk size", answer(CHUNKED, b"3\nabc\r\n0\r\n\r\n"), "cut"),
    ("a bare CR after a chunk size", answer(CHUNKED, b"3\rabc\r\n0\r\n\r\n"), "cut"),
    ("a bare LF after chunk data", answer(CHUNKED, b"3\r\nabc\n0\r\n\r\n"), "cut"),
    ("a bad trailer", answer(CHUNKED, b"2\r\nok\r\n0\r\nbad name: 1\r\n\r\n"), "cut"),
    ("a folded trailer", answer(CHUNKED, b"2\r\nok\r\n0\r\nx: 1\r\n 2\r\n\r\n"), "cut"),
    ("trailers of a megabyte", answer(CHUNKED, b"2\r\nok\r\n0\r\nx: " + b"a" * 1000000 + b"\r\n\r\n"), "cut"),
    ("bytes after the body", answer(LENGTH, b"okEXTRA"), "ok"),
    ("a whole second answer", answer(LENGTH, b"ok") + answer(b"Content-Length: 4\r\n", b"evil"), "ok"),
    ("bytes after the last chunk", answer(CHUNKED, b"2\r\nok\r\n0\r\n\r\nEXTRA"), "ok"),
    ("body until the end", answer(b"", b"ok"), "ok"),
    ("an answer of HTTP/1.0", answer(b"", b"ok", b"HTTP/1.0 200 OK\r\n"), "ok"),
]

STATUSES = [
    ("a hundred 100s", b"HTTP/1.1 100 Continue\r\n\r\n" * 100 + answer(LENGTH, b"ok"), "safe"),
    ("100 and nothing", b"HTTP/1.1 100 Continue\r\n\r\n", "bad"),
    ("103 and an answer", b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + answer(LENGTH, b"ok"), "safe"),
    ("a million bytes of 1xx", b"HTTP/1.1 102 Processing\r\nx: " + b"a" * 1000 + b"\r\n\r\n" + (b"HTTP/1.1 102 Processing\r\n\r\n" * 40000), "bad"),
    ("101 unasked", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw bytes", "bad"),
    ("a body on 204", answer(LENGTH, b"ok", b"HTTP/1.1 204 No Content\r\n"), "safe"),
    ("a body on 304", answer(LENGTH, b"ok", b"HTTP/1.1 304 Not Modified\r\n"), "safe"),
    ("chunked on 204", answer(CHUNKED, b"2\r\nok\r\n0\r\n\r\n", b"HTTP/1.1 204 No Content\r\n"), "safe"),
]

ROWS = [(f"{area}: {name}", data, verdict) for area, rows in (
    ("line", LINES), ("header", HEADERS), ("framing", FRAMING), ("body", BODIES), ("status", STATUSES)) for name, data, verdict in rows]


def cases(rows):
    return [pytest.param(*row, id=row[0], marks=pytest.mark.xdist_group("hostile")) for row in rows]


def fetch(pair, method="GET"):
    """(response or None, every byte that came)."""
    with client.Client(pair.proxy.port()) as c:
        c.send(client.request_bytes(method, "/hostile", [("connection", "close")]))
        try:
            response = c.read(method)
        except (http1.Closed, ValueError):
            response = None
        rest = c.at_end() if response is not None else b""
        return response, c.reader.raw, rest


def assert_plain(response, raw):
    """What the client got cannot be read in two ways."""
    head = raw.split(b"\r\n\r\n")[0]
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", head), head[:500]
    assert not re.search(rb"\r(?!\n)", head) and not re.search(rb"\r\n[ \t]", head), head[:500]
    lengths, codings = response.all("content-length"), response.all("transfer-encoding")
    assert len(lengths) + len(codings) <= 1, response
    assert codings in ([], ["chunked"]) and all(re.fullmatch(r"\d+", n) for n in lengths), response


def check_next(pair):
    """Nothing of the bad answer is left over for the next client."""
    pair.upstream.play()
    for _ in range(2):
        response = client.get(pair.proxy.port(), "/next")
        assert (response.status, response.body) == (200, b"a"), response
    pair.check()


def run_row(pair, data, verdict, step):
    pair.ready()
    pair.upstream.play({"raw": data, **step})
    response, raw, rest = fetch(pair)
    pair.check()
    if response is not None:
        assert_plain(response, raw)
        assert rest == b"", f"more than one answer: {rest[:300]!r}"
    if verdict == "bad":
        assert response is None or response.status >= 500, response
    elif verdict == "cut":
        assert response is None or response.status >= 500 or not response.complete, response
    elif verdict == "ok":
        assert response is not None and response.status == 200 and response.body == b"ok" and response.complete, response
    check_next(pair)


@pytest.mark.parametrize("name, data, verdict", cases(ROWS))
def test_hostile(pair, name, data, verdict):
    run_row(pair, data, verdict, {"close": True})


@pytest.mark.parametrize("name, data, verdict", cases([row for row in ROWS if row[2] != "ok"][::3]))
def test_hostile_with_a_reset(pair, name, data, verdict):
    """The same bytes, then RST. What the kernel drops is lost; what comes through must be as safe."""
    run_row(pair, data, "safe" if verdict == "ok" else verdict, {"reset": True})


def test_bytes_on_an_idle_connection(pair):
    """Bytes that nobody asked for, on a pooled connection: it is closed, and the next request gets its own answer."""
    pair.ready()
    sent = threading.Event()
    ended = pair.proxy.stat("cluster.a.upstream_cx_destroy")

    def poison(connection, request):
        connection.answer({}, request, "a")
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        sent.set()
        return True
    pair.upstream.play(poison)
    assert client.get(pair.proxy.port(), "/first").body == b"a"
    pair.upstream.play()
    # Bytes that cross a request on the wire cannot be told from its answer, by any proxy: they must have arrived before it.
    wait_for(lambda: sent.is_set() and pair.proxy.stat("cluster.a.upstream_cx_destroy") > ended,
             "the end of the poisoned connection")
    for _ in range(5):
        assert client.get(pair.proxy.port(), "/next").body == b"a"
    pair.check()


def test_head_with_a_body(pair):
    """A body after the answer to HEAD is not the next answer's beginning."""
    pair.ready()
    pair.upstream.play({"raw": answer(b"Content-Length: 4\r\n", b"evil")})
    with client.Client(pair.proxy.port()) as c:
        response = c.request("HEAD", "/head")
        assert response.status == 200
    check_next(pair)
