"""Malformed and ambiguous HTTP/1 requests, and what is safe.

Each row: name, bytes, verdict.
  reject   an error answer (or none), the connection closes, the upstream sees nothing of it
  ok       exactly one request reaches the upstream, framed without doubt, and 200 comes back
  safe     either of the two
After each row a plain request must still work.
"""
import re

import pytest

from harness import client, http1
from harness.wait import wait_for

HOST = b"Host: test\r\n"
END = b"\r\n"


def get(line=b"GET / HTTP/1.1\r\n", fields=b"", host=HOST, body=b""):
    return line + host + fields + END + body


def post(fields, body=b""):
    return get(b"POST / HTTP/1.1\r\n", fields, HOST, body)


def show(byte):
    return f"{byte:#04x}"


REQUEST_LINES = [
    ("no method", b" / HTTP/1.1\r\n", "reject"),
    ("no target", b"GET HTTP/1.1\r\n", "reject"),
    ("no version", b"GET /\r\n", "reject"),
    ("only a method", b"GET\r\n", "reject"),
    ("two spaces after the method", b"GET  / HTTP/1.1\r\n", "safe"),
    ("two spaces before the version", b"GET /  HTTP/1.1\r\n", "reject"),
    ("a tab after the method", b"GET\t/ HTTP/1.1\r\n", "reject"),
    ("a tab before the version", b"GET /\tHTTP/1.1\r\n", "reject"),
    ("a space in the target", b"GET /a b HTTP/1.1\r\n", "reject"),
    ("a space at the end", b"GET / HTTP/1.1 \r\n", "reject"),
    ("a space at the start", b" GET / HTTP/1.1\r\n", "reject"),
    ("small letters in the version", b"GET / http/1.1\r\n", "reject"),
    ("version HTTP/1.2", b"GET / HTTP/1.2\r\n", "safe"),
    ("version HTTP/2.0", b"GET / HTTP/2.0\r\n", "reject"),
    ("version HTTP/0.9", b"GET / HTTP/0.9\r\n", "reject"),
    ("version HTTP/3.0", b"GET / HTTP/3.0\r\n", "reject"),
    ("version HTTP/11", b"GET / HTTP/11\r\n", "reject"),
    ("version HTTP/1", b"GET / HTTP/1\r\n", "reject"),
    ("version HTTP/1.", b"GET / HTTP/1.\r\n", "reject"),
    ("version HTTP/1.10", b"GET / HTTP/1.10\r\n", "reject"),
    ("version HTTP/01.1", b"GET / HTTP/01.1\r\n", "reject"),
    ("version HTTP/1.1x", b"GET / HTTP/1.1x\r\n", "reject"),
    ("version ICY", b"GET / ICY/1.1\r\n", "reject"),
    ("version RTSP", b"GET / RTSP/1.0\r\n", "reject"),
    ("method in small letters", b"get / HTTP/1.1\r\n", "safe"),
    ("method with a digit", b"GET1 / HTTP/1.1\r\n", "reject"),
    ("method with a colon", b"GE:T / HTTP/1.1\r\n", "reject"),
    ("method with a slash", b"GE/T / HTTP/1.1\r\n", "reject"),
    ("method with a NUL", b"GE\x00T / HTTP/1.1\r\n", "reject"),
    ("a very long method", b"G" * 20000 + b" / HTTP/1.1\r\n", "reject"),
    ("a target without a slash", b"GET index HTTP/1.1\r\n", "safe"),
    ("a target of two slashes", b"GET // HTTP/1.1\r\n", "safe"),
    ("a NUL in the target", b"GET /a\x00b HTTP/1.1\r\n", "reject"),
    ("a DEL in the target", b"GET /a\x7fb HTTP/1.1\r\n", "reject"),
    ("a bell in the target", b"GET /a\x07b HTTP/1.1\r\n", "reject"),
    ("an escape in the target", b"GET /a\x1bb HTTP/1.1\r\n", "reject"),
    ("a vertical tab in the target", b"GET /a\x0bb HTTP/1.1\r\n", "reject"),
    ("a form feed in the target", b"GET /a\x0cb HTTP/1.1\r\n", "reject"),
    ("a high byte in the target", b"GET /\xff HTTP/1.1\r\n", "safe"),
    ("a fragment in the target", b"GET /a#b HTTP/1.1\r\n", "safe"),
    ("a bare CR in the target", b"GET /a\rb HTTP/1.1\r\n", "reject"),
    ("a bare CR after the version", b"GET / HTTP/1.1\rHost: x\r\n", "reject"),
    ("a bare LF after the version", b"GET / HTTP/1.1\n", "safe"),
    ("CR CR LF after the version", b"GET / HTTP/1.1\r\r\n", "reject"),
    ("absolute form without a host", b"GET http:///x HTTP/1.1\r\n", "reject"),
    ("absolute form with a bad port", b"GET http://test:99999999/ HTTP/1.1\r\n", "safe"),
    ("absolute form with another host", b"GET http://other/ HTTP/1.1\r\n", "safe"),
    ("absolute form, scheme only", b"GET http: HTTP/1.1\r\n", "reject"),
    ("a target of a megabyte", b"GET /" + b"a" * 1000000 + b" HTTP/1.1\r\n", "reject"),
    ("a TLS hello", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n", "reject"),
    ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n", "reject"),
    ("a PROXY line", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "reject"),
    ("a status line", b"HTTP/1.1 200 OK\r\n", "reject"),
    ("an SSH banner", b"SSH-2.0-OpenSSH\r\n", "reject"),
    ("only line ends, many", b"\r\n" * 100, "safe"),
]

NAME_BYTES = [b for b in range(1, 256) if b not in b"!#$%&'*+-.^_`|~:" and not chr(b).isalnum() or b >= 0x80]
HEADER_NAMES = [("a NUL in a name", b"x\x00y: 1\r\n", "reject")] + [
    (f"{show(b)} in a name", b"x" + bytes([b]) + b"y: 1\r\n", "reject")
    for b in NAME_BYTES if b not in b"\n" and (b < 0x30 or b in b";<=>?@[\\]{}" or b in (0x7f, 0x80, 0xa0, 0xff))]
HEADER_NAMES += [
    ("an empty name", b": 1\r\n", "reject"),
    ("only a colon", b":\r\n", "reject"),
    ("a space before the name", b" x: 1\r\n", "reject"),
    ("a tab before the name", b"\tx: 1\r\n", "reject"),
    ("a space before the colon", b"x : 1\r\n", "reject"),
    ("a tab before the colon", b"x\t: 1\r\n", "reject"),
    ("a line without a colon", b"nocolon\r\n", "reject"),
    ("a quoted name", b"\"x\": 1\r\n", "reject"),
    ("a name of 100 kB", b"x" * 100000 + b": 1\r\n", "reject"),
    ("a pseudo-header", b":path: /other\r\n", "reject"),
    ("a pseudo-header for the method", b":method: PUT\r\n", "reject"),
    ("a pseudo-header for the host", b":authority: evil\r\n", "reject"),
    ("a folded header", b"x: 1\r\n 2\r\n", "reject"),
    ("a header folded with a tab", b"x: 1\r\n\t2\r\n", "reject"),
    ("a folded content-length", b"content-length:\r\n 5\r\n", "reject"),
    ("a folded transfer-encoding", b"transfer-encoding:\r\n chunked\r\n", "reject"),
    ("a folded host", b"x-a: 1\r\n Host: evil\r\n", "reject"),
]

HEADER_VALUES = [(f"{show(b)} in a value", b"x: a" + bytes([b]) + b"b\r\n", "reject")
                 for b in [*range(0, 9), 0x0b, 0x0c, *range(0x0e, 0x20), 0x7f]]
HEADER_VALUES += [
    ("a bare CR in a value", b"x: a\rb\r\n", "reject"),
    ("a bare CR and a header in a value", b"x: a\rContent-Length: 5\r\n", "reject"),
    ("a bare CR at the start of a value", b"x: \ra\r\n", "reject"),
    ("CR CR LF at the end of a value", b"x: a\r\r\n", "reject"),
    ("a bare LF at the end of a value", b"x: a\ny: b\r\n", "safe"),
    ("a tab in a value", b"x: a\tb\r\n", "ok"),
    ("spaces around a value", b"x:    a   \r\n", "ok"),
    ("an empty value", b"x:\r\n", "ok"),
    ("high bytes in a value", b"x: \xc3\xa9\xff\r\n", "ok"),
    ("a value of 100 kB", b"x: " + b"a" * 100000 + b"\r\n", "reject"),
    ("a thousand headers", b"".join(b"x-%d: 1\r\n" % n for n in range(1000)), "reject"),
    ("a hundred thousand bytes of small headers", b"a: b\r\n" * 20000, "reject"),
]

LENGTHS = [(f"content-length {value!r}", b"Content-Length: " + value + b"\r\n", b"abc", "reject") for value in (
    b"-1", b"-0", b"+3", b"3x", b"x", b"0x3", b"3.0", b"3e0", b"3 3", b"3,3", b"3, 4", b"3;3", b"3\t3", b"\"3\"", b"99999999999999999999",
    b"18446744073709551616", b"18446744073709551619", b"9223372036854775808000", b"4294967296000000000000", b"3\x00", b"\xb3", b"1_0", b"-",
    b"'3'", b"3,", b",3", b"NaN", b"3\x0b")]
LENGTHS += [
    ("content-length empty", b"Content-Length:\r\n", b"abc", "reject"),
    ("two lengths that differ", b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abcd", "reject"),
    ("two lengths, the second is zero", b"Content-Length: 3\r\nContent-Length: 0\r\n", b"abc", "reject"),
    ("two equal lengths", b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc", "safe"),
    ("leading zeros", b"Content-Length: 003\r\n", b"abc", "safe"),
    ("underscore name", b"Content_Length: 30\r\n", b"", "ok"),
    ("space before the colon", b"Content-Length : 3\r\n", b"abc", "reject"),
    ("a length of an exabyte, then nothing", b"Content-Length: 1152921504606846976\r\nx: ", b"", "reject"),
]

CODINGS = [(f"transfer-encoding {value!r}", b"Transfer-Encoding: " + value + b"\r\n", b"3\r\nabc\r\n0\r\n\r\n", verdict) for value, verdict in (
    (b"chunked", "ok"), (b"Chunked", "ok"), (b"CHUNKED", "ok"), (b"  chunked  ", "ok"),
    (b"xchunked", "reject"), (b"chunkedx", "reject"), (b"chunke", "reject"), (b"identity", "reject"), (b"gzip", "reject"),
    (b"gzip, chunked", "reject"), (b"chunked, gzip", "reject"), (b"chunked, chunked", "reject"), (b"chunked, identity", "reject"),
    (b"identity, chunked", "reject"), (b"chunked;q=1", "reject"), (b"\"chunked\"", "reject"), (b"chunked,", "safe"), (b",chunked", "safe"),
    (b"chunked\x00", "reject"), (b"\x0bchunked", "reject"), (b"chunked\x0b", "reject"), (b"chun ked", "reject"), (b"chunked chunked", "reject"),
    (b"", "reject"), (b"cow", "reject"), (b"chunked\xa0", "reject"), (b"\xefchunked", "reject"), (b"deflate", "reject"), (b"compress, chunked", "reject"))]
CODINGS += [
    ("both length and coding", b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", "reject"),
    ("both coding and length", b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"3\r\nabc\r\n0\r\n\r\n", "reject"),
    ("length zero and coding", b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", "reject"),
    ("two codings", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", "reject"),
    ("coding, then identity", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"3\r\nabc\r\n0\r\n\r\n", "reject"),
    ("identity, then coding", b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a space before the colon", b"Transfer-Encoding : chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", "reject"),
    ("an underscore in the name", b"Transfer_Encoding: chunked\r\nContent-Length: 3\r\n", b"abc", "ok"),
]

CHUNKS = [(name, body, verdict) for name, body, verdict in (
    ("no size", b"\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a size that is no number", b"zz\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a negative size", b"-3\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a plus sign", b"+3\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a size with 0x", b"0x3\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a space before the size", b" 3\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a space after the size", b"3 \r\nabc\r\n0\r\n\r\n", "safe"),
    ("a tab after the size", b"3\t\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a size of 17 digits", b"10000000000000003\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a size that wraps 64 bits", b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a size that wraps 32 bits", b"100000003\r\nabc\r\n0\r\n\r\n", "hang"),
    ("a chunk longer than its size", b"3\r\nabcd\r\n0\r\n\r\n", "reject"),
    ("a chunk shorter than its size", b"5\r\nabc\r\n0\r\n\r\n", "reject"),
    ("no line end after the data", b"3\r\nabc0\r\n\r\n", "reject"),
    ("a bare LF after the size", b"3\nabc\r\n0\r\n\r\n", "reject"),
    ("a bare CR after the size", b"3\rabc\r\n0\r\n\r\n", "reject"),
    ("a bare LF after the data", b"3\r\nabc\n0\r\n\r\n", "reject"),
    ("a bare CR after the data", b"3\r\nabc\r0\r\n\r\n", "reject"),
    ("CR CR LF after the data", b"3\r\nabc\r\r\n0\r\n\r\n", "reject"),
    ("a bare LF at the end", b"3\r\nabc\r\n0\r\n\n", "reject"),
    ("a bare CR in an extension", b"3;a\rb\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a bare LF in an extension", b"3;a\nb\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a NUL in an extension", b"3;a\x00b\r\nabc\r\n0\r\n\r\n", "reject"),
    ("a NUL in the size", b"3\x00\r\nabc\r\n0\r\n\r\n", "reject"),
    ("an extension", b"3;name=value\r\nabc\r\n0\r\n\r\n", "ok"),
    ("a quoted extension", b"3;name=\"value\"\r\nabc\r\n0\r\n\r\n", "safe"),
    ("leading zeros", b"0003\r\nabc\r\n0\r\n\r\n", "ok"),
    ("several zeros at the end", b"3\r\nabc\r\n000\r\n\r\n", "ok"),
    ("an extension of a megabyte", b"3;" + b"a" * 1000000 + b"\r\nabc\r\n0\r\n\r\n", "safe"),
    ("a trailer without a colon", b"3\r\nabc\r\n0\r\nnocolon\r\n\r\n", "reject"),
    ("a trailer with a bad name", b"3\r\nabc\r\n0\r\nbad name: 1\r\n\r\n", "reject"),
    ("a trailer with a NUL", b"3\r\nabc\r\n0\r\nx: a\x00b\r\n\r\n", "reject"),
    ("a trailer with a bare CR", b"3\r\nabc\r\n0\r\nx: a\rb\r\n\r\n", "reject"),
    ("a folded trailer", b"3\r\nabc\r\n0\r\nx: a\r\n b\r\n\r\n", "reject"),
    ("a trailer that is a length", b"3\r\nabc\r\n0\r\ncontent-length: 5\r\n\r\n", "safe"),
    ("a trailer that is a host", b"3\r\nabc\r\n0\r\nhost: evil\r\n\r\n", "safe"),
    ("a trailer that is a coding", b"3\r\nabc\r\n0\r\ntransfer-encoding: chunked\r\n\r\n", "safe"),
    ("trailers of 100 kB", b"3\r\nabc\r\n0\r\nx: " + b"a" * 100000 + b"\r\n\r\n", "reject"),
)]

HOSTS = [
    ("none", b"", "reject"),
    ("two that differ", b"Host: a\r\nHost: b\r\n", "reject"),
    ("two that are equal", b"Host: test\r\nHost: test\r\n", "reject"),
    ("empty", b"Host:\r\n", "safe"),
    ("with a space", b"Host: a b\r\n", "reject"),
    ("with a comma", b"Host: a, b\r\n", "reject"),
    ("with a slash", b"Host: a/b\r\n", "reject"),
    ("with a query", b"Host: a?b\r\n", "reject"),
    ("with a fragment", b"Host: a#b\r\n", "reject"),
    ("with userinfo", b"Host: u@a\r\n", "reject"),
    ("with a backslash", b"Host: a\\b\r\n", "reject"),
    ("with a NUL", b"Host: a\x00b\r\n", "reject"),
    ("with a tab", b"Host: a\tb\r\n", "reject"),
    ("with a high byte", b"Host: a\xff\r\n", "reject"),
    ("with a quote", b"Host: \"a\"\r\n", "reject"),
    ("with a less-than sign", b"Host: <a>\r\n", "reject"),
    ("with a space before the colon", b"Host : test\r\n", "reject"),
    ("folded", b"Host:\r\n test\r\n", "reject"),
    ("with a port that is none", b"Host: a:b\r\n", "safe"),
    ("an IPv6 literal", b"Host: [::1]\r\n", "ok"),
    ("with a port", b"Host: test:8080\r\n", "ok"),
]

SECOND = b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"
SMUGGLING = [
    ("length and coding", b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(SECOND)) + SECOND),
    ("coding and length", b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n1a\r\n" + SECOND + b"\r\n0\r\n\r\n"),
    ("an odd coding", b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n" + SECOND),
    ("a coding behind a tab", b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding:\tchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECOND),
    ("a coding behind a vertical tab", b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECOND),
    ("a coding with a space before the colon", b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECOND),
    ("a coding after a bare LF", b"POST / HTTP/1.1\r\nHost: test\r\nx: a\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECOND),
    ("a coding after a bare CR", b"POST / HTTP/1.1\r\nHost: test\r\nx: a\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + SECOND),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SECOND) + SECOND),
    ("a length with a sign", b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: +0\r\n\r\n" + SECOND),
    ("a folded length", b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length:\r\n 0\r\n\r\n" + SECOND),
    ("a chunk size that wraps", b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n" + SECOND),
    ("a chunk extension with a bare LF", b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0;\n\r\n" + SECOND),
    ("HTTP/1.0 with a coding", b"POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND),
    ("a request in a GET's body without a length", b"GET / HTTP/1.1\r\nHost: test\r\nx: y\r\n\x00\r\n\r\n" + SECOND),
    ("a header name that ends in a NUL", b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length\x00: 0\r\n\r\n" + SECOND),
]

ROWS = [(f"request line: {name}", get(line) if b"PRI" not in line else line, verdict) for name, line, verdict in REQUEST_LINES]
ROWS += [(f"header name: {name}", get(fields=line), verdict) for name, line, verdict in HEADER_NAMES]
ROWS += [(f"header value: {name}", get(fields=line), verdict) for name, line, verdict in HEADER_VALUES]
ROWS += [(f"length: {name}", post(fields, body), verdict) for name, fields, body, verdict in LENGTHS]
ROWS += [(f"coding: {name}", post(fields, body), verdict) for name, fields, body, verdict in CODINGS]
ROWS += [(f"chunk: {name}", post(b"Transfer-Encoding: chunked\r\n", body), verdict) for name, body, verdict in CHUNKS]
ROWS += [(f"host: {name}", get(host=host), verdict) for name, host, verdict in HOSTS]


def cases(rows):
    return [pytest.param(*row, id=row[0], marks=pytest.mark.xdist_group("malformed")) for row in rows]


def answer_of(pair, data, complete):
    """The status (or None) of the answer to `data`. What is not a complete request is ended by closing our side, so
    that a proxy that waits for more is not waited for; one that was complete is answered, or the test hangs."""
    with client.Client(pair.proxy.port()) as c:
        c.send(data)
        return finish(c, complete)


def finish(c, complete):
    try:
        if not complete:
            c.sock.shutdown(1)
        status = c.read().status
        if not complete:
            c.at_end()
        return status
    except (http1.Closed, ValueError, OSError):
        return None


def assert_clean(request):
    """What the upstream got cannot be read in two ways."""
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", request.raw_head), request.raw_head
    assert b"\r" not in request.raw_head.replace(b"\r\n", b""), "a bare CR"
    assert b"\n" not in request.raw_head.replace(b"\r\n", b""), "a bare LF"
    assert not re.search(rb"\r\n[ \t]", request.raw_head), "a folded line"
    assert not re.search(rb"\r\n[^:\r\n]*[ \t]:", request.raw_head), "a space before a colon"
    lengths, codings = request.all("content-length"), request.all("transfer-encoding")
    assert len(lengths) + len(codings) <= 1, request.headers
    assert codings in ([], ["chunked"]) and all(re.fullmatch(r"\d+", n) for n in lengths)
    assert len(request.all("host")) == 1


def check_alive(pair):
    pair.check()
    response = client.get(pair.proxy.port(), "/alive")
    assert (response.status, response.body) == (200, b"a")


@pytest.mark.parametrize("name, data, verdict", cases(ROWS))
def test_malformed(pair, name, data, verdict):
    pair.ready()
    status = answer_of(pair, data, verdict == "ok")
    requests = [r for r in pair.upstream.requests if r.path != "/alive"]
    whole = [r for r in requests if r.whole]
    pair.check()
    for request in requests:
        assert_clean(request)
    assert len(requests) <= 1, [r.line for r in requests]
    if verdict == "ok":
        assert status == 200 and len(whole) == 1, (status, requests)
    elif verdict == "reject":
        # A body is streamed: its head may have gone out before the body turned out to be bad. It must never be whole.
        assert status is None or status >= 400, status
        assert not whole, [(r.line, r.headers, r.body) for r in whole]
    elif verdict == "hang":
        assert not whole and status != 200
    check_alive(pair)


@pytest.mark.parametrize("name, data", cases(SMUGGLING))
def test_smuggling(pair, name, data):
    """The second request hides in the first: it must not reach the upstream as a request of its own."""
    pair.ready()
    with client.Client(pair.proxy.port()) as c:
        c.send(data)
        try:
            c.sock.shutdown(1)
        except OSError:
            pass
        c.at_end()
    pair.check()
    for request in pair.upstream.requests:
        assert_clean(request)
        assert request.path != "/smuggled", pair.upstream.requests
    check_alive(pair)


def byte_by_byte():
    return [row for row in ROWS if len(row[1]) < 200][::7]


@pytest.mark.parametrize("name, data, verdict", cases(byte_by_byte()))
def test_malformed_in_small_pieces(pair, name, data, verdict):
    """The same verdict when the bytes come one at a time."""
    pair.ready()
    with client.Client(pair.proxy.port()) as c:
        for byte in data:
            if not c.send(bytes([byte])):
                break
        status = finish(c, verdict == "ok")
    pair.check()
    whole = [r for r in pair.upstream.requests if r.whole]
    if verdict == "ok":
        assert status == 200
    elif verdict == "reject":
        assert (status is None or status >= 400) and not whole
    check_alive(pair)


def test_a_client_that_never_reads(pair):
    """Requests without end on one connection whose answers nobody reads: the proxy stops taking them."""
    pair.ready()
    with client.Client(pair.proxy.port()) as c:
        c.sock.settimeout(3)
        sent = 0
        try:
            while sent < 50_000_000:
                sent += c.sock.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" * 1000)
        except (TimeoutError, OSError):
            pass
        assert sent < 50_000_000
    wait_for(lambda: pair.proxy.stat("http.main.downstream_cx_active") == 0, "the connection to be gone")
    check_alive(pair)
