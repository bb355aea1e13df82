"""TLS handshakes with Skiff and with Envoy, row by row: what client, upstream, logs and statistics saw is the same.

The rows are in tls_tables.py. A wanted difference stands in DIFFERS with its reason.
"""
import fnmatch
import os

import pytest

import tls_sides
import tls_tables

DIFFERS = [  # row, path, why
    ("signature SHA-1 1.2", "*", "OpenSSL's security level 1 does not sign with SHA-1"),
    ("require_sni: without", "*", "the field does what its documentation says; Envoy has not implemented it"),
    ("required without a CA: *", "*", "a certificate that is required is asked for; Envoy asks for none without a validation context"),
    ("another name", "*", "a session is bound to the server name (RFC 6066, section 3)"),
    ("curve P-256:X25519", "*", "the key share that the client sent saves a round trip"),
    ("curve P-521 1.2", "end.0.0.DOWNSTREAM_TRANSPORT_FAILURE_REASON", "OpenSSL finds no cipher where BoringSSL finds no curve"),
    ("1.3 TLS_AES_128_CCM_SHA256", "end.0.0.DOWNSTREAM_TRANSPORT_FAILURE_REASON", "BoringSSL queues the error twice"),
    ("spiffe names: svid_other", "end.0.0.DOWNSTREAM_TRANSPORT_FAILURE_REASON", "the refusal tells the names that the certificate has"),
    ("fips: ChaCha20", "end.0.0.DOWNSTREAM_TRANSPORT_FAILURE_REASON", "BoringSSL queues the error twice"),
    ("xfcc JSON behind empty array", "xfcc.0", "Envoy writes [,{...}], which is no JSON"),
    ("cnsa1: AES-128", "end.0.0.DOWNSTREAM_TRANSPORT_FAILURE_REASON", "BoringSSL queues the error twice"),
    ("mTLS *", "stat.listener.mtls.ssl.sigalgs.*", "OpenSSL's sessions do not keep the signature algorithm"),
]


@pytest.fixture(scope="module")
def sides(request, envoy_binary, skiff_binary, concurrency, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    certs = tls_sides.Certificates(folder / "pki")
    made = []
    try:
        for name, binary in (("envoy", envoy_binary), ("skiff", skiff_binary)):
            made.append(tls_sides.Side(binary, certs, tls_tables.listeners(certs), tls_tables.clusters(certs), tls_tables.servers(certs),
                                       str(folder / name), concurrency))
        yield made
    finally:
        for side in made:
            side.stop(check=False)
    made[1].proxy.check_health()


def differences(row, envoy, skiff):
    out = []
    for path in sorted(set(envoy) | set(skiff)):
        wanted = any(fnmatch.fnmatchcase(row, r) and fnmatch.fnmatchcase(path, p) and why for r, p, why in DIFFERS)
        if envoy.get(path) != skiff.get(path) and not wanted:
            out.append(f"{path}: envoy {envoy.get(path, '(nothing)')!r}, skiff {skiff.get(path, '(nothing)')!r}")
    return out


def compare(sides, row, run):
    envoy, skiff = (run(side) for side in sides)
    sides[1].proxy.check_health()
    if os.environ.get("SKIFF_TLS_SHOW"):
        print(envoy)
    found = differences(row, envoy, skiff)
    assert not found, "\n".join(["differences:"] + found)


DOWN = tls_tables.down_rows()
assert len({row[0] for row in DOWN}) == len(DOWN), "two rows have the same name"


@pytest.mark.parametrize("name, listener, steps", DOWN, ids=[row[0] for row in DOWN])
@pytest.mark.xdist_group("tls")
def test_downstream(sides, name, listener, steps):
    compare(sides, name, lambda side: side.down(listener, steps))


class Leaf:
    """Stands for a certificate while only names are collected."""
    cert = key = ""

    def __getattr__(self, name):
        return lambda *_: "\n\n\n"


class Leaves:
    def __getattr__(self, name):
        return Leaf()


UP = sorted(tls_tables.clusters(Leaves()))


@pytest.mark.parametrize("cluster", UP)
@pytest.mark.xdist_group("tls")
def test_upstream(sides, cluster):
    compare(sides, cluster, lambda side: side.up(cluster, **tls_tables.UP_REQUESTS.get(cluster, {})))
