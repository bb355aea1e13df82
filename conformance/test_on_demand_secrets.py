"""Certificates that a handshake asks for by name (custom_tls_certificate_selector). On the real Envoy and on Skiff.

The listeners are static: the messages are not in PyPI's xds-protos, so the control plane cannot encode them.
"""
import socket
import ssl
import threading

import pytest

from discovery import Stage
from harness import config
from harness.controlplane import ADS
from harness.pki import Pki
from harness.wait import wait_for

TLS = config.TYPE + "extensions.transport_sockets.tls."
SNI = {"name": "sni", "typed_config": {"@type": TLS + "cert_mappers.sni.v3.SNI", "default_value": "default"}}
STATIC = {"name": "one", "typed_config": {"@type": TLS + "cert_mappers.static_name.v3.StaticName", "name": "fixed"}}


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    out = Pki(tmp_path_factory.mktemp("on-demand"))
    for name in ("one", "two", "three"):
        setattr(out, name, out.issue(name, f"DNS:{name}.example"))
    return out


def listener(name, mapper, **selector):
    selector = {"name": "on-demand", "typed_config": {"@type": TLS + "cert_selectors.on_demand_secret.v3.Config",
                                                      "config_source": ADS, "certificate_mapper": mapper, **selector}}
    socket_of = {"name": "tls", "typed_config": {
        "@type": TLS + "v3.DownstreamTlsContext", "disable_stateless_session_resumption": True,
        "disable_stateful_session_resumption": True, "common_tls_context": {"custom_tls_certificate_selector": selector}}}
    reply = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    return config.listener(name, filter_chains=[{"filters": [config.hcm([reply])], "transport_socket": socket_of}], stat_prefix=name)


@pytest.fixture(params=["envoy", "skiff"])
def stage(request, envoy_binary, skiff_binary, concurrency):
    made = Stage(envoy_binary if request.param == "envoy" else skiff_binary, True, concurrency)
    made.plane.set("listener", [])
    made.plane.set("secret", [])
    made.plane.answer_unknown = False
    yield made
    made.stop()


class Handshake:
    """In a thread of its own: whose certificate came, or None."""

    def __init__(self, port, pki, sni, most=ssl.TLSVersion.TLSv1_3):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(pki.ca.cert)
        self.context.check_hostname = False
        self.context.maximum_version = most
        self.name = None
        self.thread = threading.Thread(target=self.run, args=(port, sni), daemon=True)
        self.thread.start()

    def run(self, port, sni):
        try:
            with self.context.wrap_socket(socket.create_connection(("127.0.0.1", port), 60), server_hostname=sni) as sock:
                self.name = dict(pair for rdn in sock.getpeercert()["subject"] for pair in rdn)["commonName"]
        except ssl.SSLError as error:
            self.name = error.reason

    def result(self):
        self.thread.join(60)
        return self.name


def certificates(**leaves):
    return [{"name": name.replace("_", "."), "tls_certificate": leaf.inline()} for name, leaf in leaves.items()]


def asked(stage):
    """What was subscribed to, and what was left again."""
    requests = [r for r in stage.plane.delta_requests if r.type_url.endswith("Secret")]
    return ([name for r in requests for name in r.resource_names_subscribe],
            [name for r in requests for name in r.resource_names_unsubscribe])


def test_certificates_come_change_and_go(stage, pki):
    stage.start(listeners=[listener("main", SNI)])
    port = stage.proxy.port()
    waiting = [Handshake(port, pki, "one.example", most) for most in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2) * 2]
    other = Handshake(port, pki, None)
    for name in ("one.example", "default"):
        stage.plane.wait_subscribed_name("secret", name)
    stage.sees_stats({"on_demand_secret.cert_active": 2, "on_demand_secret.cert_requested": 2, "on_demand_secret.cert_updated": 0}, "on_demand_secret")
    stage.plane.set("secret", certificates(one_example=pki.one, default=pki.two))
    assert [one.result() for one in waiting] == ["one"] * 4 and other.result() == "two"
    stage.sees_stats({"on_demand_secret.cert_active": 2, "on_demand_secret.cert_requested": 2, "on_demand_secret.cert_updated": 2}, "on_demand_secret")
    # at once now, and the new one after a rotation
    assert Handshake(port, pki, "one.example").result() == "one"
    stage.plane.set("secret", certificates(one_example=pki.three, default=pki.two))
    wait_for(lambda: Handshake(port, pki, "one.example").result() == "three", "the new certificate")
    assert Handshake(port, pki, None).result() == "two"
    # gone: nobody watches it, so a handshake asks anew
    stage.plane.set("secret", certificates(default=pki.two))
    wait_for(lambda: asked(stage)[1] == ["one.example"], "the end of the subscription")
    again = Handshake(port, pki, "one.example")
    wait_for(lambda: asked(stage)[0].count("one.example") == 2, "a second subscription")
    stage.plane.set("secret", certificates(one_example=pki.one, default=pki.two))
    assert again.result() == "one"
    assert sorted(asked(stage)[0]) == ["default", "one.example", "one.example"]
    stage.sees_stats({"on_demand_secret.cert_active": 2, "on_demand_secret.cert_requested": 3}, "on_demand_secret")


def test_the_control_plane_says_that_there_is_none(stage, pki):
    stage.plane.answer_unknown = True
    stage.start(listeners=[listener("main", SNI)])
    for most in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        assert Handshake(stage.proxy.port(), pki, "nope.example", most).result() == "SSLV3_ALERT_HANDSHAKE_FAILURE"
    stage.sees_stats({"main.ssl.connection_error": 2, "main.ssl.handshake": 0, "main.on_demand_secret.cert_active": 0,
                      "main.on_demand_secret.cert_requested": 2}, "listener.main")
    wait_for(lambda: asked(stage)[1] == ["nope.example"] * 2, "the end of the subscriptions")


def test_one_name_for_all_and_what_is_fetched_before(stage, pki):
    stage.start(listeners=[listener("main", STATIC, prefetch_secret_names=["fixed", "more"])])
    for name in ("fixed", "more"):
        stage.plane.wait_subscribed_name("secret", name)
    waiting = Handshake(stage.proxy.port(), pki, "one.example")
    stage.plane.set("secret", certificates(fixed=pki.one, more=pki.two))
    assert waiting.result() == "one"
    stage.sees_stats({"on_demand_secret.cert_active": 2, "on_demand_secret.cert_requested": 2, "on_demand_secret.cert_updated": 2}, "on_demand_secret")
    assert [Handshake(stage.proxy.port(), pki, sni).result() for sni in ("more", None)] == ["one"] * 2
    assert sorted(asked(stage)[0]) == ["fixed", "more"]
    stage.plane.set("secret", certificates(more=pki.two))
    wait_for(lambda: asked(stage)[1] == ["fixed"], "the end of the subscription")
    again = Handshake(stage.proxy.port(), pki, None)
    wait_for(lambda: asked(stage)[0].count("fixed") == 2, "a second subscription")
    stage.plane.set("secret", certificates(fixed=pki.three, more=pki.two))
    assert again.result() == "three"
