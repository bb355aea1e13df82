"""Skiff and Envoy with the same TLS listeners and clusters, for test_tls.py: certificates, contexts, clients, facts.

What one handshake showed is a flat dict: what the client saw, what the logs say, what the upstream got, and how
statistics changed. Two such dicts are compared.
"""
import json
import os
import re
import socket
import ssl
import subprocess
import threading

from harness import config, http1
from harness.pki import EC, RSA, Pki, run
from harness.proxy import Log, Proxy
from harness.upstream import Upstream
from harness.wait import wait_for

TLS = config.TYPE + "extensions.transport_sockets.tls.v3."
CERT_FIELDS = ("SUBJECT", "URI_SAN", "DNS_SAN", "IP_SAN", "EMAIL_SAN", "OTHERNAME_SAN")
DOWN = ["DOWNSTREAM_TLS_VERSION", "DOWNSTREAM_TLS_CIPHER", "DOWNSTREAM_TLS_GROUP", "REQUESTED_SERVER_NAME", "FILTER_CHAIN_NAME",
        *(f"DOWNSTREAM_{side}_{field}" for side in ("LOCAL", "PEER") for field in CERT_FIELDS),
        *(f"DOWNSTREAM_PEER_{field}" for field in ("ISSUER", "SERIAL", "FINGERPRINT_256", "FINGERPRINT_1", "CERT", "CERT_V_START", "CERT_V_END",
                                                   "CERT_V_START(%Y)", "CHAIN_FINGERPRINTS_256", "CHAIN_FINGERPRINTS_1", "CHAIN_SERIALS",
                                                   "ISSUER_FINGERPRINT_256", "ISSUER_SERIAL"))]
UP = ["RESPONSE_CODE", "RESPONSE_FLAGS", "RESPONSE_CODE_DETAILS", "UPSTREAM_TRANSPORT_FAILURE_REASON", "UPSTREAM_TLS_VERSION",
      "UPSTREAM_TLS_CIPHER", "UPSTREAM_TLS_GROUP", "UPSTREAM_SERVER_NAME", "UPSTREAM_PEER_ISSUER", "UPSTREAM_PEER_CERT", "UPSTREAM_PEER_CERT_V_START",
      "UPSTREAM_PEER_CERT_V_END", *(f"UPSTREAM_PEER_{field}" for field in CERT_FIELDS[:4]), *(f"UPSTREAM_LOCAL_{field}" for field in CERT_FIELDS[1:4])]


def log_of(path, names, **more):
    """A JSON access log; `kept` only says whether there is a value: session ids differ."""
    return config.file_log(path, {name: f"%{name}%" for name in names}, **more)


class Certificates:
    """Every certificate that the tables name: leaf names are attributes."""

    def __init__(self, directory):
        self.pki = pki = Pki(directory)
        self.ca = pki.ca
        self.other_ca = pki.authority("other_ca")
        self.middle = pki.authority("middle", pki.ca)
        self.low = pki.authority("low", self.middle)
        names = "DNS:a.example,DNS:*.b.example"
        self.server = pki.issue("server", names)
        self.server_rsa = pki.issue("server_rsa", names, key=RSA)
        self.server_384 = pki.issue("server_384", "DNS:p384.example", key=["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"])
        self.wild = pki.issue("wild", "DNS:*.c.example")
        self.exact = pki.issue("exact", "DNS:x.c.example,DNS:d.example")
        self.common = pki.issue("common.example", None)
        self.behind = pki.issue("behind", "DNS:behind.example", issuer=self.middle, chain=True)
        self.client = pki.issue("client", "DNS:client.example,DNS:*.wild.example,URI:spiffe://cluster.local/ns/foo/sa/bar,email:me@mail.example,IP:10.1.2.3,"
                                          "IP:2001:db8::7,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:upn@example")
        self.client_rsa = pki.issue("client_rsa", "URI:spiffe://cluster.local/ns/foo/sa/rsa", key=RSA, subject="/C=DE/O=Test, \"Inc\"/OU=a;b/CN=rsa client")
        self.client_bare = pki.issue("client_bare", None)
        self.client_behind = pki.issue("client_behind", "DNS:behind.example", issuer=self.middle, chain=True)
        self.client_low = pki.issue("client_low", "DNS:low.example", issuer=self.low)
        self.client_other = pki.issue("client_other", "DNS:client.example", issuer=self.other_ca)
        self.client_self = pki.make("client_self", None, "/CN=self", EC, ["basicConstraints=CA:FALSE", "subjectAltName=DNS:client.example"], 5)
        self.client_gone = pki.issue("client_gone", "DNS:client.example")
        self.client_server_only = pki.issue("client_server_only", "DNS:client.example", extensions=["extendedKeyUsage=serverAuth"])
        svid = ["keyUsage=critical,digitalSignature"]
        self.svid = pki.issue("svid", "URI:spiffe://cluster.local/ns/a/sa/b,DNS:svid.example", extensions=svid)
        self.svid_other = pki.issue("svid_other", "URI:spiffe://other.local/x", issuer=self.other_ca, extensions=svid)
        self.svid_cross = pki.issue("svid_cross", "URI:spiffe://cluster.local/x", issuer=self.other_ca, extensions=svid)
        self.svid_stranger = pki.issue("svid_stranger", "URI:spiffe://stranger.local/x", extensions=svid)
        self.svid_dns = pki.issue("svid_dns", "DNS:cluster.local", extensions=svid)
        self.svid_signer = pki.issue("svid_signer", "URI:spiffe://cluster.local/x", extensions=["keyUsage=critical,digitalSignature,keyCertSign"])
        self.up = pki.issue("up", "DNS:up.example,DNS:*.w.example,URI:spiffe://up/x,IP:127.0.0.1")
        self.up_rsa = pki.issue("up_rsa", "DNS:up.example", key=RSA)
        self.up_bare = pki.issue("up.bare", None)
        self.up_behind = pki.issue("up_behind", "DNS:up.example", issuer=self.middle, chain=True)
        self.up_client_only = pki.issue("up_client_only", "DNS:up.example", extensions=["extendedKeyUsage=clientAuth"])
        self.up_no_signing = pki.issue("up_no_signing", "DNS:up.example", key=RSA, extensions=["keyUsage=critical,keyEncipherment"])
        self.crl = pki.crl("gone", [self.client_gone])
        self.crl_all = pki.path("all.crl")
        with open(self.crl_all, "w", encoding="ascii") as out:
            for path in (self.crl, pki.crl("middle", [], self.middle)):
                with open(path, encoding="ascii") as file:
                    out.write(file.read())
        self.ocsp, self.ocsp_old = pki.ocsp("fresh", self.server), pki.ocsp("old", self.server, days=-1)
        self.ocsp_revoked = pki.ocsp("revoked", self.server, status="R")
        self.client_low.sends = pki.path("chain.pem")
        with open(self.client_low.sends, "w", encoding="ascii") as out:
            out.write(self.low.text() + self.middle.text())
        self.p12 = pki.path("server.p12")
        run("pkcs12", "-export", "-in", self.server.cert, "-inkey", self.server.key, "-out", self.p12, "-passout", "pass:pw")
        self.locked = pki.path("locked.key")
        run("pkey", "-in", self.server.key, "-aes256", "-passout", "pass:pw", "-out", self.locked)
        self.tickets = pki.path("tickets")
        with open(self.tickets, "wb") as out:
            out.write(bytes(range(80)))


# --- the upstream's side ---

def tls_server(context, facts):
    """A handler for Upstream: HTTPS that tells in the body what the handshake was."""
    def handler(connection):
        try:
            sock = context.wrap_socket(connection.sock, server_side=True)
        except (ssl.SSLError, OSError) as error:
            facts.append(type(error).__name__)
            return
        connection.sock, connection.reader = sock, http1.Reader(sock)
        peer = sock.getpeercert(binary_form=True)
        seen = {"version": sock.version(), "cipher": sock.cipher()[0], "alpn": sock.selected_alpn_protocol(), "sni": getattr(sock, "asked", None),
                "client": run("x509", "-inform", "DER", "-subject", "-noout", input=peer).decode().strip() if peer else None}
        while True:
            request = connection.read_request()
            connection.read_body(request)
            body = json.dumps(seen).encode()
            sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    return handler


def server_context(leaf, ca=None, alpn=None, least=None, most=None, ciphers=None, curve=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf.cert, leaf.key)

    def asked(sock, name, _):
        sock.asked = name
    context.sni_callback = asked
    if ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
    if alpn:
        context.set_alpn_protocols(alpn)
    if least:
        context.minimum_version = least
    if most:
        context.maximum_version = most
    if ciphers:
        context.set_ciphers(ciphers)
    if curve:
        context.set_ecdh_curve(curve)
    return context


# --- clients ---

REQUEST = "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{more}\r\n"
SEEN = {
    "session": r"^(New|Reused), (?:TLSv1\.\d|SSLv3|\(NONE\)), Cipher is", "cipher": r"^(?:New|Reused), \S+ Cipher is (\S+)",
    "version": r"^(?:New|Reused), (\S+), Cipher is", "subject": r"^subject=(.*)", "key": r"^Server Temp Key: (.*)", "digest": r"^Peer signing digest: (.*)",
    "signature": r"^Peer signature type: (.*)", "alpn": r"^(ALPN protocol: .*|No ALPN negotiated)", "renegotiation": r"^(Secure Renegotiation .*)",
    "compression": r"^Compression: (.*)", "ocsp": r"^OCSP response:\s*(no response sent)|^    OCSP Response Status: (.*)",
    "ocsp_status": r"^    Cert Status: (.*)", "hint": r"^    TLS session ticket lifetime hint: (\d+)",
}


def openssl_client(port, folder, sni="a.example", args=(), leaf=None, path="/", more=""):
    """One request by openssl s_client: what it says of the handshake."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-ign_eof", *(["-servername", sni] if sni else ["-noservername"])]
    if leaf:
        command += ["-cert", leaf.cert, "-key", leaf.key]
        if leaf.sends:
            command += ["-cert_chain", leaf.sends]
    for arg in args:
        command.append(arg.replace("{folder}", folder))
    done = subprocess.run(command, input=REQUEST.format(path=path, more=more).encode(), capture_output=True, timeout=120, check=False)
    text = done.stdout.decode("utf-8", "replace")
    seen = {}
    answer = re.search(r"HTTP/1\.1 (\d+) ", text)
    seen["answer"] = answer.group(1) if answer else None
    # A refusal may come as an alert, as a reset or as an end: only what a good handshake agreed on is compared.
    for name, pattern in SEEN.items() if answer else ():
        found = re.search(pattern, text, re.M)
        seen[name] = next((g for g in found.groups() if g), None) if found else None
    if answer:
        seen["hint"] = seen["hint"] and round(int(seen["hint"]) / 60)  # minutes: a second may pass
        names = re.search(r"^Acceptable client certificate CA names\n((?:.*=.*\n)+?)(?:Client|Requested)", text, re.M)
        seen["ca_names"] = names.group(1) if names else None
        seen["tickets"] = "Post-Handshake New Session Ticket arrived" in text
        seen["depth"] = len(re.findall(r"^ *\d+ s:", text, re.M))
    return seen


def raw_client(port, prefix=b"", sni="a.example", alpn=None, pieces=0, then=None):
    """TLS by Python after some bytes of ours (a PROXY header); pieces: the hello dribbles; then: bytes instead of TLS."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(alpn)
        try:
            if then is not None:
                sock.sendall(prefix + then)
                got = sock.recv(1)
                return {"answer": {b"\x15": "alert", b"H": "plain HTTP"}.get(got, repr(got))}
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname=sni)
            first = True
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    data = outgoing.read()
                    step = pieces if first and pieces else len(data) or 1
                    for at in range(0, len(data), step):
                        sock.sendall((prefix if first and at == 0 else b"") + data[at:at + step])
                    first = False
                    more = sock.recv(65536)
                    if not more:
                        return {"answer": None}
                    incoming.write(more)
            tls.write(REQUEST.format(path="/", more="").encode())
            sock.sendall(outgoing.read())
            text = b""
            while b"\r\n\r\n" not in text:
                try:
                    text += tls.read()
                except ssl.SSLWantReadError:
                    more = sock.recv(65536)
                    if not more:
                        break
                    incoming.write(more)
            return {"answer": text[9:12].decode(), "version": tls.version(), "cipher": tls.cipher()[0], "alpn": tls.selected_alpn_protocol()}
        except (OSError, ssl.SSLError):
            return {"answer": None}


# --- one side ---

class Side:
    """A proxy with everything that the tables need."""

    def __init__(self, binary, certs, listeners, clusters, servers, folder, concurrency):
        self.certs, self.folder = certs, folder
        os.makedirs(folder)
        self.backend = Upstream("a")
        self.facts, self.servers = [], {}
        for name, arguments in servers.items():
            handler = tls_server(server_context(*arguments[:1], **arguments[1]), self.facts) if isinstance(arguments, tuple) else arguments
            self.servers[name] = Upstream(name, handler=handler)
        body = config.bootstrap([self.listener(name, one) for name, one in listeners.items()] + [self.entry(clusters)],
                                [config.cluster("a", [self.backend.port])] + [self.cluster(name, one) for name, one in clusters.items()])
        self.proxy = Proxy(binary, body, directory=folder, concurrency=concurrency)
        self.logs = {name: Log(os.path.join(folder, name + ".log")) for name in (*listeners, "entry")}
        self.ends = {name: Log(os.path.join(folder, name + ".end")) for name in listeners}
        self.lock = threading.Lock()

    def chain(self, name, one, context, match):
        """A filter chain whose requests and ends are logged."""
        hcm = config.hcm(stat_prefix=name, access_log=[log_of(os.path.join(self.folder, name + ".log"), DOWN + ["DOWNSTREAM_TLS_SESSION_ID"])],
                         codec_type="AUTO", **one.get("hcm", {}))
        match = dict(match)
        out = {"filters": [hcm], "name": match.pop("name", name)}
        if context is not None:
            out["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS + "DownstreamTlsContext", **context}}
        return {**out, "filter_chain_match": match} if match else out

    def listener(self, name, one):
        chains = [self.chain(name, one, chain["tls"], chain.get("match", {})) for chain in one["chains"]]
        ends = log_of(os.path.join(self.folder, name + ".end"), ["DOWNSTREAM_TRANSPORT_FAILURE_REASON", "DOWNSTREAM_TLS_VERSION", "REQUESTED_SERVER_NAME",
                                                                "FILTER_CHAIN_NAME", "DOWNSTREAM_PEER_SUBJECT", "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
                                                                "RESPONSE_FLAGS", "TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT"])
        return config.listener(name, filter_chains=chains, stat_prefix=name, access_log=[ends], **one.get("listener", {}))

    def entry(self, clusters):
        routes = [config.route(prefix="/" + name, cluster=name, timeout="30s") for name in sorted(clusters, key=len, reverse=True)]
        hcm = config.hcm(routes=routes, stat_prefix="entry", access_log=[log_of(os.path.join(self.folder, "entry.log"), UP + ["UPSTREAM_TLS_SESSION_ID"])])
        return config.listener("entry", [hcm])

    def cluster(self, name, one):
        over = {k: v for k, v in one.items() if k not in ("tls", "to")}
        socket_config = {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS + "UpstreamTlsContext", **one.get("tls", {})}}
        return config.cluster(name, [self.servers[one["to"]].port], **config.merge({"transport_socket": socket_config} if "tls" in one else {}, over))

    def stop(self, check=True):
        try:
            self.proxy.stop(check=check)
        finally:
            for server in (self.backend, *self.servers.values()):
                server.stop()

    # --- running ---

    def stats(self, kind, name):
        return {k: v for k, v in self.proxy.stats(rf"^{kind}\.{name}\.(ssl|server_ssl|client_ssl)").items() if ".certificate." not in k}

    def told(self, before, kind, name):
        now = self.stats(kind, name)
        return {"stat." + k: v - before.get(k, 0) for k, v in now.items() if v != before.get(k, 0)}

    @staticmethod
    def lines(log, label, count):
        out = {}
        for at, line in enumerate(log.wait(count)):
            for key, value in json.loads(line).items():
                if key.endswith("SESSION_ID"):
                    value = "-" if value in (None, "-") else "<id>"
                if isinstance(value, str) and key.endswith("FAILURE_REASON"):
                    value = value or None
                out[f"{label}.{at}.{key}"] = value
        return out

    def down(self, listener, steps):
        """Runs the steps of a row (functions of this side and a port) against a listener."""
        before, seen = self.stats("listener", listener), {}
        self.backend.play()
        for number, step in enumerate(steps):
            target = step.get("listener", listener)
            client = step.get("client", openssl_client)
            arguments = {k: v for k, v in step.items() if k not in ("listener", "client")}
            if isinstance(arguments.get("leaf"), str):
                arguments["leaf"] = getattr(self.certs, arguments["leaf"])
            if client is openssl_client:
                arguments["folder"] = self.folder
            facts = client(self.proxy.port(target), **arguments)
            seen.update({f"client.{number}.{k}": v for k, v in facts.items()})
            seen.update(self.lines(self.ends[target], f"end.{number}", 1))
            if facts["answer"] and (facts["answer"].isdigit() or facts["answer"] == "plain HTTP"):
                seen.update(self.lines(self.logs[target], f"log.{number}", 1))
        for number, request in enumerate(self.backend.requests):
            seen[f"xfcc.{number}"] = request.header("x-forwarded-client-cert")
        # Counted at the end of the handshake by a worker, read by main: a moment may lie between.
        stable = wait_for(lambda: [one for one in [self.told(before, "listener", listener)] if one == self.told(before, "listener", listener)], "statistics")
        return {**seen, **stable[0]}

    def up(self, cluster, requests=1, headers=()):
        """A request to a cluster of that name: what the client, the upstream and the log say."""
        from harness import client
        before, seen = self.stats("cluster", cluster), {}
        del self.facts[:]
        for number in range(requests):
            with client.Client(self.proxy.port("entry")) as c:
                answer = c.request(path="/" + cluster, headers=headers)
            seen[f"{number}.status"] = answer.status
            seen[f"{number}.body"] = answer.text
            seen.update(self.lines(self.logs["entry"], f"log.{number}", 1))
        return {**seen, **self.told(before, "cluster", cluster)}
