"""Certificates that come and go: SDS over ADS, over a stream of its own and from files, swapped as Kubernetes does it;
rotation under load; what is missing or broken fails closed; control planes over mutual TLS; key logs."""
import json
import os
import socket
import ssl
import subprocess
import threading

import grpc
import pytest

from harness import client, config
from harness.controlplane import ADS, ControlPlane, ads_bootstrap, grpc_cluster
from harness.pki import Pki
from harness.proxy import Log
from harness.upstream import Upstream
from harness.wait import wait_for

TLS = config.TYPE + "extensions.transport_sockets.tls.v3."


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    out = Pki(tmp_path_factory.mktemp("secrets"))
    for name in ("one", "two", "three"):
        setattr(out, name, out.issue(name, f"DNS:{name}.example"))
    out.client, out.stranger = out.issue("client", "DNS:client.example"), out.issue("stranger", "DNS:x", issuer=out.authority("elsewhere"))
    return out


def sds(name, source=None):
    return {"name": name, "sds_config": source or ADS}


def downstream(**common):
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS + "DownstreamTlsContext", "common_tls_context": common}}


def tls_listener(name="main", **common):
    reply = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
    return config.listener(name, filter_chains=[{"filters": [config.hcm([reply])], "transport_socket": downstream(**common)}], stat_prefix=name)


def certificate(leaf, name="cert"):
    return {"name": name, "tls_certificate": leaf.inline()}


def handshake(port, pki, leaf=None):
    """(connected socket, common name of the server's certificate)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(pki.ca.cert)
    context.check_hostname = False
    if leaf:
        context.load_cert_chain(leaf.cert, leaf.key)
    sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 60))
    return sock, dict(pair for rdn in sock.getpeercert()["subject"] for pair in rdn)["commonName"]


def who(port, pki, leaf=None):
    sock, name = handshake(port, pki, leaf)
    sock.close()
    return name


def ask(sock):
    sock.sendall(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
    data = b""
    while not data.endswith(b"ok"):
        more = sock.recv(65536)
        assert more, "the connection ended"
        data += more
    return data


def refused(port, pki, leaf=None):
    """No handshake, or with TLS 1.3 no answer after it."""
    try:
        sock, _ = handshake(port, pki, leaf)
        with sock:
            ask(sock)
        return False
    except (OSError, AssertionError):
        return True


def test_over_ads(skiff, control_plane, pki):
    plane = control_plane()
    plane.set("cluster", [])
    plane.set("listener", [tls_listener(tls_certificate_sds_secret_configs=[sds("cert")])])
    proxy = skiff(ads_bootstrap(plane.port), wait=False)
    plane.wait_subscribed("secret", ["cert"])
    plane.set("secret", [certificate(pki.one)])
    plane.wait_ack("secret")
    proxy.wait_ready()
    kept, name = handshake(proxy.port(), pki)
    assert name == "one"
    plane.set("secret", [certificate(pki.two)])
    plane.wait_ack("secret")
    wait_for(lambda: who(proxy.port(), pki) == "two", "the new certificate")
    ask(kept)  # its handshake was before
    before = proxy.stat("listener.main.server_ssl_socket_factory.ssl_context_update_by_sds")
    broken = {"name": "cert", "tls_certificate": {**pki.three.inline(), "private_key": {"inline_string": pki.one.key_text()}}}
    plane.set("secret", [broken])
    assert "Failed to load private key" in plane.wait_nack("secret")
    assert who(proxy.port(), pki) == "two"
    plane.set("secret", [certificate(pki.three)])
    plane.wait_ack("secret")
    wait_for(lambda: who(proxy.port(), pki) == "three", "the third certificate")
    assert proxy.stat("listener.main.server_ssl_socket_factory.ssl_context_update_by_sds") == before + 1
    assert proxy.stat("listener.main.ssl.certificate.cert.expiration_unix_time_seconds") > 0
    kept.close()


def test_over_a_stream_of_its_own(skiff, control_plane, pki):
    plane = control_plane()
    source = {"api_config_source": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
              "resource_api_version": "V3"}
    plane.set("secret", [certificate(pki.one), {"name": "ca", "validation_context": {"trusted_ca": {"inline_string": pki.ca.text()}}}])
    body = config.bootstrap([tls_listener(tls_certificate_sds_secret_configs=[sds("cert", source)], validation_context_sds_secret_config=sds("ca", source))],
                            [grpc_cluster(plane.port)], node={"id": "n", "cluster": "c"})
    proxy = skiff(body)
    assert who(proxy.port(), pki) == "one"
    assert refused(proxy.port(), pki, pki.stranger) and not refused(proxy.port(), pki, pki.client)
    plane.set("secret", [certificate(pki.two), {"name": "ca", "validation_context": {"trusted_ca": {"inline_string": pki.stranger.issuer.text()}}}])
    plane.wait_ack("secret")
    wait_for(lambda: who(proxy.port(), pki) == "two", "the new certificate")
    wait_for(lambda: refused(proxy.port(), pki, pki.client), "the new authority")
    assert not refused(proxy.port(), pki, pki.stranger)


class Mount:
    """A directory as Kubernetes mounts a secret: names are links into ..data, which is swapped at once."""

    def __init__(self, folder):
        self.folder, self.count = str(folder), 0
        os.makedirs(self.folder)

    def put(self, files):
        self.count += 1
        real = os.path.join(self.folder, f"..{self.count}")
        os.mkdir(real)
        for name, text in files.items():
            with open(os.path.join(real, name), "w", encoding="ascii") as out:
                out.write(text)
        os.symlink(f"..{self.count}", os.path.join(self.folder, "..tmp"))
        os.rename(os.path.join(self.folder, "..tmp"), os.path.join(self.folder, "..data"))
        for name in files:
            link = os.path.join(self.folder, name)
            if not os.path.islink(link):
                os.symlink(os.path.join("..data", name), link)

    def path(self, name):
        return os.path.join(self.folder, name)


def pair(leaf):
    return {"tls.crt": leaf.text(), "tls.key": leaf.key_text()}


def test_files_swapped_as_by_kubernetes(skiff, pki, tmp_path):
    mount, secret = Mount(tmp_path / "mount"), tmp_path / "sds.json"
    mount.put(pair(pki.one))
    secret.write_text(json.dumps({"resources": [{"@type": TLS + "Secret", "name": "cert", "tls_certificate": {
        "certificate_chain": {"filename": mount.path("tls.crt")}, "private_key": {"filename": mount.path("tls.key")},
        "watched_directory": {"path": mount.folder}}}]}))
    source = {"path_config_source": {"path": str(secret)}, "resource_api_version": "V3"}
    proxy = skiff(config.bootstrap([tls_listener(tls_certificate_sds_secret_configs=[sds("cert", source)])], [], node={"id": "n", "cluster": "c"}))
    assert who(proxy.port(), pki) == "one"
    mount.put(pair(pki.two))
    wait_for(lambda: who(proxy.port(), pki) == "two", "the swapped certificate")
    mount.put({**pair(pki.three), "tls.key": pki.one.key_text()})
    wait_for(lambda: "the old ones serve on" in proxy.log(), "the refusal of a pair that does not fit")
    assert who(proxy.port(), pki) == "two"
    assert proxy.stat("sds.cert.key_rotation_failed") >= 1
    mount.put(pair(pki.three))
    wait_for(lambda: who(proxy.port(), pki) == "three", "the mended certificate")


@pytest.mark.threads
def test_500_rotations_lose_no_connection(skiff, control_plane, pki):
    plane = control_plane()
    plane.set("cluster", [])
    plane.set("secret", [certificate(pki.one)])
    plane.set("listener", [tls_listener(tls_certificate_sds_secret_configs=[sds("cert")])])
    proxy = skiff(ads_bootstrap(plane.port))
    port, stop, lost, made = proxy.port(), threading.Event(), [], [0]
    kept, _ = handshake(port, pki)

    def load():
        while not stop.is_set():
            try:
                sock, name = handshake(port, pki)
                with sock:
                    ask(sock)
                assert name in ("one", "two")
                made[0] += 1
            except (OSError, AssertionError) as error:
                lost.append(repr(error))
    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(500):
            plane.set("secret", [certificate(pki.two if number % 2 == 0 else pki.one)])
            plane.wait_ack("secret")
            if number % 100 == 0:
                ask(kept)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not lost and made[0] > 0
    ask(kept)
    kept.close()
    assert proxy.stat("listener.main.ssl.connection_error") == 0


def test_a_secret_that_does_not_come_fails_closed(skiff, control_plane, pki, upstream):
    plane = control_plane()
    source = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0.2s"}
    origin = upstream("a")
    up = {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS + "UpstreamTlsContext", "common_tls_context": {
        "validation_context_sds_secret_config": sds("ca", source)}}}
    plane.set("cluster", [config.cluster("a", [origin.port], transport_socket=up)])
    plane.set("listener", [tls_listener(tls_certificate_sds_secret_configs=[sds("cert", source)]), config.listener("plain", [config.hcm([config.route(cluster="a")])])])
    proxy = skiff(ads_bootstrap(plane.port))
    assert refused(proxy.port(), pki)
    with client.Client(proxy.port("plain")) as c:
        assert c.request().status == 503
    assert origin.requests == []
    assert proxy.stat("listener.main.server_ssl_socket_factory.downstream_context_secrets_not_ready") >= 1
    assert proxy.stat("cluster.a.client_ssl_socket_factory.upstream_context_secrets_not_ready") >= 1
    plane.set("secret", [certificate(pki.one)])
    wait_for(lambda: who(proxy.port(), pki) == "one", "the certificate that came late")


@pytest.mark.parametrize("how", ["files", "static secrets"])
def test_a_control_plane_over_mutual_tls(skiff, pki, how):
    credentials = grpc.ssl_server_credentials([(pki.one.key_text().encode(), pki.one.text().encode())], pki.ca.text().encode(), require_client_auth=True)
    plane = ControlPlane(credentials=credentials)
    try:
        plane.set("cluster", [])
        plane.set("secret", [certificate(pki.two)])
        plane.set("listener", [tls_listener(tls_certificate_sds_secret_configs=[sds("cert")])])
        common = {"tls_certificates": [pki.client.config()], "validation_context": {"trusted_ca": {"filename": pki.ca.cert}}}
        secrets = []
        if how == "static secrets":
            secrets = [certificate(pki.client, "me"), {"name": "ca", "validation_context": {"trusted_ca": {"filename": pki.ca.cert}}}]
            common = {"tls_certificate_sds_secret_configs": [{"name": "me"}], "validation_context_sds_secret_config": {"name": "ca"}}
        body = ads_bootstrap(plane.port)
        body["static_resources"]["clusters"][0]["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {
            "@type": TLS + "UpstreamTlsContext", "sni": "one.example", "common_tls_context": common}}
        body["static_resources"]["secrets"] = secrets
        proxy = skiff(body)
        assert who(proxy.port(), pki) == "two"
    finally:
        plane.stop()


def google(port, pki):
    """A control plane by its address; gRPC's own credentials."""
    ssl_credentials = {"root_certs": {"filename": pki.ca.cert}, "cert_chain": {"filename": pki.client.cert},
                       "private_key": {"filename": pki.client.key}}
    return {"target_uri": f"127.0.0.1:{port}", "stat_prefix": "ads", "channel_credentials": {"ssl_credentials": ssl_credentials},
            "call_credentials": [{"access_token": "100% secret"}]}


def test_a_control_plane_by_address_with_credentials(skiff, pki):
    """The name in the address must be the certificate's; a token goes with the stream."""
    here = pki.issue("here", "IP:127.0.0.1")
    ca = pki.ca.text().encode()
    planes = [ControlPlane(credentials=grpc.ssl_server_credentials([(leaf.key_text().encode(), leaf.text().encode())], ca, require_client_auth=True))
              for leaf in (here, pki.one)]
    try:
        for plane in planes:
            plane.set("cluster", [])
            plane.set("secret", [certificate(pki.two)])
            plane.set("listener", [tls_listener(tls_certificate_sds_secret_configs=[sds("cert")])])
        bodies = [ads_bootstrap(plane.port) for plane in planes]
        for body, plane in zip(bodies, planes):
            body["dynamic_resources"]["ads_config"]["grpc_services"] = [{"google_grpc": google(plane.port, pki)}]
            for source in ("lds_config", "cds_config"):
                body["dynamic_resources"][source]["initial_fetch_timeout"] = "20s" if plane is planes[0] else "0.1s"
        assert who(skiff(bodies[0]).port(), pki) == "two"
        other = skiff(bodies[1])
        wait_for(lambda: other.stat("control_plane.connected_state") == 0 and other.stat("listener_manager.lds.update_attempt") >= 2, "a second try")
        assert planes[1].requests == []
    finally:
        for plane in planes:
            plane.stop()


def test_key_logs_hold_the_keys_of_whom_they_shall(skiff, pki, tmp_path):
    all_of_them, nobody = tmp_path / "all.keys", tmp_path / "nobody.keys"
    listeners = [tls_listener("main", tls_certificates=[pki.one.config()], key_log={"path": str(all_of_them), "remote_address_range": [
                     {"address_prefix": "127.0.0.0", "prefix_len": 8}]}),
                 tls_listener("other", tls_certificates=[pki.one.config()], key_log={"path": str(nobody), "local_address_range": [
                     {"address_prefix": "10.0.0.0", "prefix_len": 8}]})]
    proxy = skiff(config.bootstrap(listeners, []))
    for name in ("other", "main"):
        sock, _ = handshake(proxy.port(name), pki)
        with sock:
            ask(sock)
    wait_for(lambda: all_of_them.read_text().count("\n") >= 5, "the keys")
    labels = {line.split(" ")[0] for line in all_of_them.read_text().splitlines()}
    assert {"SERVER_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= labels
    assert nobody.read_text() == ""


def test_a_log_line_outlives_its_upstream_connection(skiff, pki, tmp_path):
    """The first try answers 503 and closes, the second finds nobody: the line still tells of the first's TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.one.cert, pki.one.key)

    def handler(connection):
        if connection.number > 1:
            return
        connection.sock = context.wrap_socket(connection.sock, server_side=True)
        connection.sock.recv(65536)
        connection.sock.sendall(b"HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    origin, path = Upstream("t", handler=handler), str(tmp_path / "log")
    try:
        up = {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": TLS + "UpstreamTlsContext", "common_tls_context": {
            "validation_context": {"trusted_ca": {"filename": pki.ca.cert}}}}}
        retries = {"retry_on": "5xx", "num_retries": 1, "retry_back_off": {"base_interval": "0.5s"}}
        listener = config.listener("main", [config.hcm([config.route(cluster="a", retry_policy=retries)], access_log=[
            config.file_log(path, text="%UPSTREAM_TLS_VERSION% %UPSTREAM_PEER_SUBJECT%\n")])])
        proxy = skiff(config.bootstrap([listener], [config.cluster("a", [origin.port], transport_socket=up)]))
        with client.Client(proxy.port()) as c:
            assert c.request().status == 503
        assert Log(path).wait(1) == ["TLSv1.2 CN=one,O=Test"]
        proxy.check_health()
    finally:
        origin.stop()


def by_name(source):
    """A socket whose certificate is fetched by the client's SNI."""
    selector = {"@type": config.TYPE + "extensions.transport_sockets.tls.cert_selectors.on_demand_secret.v3.Config", "config_source": source,
                "certificate_mapper": {"name": "sni", "typed_config": {
                    "@type": config.TYPE + "extensions.transport_sockets.tls.cert_mappers.sni.v3.SNI", "default_value": "default"}}}
    out = downstream(custom_tls_certificate_selector={"name": "on-demand", "typed_config": selector})
    out["typed_config"].update(disable_stateless_session_resumption=True, disable_stateful_session_resumption=True)
    return out


def hello(port, sni, *args):
    """What openssl's client says of a handshake."""
    return subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", sni, *args], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, check=False).stdout


def test_certificates_on_demand_are_for_who_may_have_them(skiff, control_plane, pki, tmp_path):
    """Names that are no host names and secrets that are there for something else are not asked for; clients that leave, names that do
    not come, listeners that go; a hello that is sent twice."""
    plane, listeners = control_plane(), str(tmp_path / "listeners.json")
    plane.answer_unknown = False
    plane.set("cluster", [])
    plane.set("secret", [])
    quick = {**ADS, "initial_fetch_timeout": "0.2s"}

    def serve(*sockets):
        reply = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
        all_of_them = [{"@type": config.TYPE + "config.listener.v3.Listener", **config.listener(name, filter_chains=[
            {"filters": [config.hcm([reply])], "transport_socket": one}], stat_prefix=name)} for name, one in sockets]
        with open(listeners + ".new", "w", encoding="utf-8") as out:
            json.dump({"version_info": str(len(sockets)), "resources": all_of_them}, out)
        os.rename(listeners + ".new", listeners)
    serve(("main", by_name({**ADS, "initial_fetch_timeout": "0s"})), ("quick", by_name(quick)))
    body = ads_bootstrap(plane.port, delta=True)
    body["dynamic_resources"]["lds_config"] = {"path_config_source": {"path": listeners}, "resource_api_version": "V3"}
    body["static_resources"]["secrets"] = [certificate(pki.three, "three.example")]
    proxy = skiff(body, args=["--drain-time-s", "1", "--drain-strategy", "immediate"])
    main, quickly = proxy.port("main"), proxy.port("quick")

    def names(what):
        return [name for r in plane.delta_requests for name in getattr(r, "resource_names_" + what) if r.type_url.endswith("Secret")]
    for sni in ("*", "a*.example", "xdstp:x", "a/b", "three.example"):
        assert "no peer certificate available" in hello(main, sni), sni
    assert "no peer certificate available" in hello(quickly, "late.example")
    wait_for(lambda: names("unsubscribe") == ["late.example"], "the end of a subscription that brought nothing")
    assert names("subscribe") == ["late.example"]
    with subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{main}", "-servername", "one.example"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as leaving:
        plane.wait_subscribed_name("secret", "one.example")
        assert proxy.stat("listener.main.downstream_cx_active") == 1
        leaving.kill()
    wait_for(lambda: proxy.stat("listener.main.downstream_cx_active") == 0, "the end of a connection that waits")
    plane.set("secret", [certificate(pki.one, "one.example")])
    for args in (["-groups", "P-521:P-256"], ["-groups", "P-521:P-256", "-tls1_2"]):
        assert "subject=O = Test, CN = one" in hello(main, "one.example", *args)
    assert "subject=O = Test, CN = one" in hello(quickly, "one.example")
    assert proxy.stat("listener.quick.on_demand_secret.cert_active") == 1
    serve(("quick", by_name(quick)))
    wait_for(lambda: proxy.stat("listener_manager.total_listeners_active") == 1, "the end of a listener")
    assert "subject=O = Test, CN = one" in hello(quickly, "one.example")
    serve()
    wait_for(lambda: names("unsubscribe") == ["late.example", "one.example"], "the end of the last who asked")
