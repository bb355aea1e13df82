"""What test_tls.py compares: listeners, clusters, servers, and rows of handshakes."""
import json
import ssl

from harness import config
from tls_sides import TLS, openssl_client, raw_client, server_context

V = {"10": "TLSv1_0", "11": "TLSv1_1", "12": "TLSv1_2", "13": "TLSv1_3"}
SPIFFE = "spiffe://cluster.local/ns/foo/sa/bar"


def file(path):
    return {"filename": path}


def ctx(certs, validation=None, over=None, **common):
    """A DownstreamTlsContext: certificates, a validation context, fields of CommonTlsContext; `over`: fields of its own."""
    body = {"tls_certificates": [c if isinstance(c, dict) else c.config() for c in certs], **common}
    if validation is not None:
        body["validation_context"] = validation
    return {"common_tls_context": body, **(over or {})}


def one(context, **more):
    return {"chains": [{"tls": context}], **more}


def inspected(*chains, **more):
    """Chains chosen by what tls_inspector saw."""
    filters = [{"name": "envoy.filters.listener.tls_inspector", "typed_config": {
        "@type": config.TYPE + "extensions.filters.listener.tls_inspector.v3.TlsInspector", **more.pop("inspector", {})}}]
    return {"chains": [{"tls": context, "match": match} for context, match in chains],
            "listener": {"listener_filters": more.pop("before", []) + filters, **more}}


SANS = {  # name: (SubjectAltNameMatcher, certificate that fits, certificate that does not)
    "dns_exact": ({"san_type": "DNS", "matcher": {"exact": "client.example"}}, "client", "client_behind"),
    "dns_wild": ({"san_type": "DNS", "matcher": {"exact": "x.wild.example"}}, "client", "client_gone"),
    "dns_deep": ({"san_type": "DNS", "matcher": {"exact": "y.x.wild.example"}}, None, "client"),
    "dns_case": ({"san_type": "DNS", "matcher": {"exact": "CLIENT.example"}}, "client", "client_behind"),
    "dns_prefix": ({"san_type": "DNS", "matcher": {"prefix": "client."}}, "client", "client_behind"),
    "dns_suffix": ({"san_type": "DNS", "matcher": {"suffix": ".example"}}, "client", "client_bare"),
    "uri_exact": ({"san_type": "URI", "matcher": {"exact": SPIFFE}}, "client", "client_rsa"),
    "uri_prefix": ({"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/ns/foo/"}}, "client_rsa", "client_gone"),
    "uri_regex": ({"san_type": "URI", "matcher": {"safe_regex": {"regex": "spiffe://[^/]+/ns/foo/sa/b.*"}}}, "client", "client_rsa"),
    "uri_contains": ({"san_type": "URI", "matcher": {"contains": "/ns/FOO/", "ignore_case": True}}, "client", "client_bare"),
    "email": ({"san_type": "EMAIL", "matcher": {"exact": "me@mail.example"}}, "client", "client_rsa"),
    "ip4": ({"san_type": "IP_ADDRESS", "matcher": {"exact": "10.1.2.3"}}, "client", "client_rsa"),
    "ip6": ({"san_type": "IP_ADDRESS", "matcher": {"exact": "2001:db8::7"}}, "client", "client_rsa"),
    "other": ({"san_type": "OTHER_NAME", "oid": "1.3.6.1.4.1.311.20.2.3", "matcher": {"exact": "upn@example"}}, "client", "client_rsa"),
    "wrong_kind": ({"san_type": "EMAIL", "matcher": {"exact": "client.example"}}, None, "client"),
}
SVIDS = ("svid", "svid_other", "svid_cross", "svid_stranger", "svid_dns", "svid_signer", "client")


def spiffe(c, bundles=None, **more):
    """A validation context with the SPIFFE validator: two trust domains."""
    body = {"trust_domains": [{"name": "cluster.local", "trust_bundle": {"filename": c.ca.cert}},
                              {"name": "other.local", "trust_bundle": {"inline_string": c.other_ca.text()}}]}
    if bundles:
        body["trust_bundles"] = bundles
    return {"custom_validator_config": {"name": "envoy.tls.cert_validator.spiffe", "typed_config": {"@type": TLS + "SPIFFECertValidatorConfig", **body}}, **more}


def jwks(c):
    """The same trust domains as a SPIFFE bundle file."""
    def keys(authority):
        return {"sequence_number": 1, "refresh_hint": 300, "keys": [{"kty": "EC", "use": "x509-svid", "x5c": ["".join(authority.text().split("\n")[1:-2])]}]}
    return {"inline_string": json.dumps({"trust_domains": {"cluster.local": keys(c.ca), "other.local": keys(c.other_ca)}})}


XFCC = ("SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY")


HCM = config.TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager."


def xfcc_match(value, mode, **details):
    """A request with this x-m has its client's certificate told this way."""
    action = {"@type": HCM + "ForwardClientCertConfig", "forward_client_cert_details": mode, "set_current_client_cert_details": details}
    header = {"name": "header", "typed_config": {"@type": config.TYPE + "type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": "x-m"}}
    return {"predicate": {"single_predicate": {"input": header, "value_match": {"exact": value}}}, "on_match": {"action": {"name": value, "typed_config": action}}}


XFCC_TREE = {"matcher_list": {"matchers": [xfcc_match("set", "SANITIZE_SET", subject=True, issuer=True), xfcc_match("forward", "ALWAYS_FORWARD_ONLY"),
                                           xfcc_match("sanitize", "SANITIZE")]}}
XFCC_OWN = "x-forwarded-client-cert: By=me;Hash=1\r\n"


def listeners(c):
    ca = {"trusted_ca": file(c.ca.cert)}
    must = {"require_client_certificate": True}
    s = c.server
    out = {
        "plain": one(ctx([s], alpn_protocols=["h2", "http/1.1"])),
        "h1": one(ctx([s], alpn_protocols=["http/1.1"])),
        "two": one(ctx([c.server_rsa, s])),
        "rsa": one(ctx([c.server_rsa])),
        "many": one(ctx([s, c.wild, c.exact, c.common])),
        "scan": one(ctx([c.server_rsa, c.wild, s], over={"full_scan_certs_on_sni_mismatch": True})),
        "behind": one(ctx([c.behind])),
        "p384": one(ctx([s, c.server_384])),
        "rsa_first": one(ctx([c.server_rsa, c.server_384])),
        "pkcs12": one(ctx([{"pkcs12": file(c.p12), "password": {"inline_string": "pw"}}])),
        "locked": one(ctx([{"certificate_chain": file(s.cert), "private_key": file(c.locked), "password": {"inline_string": "pw"}}])),
        "sni": one(ctx([s], over={"require_sni": True})),
        "mtls": one(ctx([s], ca, must)),
        "optional": one(ctx([s], ca)),
        "no_ca": one(ctx([s], None, must)),
        "untrusted": one(ctx([s], {**ca, "trust_chain_verification": "ACCEPT_UNTRUSTED"}, must)),
        "untrusted_san": one(ctx([s], {**ca, "trust_chain_verification": "ACCEPT_UNTRUSTED",
                                       "match_typed_subject_alt_names": [SANS["dns_exact"][0]]}, must)),
        "middle_ca": one(ctx([s], {"trusted_ca": file(c.middle.cert)}, must)),
        "two_cas": one(ctx([s], {"trusted_ca": {"inline_string": c.ca.text() + c.other_ca.text()}}, must)),
        "old_sans": one(ctx([s], {**ca, "match_subject_alt_names": [{"exact": "client.example"}, {"exact": "spiffe://x"}]}, must)),
        "two_sans": one(ctx([s], {**ca, "match_typed_subject_alt_names": [SANS["email"][0], SANS["uri_prefix"][0]]})),
        "hash": one(ctx([s], {**ca, "verify_certificate_hash": [c.client.hash()]})),
        "hash_colons": one(ctx([s], {"verify_certificate_hash": [":".join(c.client.hash()[i:i + 2] for i in range(0, 64, 2)).upper()]})),
        "spki": one(ctx([s], {"verify_certificate_spki": [c.client.spki()]})),
        "pins": one(ctx([s], {**ca, "verify_certificate_hash": [c.client.hash()], "verify_certificate_spki": [c.client_rsa.spki()]})),
        "pin_and_san": one(ctx([s], {**ca, "verify_certificate_hash": [c.client.hash(), c.client_rsa.hash()],
                                     "match_typed_subject_alt_names": [SANS["uri_exact"][0]]})),
        "crl": one(ctx([s], {**ca, "crl": file(c.crl)}, must)),
        "crl_all": one(ctx([s], {**ca, "crl": file(c.crl_all)}, must)),
        "crl_leaf": one(ctx([s], {**ca, "crl": file(c.crl), "only_verify_leaf_cert_crl": True}, must)),
        "depth0": one(ctx([s], {**ca, "max_verify_depth": 0}, must)),
        "depth1": one(ctx([s], {**ca, "max_verify_depth": 1}, must)),
        "depth2": one(ctx([s], {**ca, "max_verify_depth": 2}, must)),
        "v12": one(ctx([s], tls_params={"tls_minimum_protocol_version": V["12"], "tls_maximum_protocol_version": V["12"]})),
        "v13": one(ctx([s], tls_params={"tls_minimum_protocol_version": V["13"], "tls_maximum_protocol_version": V["13"]})),
        "v10": one(ctx([s], tls_params={"tls_minimum_protocol_version": V["10"]})),
        "ciphers": one(ctx([c.server_rsa], tls_params={"cipher_suites": ["ECDHE-RSA-AES256-GCM-SHA384", "AES128-SHA"]})),
        "groups": one(ctx([c.server_rsa], tls_params={"cipher_suites": ["[ECDHE-RSA-AES256-GCM-SHA384|ECDHE-RSA-CHACHA20-POLY1305]",
                                                                        "ECDHE-RSA-AES128-GCM-SHA256"]})),
        "their_ciphers": one(ctx([c.server_rsa], over={"prefer_client_ciphers": True})),
        "curves": one(ctx([s], tls_params={"ecdh_curves": ["P-384", "P-256"]})),
        "sigalgs": one(ctx([c.server_rsa], tls_params={"signature_algorithms": ["rsa_pss_rsae_sha512", "rsa_pkcs1_sha384"]})),
        "fips": one(ctx([c.server_rsa, s], tls_params={"compliance_policies": ["FIPS_202205"]})),
        "cnsa1": one(ctx([c.server_rsa, c.server_384], tls_params={"compliance_policies": ["CNSA1_202603"]})),
        "no_ca_list": one(ctx([s], {**ca, "suppress_client_ca_list": True}, must)),
        "providers": one(ctx([{**s.config(), "signed_certificate_timestamp": [{"inline_string": "x"}]}],
                             {**ca, "ca_certificate_provider_instance": {"instance_name": "x"}, "require_signed_certificate_timestamp": False}, must,
                             tls_certificate_provider_instance={"instance_name": "x"})),
        "tickets": one(ctx([s], over={"session_ticket_keys": {"keys": [file(c.tickets)]}})),
        "tickets_2": one(ctx([s], over={"session_ticket_keys": {"keys": [file(c.tickets)]}})),
        "no_tickets": one(ctx([s], over={"disable_stateless_session_resumption": True})),
        "no_cache": one(ctx([s], over={"disable_stateful_session_resumption": True})),
        "no_sessions": one(ctx([s], over={"disable_stateless_session_resumption": True, "disable_stateful_session_resumption": True})),
        "timeout": one(ctx([s], over={"session_timeout": "1800s"})),
        "mtls_tickets": one(ctx([s], ca, {**must, "session_ticket_keys": {"keys": [file(c.tickets)]}})),
        "spiffe": one(ctx([s], spiffe(c))),
        "spiffe_bundles": one(ctx([s], spiffe(c, jwks(c)))),
        "spiffe_san": one(ctx([s], spiffe(c, match_typed_subject_alt_names=[{"san_type": "URI", "matcher": {"suffix": "/sa/b"}}]))),
        "chains": inspected((ctx([s]), {"name": "exact", "server_names": ["a.example"]}), (ctx([c.wild]), {"name": "wild", "server_names": ["*.c.example"]}),
                            (ctx([c.exact]), {"name": "deep", "server_names": ["*.d.c.example"]}),
                            (ctx([c.common]), {"name": "rest", "transport_protocol": "tls"}), (None, {"name": "raw", "transport_protocol": "raw_buffer"})),
        "by_alpn": inspected((ctx([s], alpn_protocols=["h2"]), {"name": "h2", "application_protocols": ["h2"]}),
                             (ctx([s], alpn_protocols=["http/1.1", "h2"]), {"name": "both", "application_protocols": ["http/1.1", "x"]}),
                             (ctx([s]), {"name": "none"})),
        "ja": inspected((ctx([s]), {"name": "ja"}), inspector={"enable_ja3_fingerprinting": True, "enable_ja4_fingerprinting": True}),
        "proxy": inspected((ctx([s]), {"name": "src", "source_prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}),
                           (ctx([s]), {"name": "sni", "server_names": ["a.example"]}), (ctx([s]), {"name": "rest"}),
                           before=[{"name": "envoy.filters.listener.proxy_protocol", "typed_config": {
                               "@type": config.TYPE + "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"}}]),
    }
    for name, (policy, staple) in {"lenient": ("LENIENT_STAPLING", c.ocsp), "lenient_old": ("LENIENT_STAPLING", c.ocsp_old), "lenient_none": ("LENIENT_STAPLING", None),
                                   "strict": ("STRICT_STAPLING", c.ocsp), "strict_old": ("STRICT_STAPLING", c.ocsp_old),
                                   "strict_none": ("STRICT_STAPLING", None), "staple": ("MUST_STAPLE", c.ocsp), "staple_old": ("MUST_STAPLE", c.ocsp_old),
                                   "revoked": ("STRICT_STAPLING", c.ocsp_revoked)}.items():
        cert = {**s.config(), **({"ocsp_staple": file(staple)} if staple else {})}
        out["ocsp_" + name] = one(ctx([cert], over={"ocsp_staple_policy": policy}))
    for name, (matcher, _, _) in SANS.items():
        out["san_" + name] = one(ctx([s], {**ca, "match_typed_subject_alt_names": [matcher]}))
    for mode in XFCC:
        hcm = {"forward_client_cert_details": mode}
        if mode in ("APPEND_FORWARD", "SANITIZE_SET"):
            hcm["set_current_client_cert_details"] = {"subject": True, "cert": True, "chain": True, "dns": True, "uri": True}
        out["xfcc_" + mode.lower()] = one(ctx([s], ca), hcm=hcm)
    for mode, form in (("SANITIZE_SET", "TEXT"), ("SANITIZE_SET", "JSON"), ("APPEND_FORWARD", "JSON")):
        details = {"subject": True, "cert": True, "chain": True, "dns": True, "uri": True, "issuer": True, "format": form}
        out[f"xfcc_{mode}_{form}"] = one(ctx([s], ca), hcm={"forward_client_cert_details": mode, "set_current_client_cert_details": details})
    out["xfcc_matcher"] = one(ctx([s], ca), hcm={"forward_client_cert_details": "APPEND_FORWARD", "set_current_client_cert_details": {"dns": True},
                                                 "forward_client_cert_matcher": XFCC_TREE})
    out["xfcc_bare"] = one(ctx([s], ca), hcm={"forward_client_cert_details": "SANITIZE_SET"})
    return out


def row(name, listener, *steps, **step):
    return name, listener, list(steps) or [step]


def sessions(args, *, then=None, sni="a.example", leaf=None):
    """A session kept and offered again, perhaps elsewhere."""
    first = {"args": [*args, "-sess_out", "{folder}/session"], "leaf": leaf}
    second = {"args": [*args, "-sess_in", "{folder}/session"], "leaf": leaf, "sni": sni}
    return [first, {**second, "listener": then} if then else second]


T12, T13 = ["-tls1_2"], ["-tls1_3"]
OLD = ["-cipher", "DEFAULT:@SECLEVEL=0"]
STATUS = ["-status"]


def down_rows():
    rows = [
        # versions, ciphers, curves, signatures
        row("default 1.3", "plain"), row("default 1.2", "plain", args=T12),
        row("1.1 is refused", "plain", args=["-tls1_1", *OLD]), row("1.0 is refused", "plain", args=["-tls1", *OLD]),
        row("1.2 only: 1.2", "v12", args=T12), row("1.2 only: any", "v12"), row("1.2 only: 1.3", "v12", args=T13),
        row("1.3 only: 1.2", "v13", args=T12), row("1.3 only: any", "v13"),
        row("1.0 allowed: 1.0", "v10", args=["-tls1", *OLD]), row("1.0 allowed: 1.1", "v10", args=["-tls1_1", *OLD]),
        row("1.0 allowed: any", "v10"),
        *(row(f"1.3 {suite}", "plain", args=["-ciphersuites", suite]) for suite in
          ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_CCM_SHA256",
           "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256")),
        *(row(f"1.2 {suite}", "rsa", args=[*T12, "-cipher", suite + ":@SECLEVEL=0"]) for suite in
          ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-SHA", "AES128-GCM-SHA256",
           "AES128-SHA", "DHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256",
           "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-SHA384", "NULL-SHA256", "aNULL")),
        row("the configured cipher", "ciphers", args=T12), row("the configured cipher without ECDHE", "ciphers", args=[*T12, "-cipher", "AES128-SHA"]),
        row("none of the configured ciphers", "ciphers", args=[*T12, "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"]),
        row("1.3 does not heed cipher_suites", "ciphers"),
        row("equal preference: first of the client", "groups", args=[*T12, "-cipher", "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384"]),
        row("equal preference: other of the client", "groups", args=[*T12, "-cipher", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305"]),
        row("equal preference: last", "groups", args=[*T12, "-cipher", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305"]),
        row("prefer_client_ciphers 1.2", "their_ciphers", args=[*T12, "-cipher", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"]),
        *(row(f"curve {curve}", "plain", args=["-groups", curve]) for curve in ("X25519", "P-256", "P-384", "P-521", "X448", "P-384:P-256", "P-256:X25519")),
        row("curve X25519 1.2", "plain", args=[*T12, "-groups", "X25519:P-256"]), row("curve P-521 1.2", "plain", args=[*T12, "-groups", "P-521"]),
        row("configured curve", "curves"), row("configured second curve", "curves", args=["-groups", "P-256"]),
        row("no configured curve", "curves", args=["-groups", "X25519"]),
        row("signature of an RSA key", "rsa"), row("signature PKCS1 1.2", "rsa", args=[*T12, "-sigalgs", "RSA+SHA256"]),
        row("signature SHA-1 1.2", "rsa", args=[*T12, "-sigalgs", "RSA+SHA1", "-cipher", "DEFAULT:@SECLEVEL=0"]),
        row("no signature in common", "rsa", args=["-sigalgs", "ECDSA+SHA256"]),
        row("configured signature", "sigalgs"), row("configured signature 1.2", "sigalgs", args=[*T12, "-sigalgs", "RSA+SHA384:RSA+SHA256"]),
        *(row(f"fips: {name}", "fips", args=args) for name, args in (
            ("any", []), ("1.2", T12), ("X25519", ["-groups", "X25519"]), ("P-384", ["-groups", "P-384"]), ("P-521", ["-groups", "P-521"]),
            ("ChaCha20", ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"]), ("ChaCha20 1.2", [*T12, "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"]),
            ("CBC 1.2", [*T12, "-cipher", "ECDHE-RSA-AES128-SHA"]), ("RSA 1.2", [*T12, "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"]))),
        *(row(f"cnsa1: {name}", "cnsa1", args=args, sni="p384.example") for name, args in (
            ("any", []), ("1.2", T12), ("P-256", ["-groups", "P-256"]), ("AES-128", ["-ciphersuites", "TLS_AES_128_GCM_SHA256"]),
            ("RSA", ["-sigalgs", "RSA-PSS+SHA384"]), ("SHA-256", ["-sigalgs", "RSA-PSS+SHA256"]), ("RSA 1.2", [*T12, "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"]),
            ("AES-128 1.2", [*T12, "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"]))),
        row("no list of authorities", "no_ca_list", leaf="client"), row("no list of authorities, no certificate", "no_ca_list"),
        row("providers are not asked", "providers", leaf="client"), row("providers are not asked, no certificate", "providers"),
        # choice of certificate
        row("RSA and ECDSA: modern", "two"), row("RSA and ECDSA: only RSA", "two", args=[*T12, "-cipher", "aRSA"]),
        row("RSA and ECDSA: only ECDSA", "two", args=[*T12, "-cipher", "aECDSA"]), row("RSA and ECDSA: RSA signatures only", "two", args=["-sigalgs", "RSA-PSS+SHA256"]),
        row("RSA and ECDSA: without SNI", "two", sni=None), row("RSA and ECDSA: another name", "two", sni="z.example"),
        row("RSA and ECDSA: another name, only ECDSA", "two", sni="z.example", args=[*T12, "-cipher", "aECDSA"]),
        *(row(f"name {sni}", "many", sni=sni) for sni in ("a.example", "A.EXAMPLE", "x.b.example", "x.c.example", "y.c.example", "y.x.c.example", "d.example",
                                                          "common.example", "nowhere.example", "c.example", "b.example")),
        row("no name", "many", sni=None), row("scan: no match", "scan", sni="z.example"), row("scan: match", "scan", sni="q.c.example"),
        row("scan: no match, ECDSA only", "scan", sni="z.example", args=[*T12, "-cipher", "aECDSA"]),
        row("a chain is sent", "behind", args=["-showcerts"]), row("P-384 key", "p384", sni="p384.example"),
        row("P-384 key, client without", "p384", sni="p384.example", args=["-sigalgs", "ECDSA+SHA256", "-groups", "P-256"]),
        row("no key of the name's that the client takes", "rsa_first", sni="p384.example", args=[*T12, "-cipher", "aRSA"]),
        row("pkcs12", "pkcs12"), row("encrypted key", "locked"),
        row("require_sni: with", "sni"), row("require_sni: without", "sni", sni=None),
        # ALPN
        row("ALPN http/1.1", "plain", args=["-alpn", "http/1.1"]), row("ALPN both ways, ours decides", "h1", args=["-alpn", "h2,http/1.1"]),
        row("ALPN nothing in common", "plain", args=["-alpn", "spdy/3"]), row("ALPN not configured", "rsa", args=["-alpn", "http/1.1"]),
        # filter chains
        *(row(f"chain {sni}", "chains", sni=sni) for sni in ("a.example", "A.Example", "x.c.example", "y.x.c.example", "z.d.c.example", "c.example", "other.example")),
        row("chain no SNI", "chains", sni=None), row("chain raw", "chains", client=raw_client, then=b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
        row("chain by ALPN", "by_alpn", args=["-alpn", "http/1.1"]), row("chain by second ALPN", "by_alpn", args=["-alpn", "y,x"]),
        row("chain without ALPN", "by_alpn"), row("chain by ALPN, dribbled hello", "by_alpn", client=raw_client, alpn=["http/1.1"], pieces=7),
        row("chain by SNI, dribbled hello", "chains", client=raw_client, pieces=1), *(row(f"JA fingerprints: {name}", "ja", sni=sni, args=args) for name, sni, args in (
            ("all", "a.example", ["-alpn", "http/1.1"]), ("1.2", "a.example", T12), ("no SNI", None, ["-alpn", "x"]), ("1.3 only", "a.example", T13),
            ("few", "a.example", [*T12, "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "-groups", "P-256", "-sigalgs", "ECDSA+SHA256"]))),
        row("JA fingerprints: Python", "ja", client=raw_client, alpn=["http/1.1"]),
        row("PROXY v1 before TLS", "proxy", client=raw_client, prefix=b"PROXY TCP4 10.9.8.7 127.0.0.1 4000 443\r\n"),
        row("PROXY v1 elsewhere", "proxy", client=raw_client, prefix=b"PROXY TCP4 192.0.2.9 127.0.0.1 4000 443\r\n"),
        row("PROXY v2 before TLS", "proxy", client=raw_client,
            prefix=b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x01\x02\x03\x7f\0\0\1\x10\0\x01\xbb", pieces=5),
        row("PROXY v2 LOCAL", "proxy", client=raw_client, prefix=b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", sni="z.example"),
        row("PROXY without", "proxy"),
        # broken bytes
        row("plain HTTP", "plain", client=raw_client, then=b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
        row("garbage", "plain", client=raw_client, then=b"\x16\x03\x01\xff\xff" + b"\xaa" * 70000),
        row("an old hello", "plain", client=raw_client, then=b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\x01\x00\x80" * 7 + b"\x55" * 16),
        row("a hello in pieces", "plain", client=raw_client, pieces=11),
        # client certificates
        *(row(f"required: {leaf or 'none'}", "mtls", leaf=leaf) for leaf in (None, "client", "client_rsa", "client_bare", "client_other", "client_self",
                                                                            "client_behind", "client_server_only", "client_gone", "client_low")),
        *(row(f"required 1.2: {leaf or 'none'}", "mtls", leaf=leaf, args=T12) for leaf in (None, "client", "client_other")),
        *(row(f"optional: {leaf or 'none'}", "optional", leaf=leaf) for leaf in (None, "client", "client_other")),
        row("required without a CA: none", "no_ca"), row("required without a CA: any", "no_ca", leaf="client_self"),
        *(row(f"untrusted is fine: {leaf or 'none'}", "untrusted", leaf=leaf) for leaf in (None, "client", "client_other", "client_self")),
        *(row(f"untrusted with names: {leaf}", "untrusted_san", leaf=leaf) for leaf in ("client", "client_other", "client_rsa")),
        *(row(f"an intermediate is the anchor: {leaf}", "middle_ca", leaf=leaf) for leaf in ("client_behind", "client")),
        *(row(f"two CAs: {leaf}", "two_cas", leaf=leaf) for leaf in ("client", "client_other", "client_self")),
        *(row(f"names of any kind: {leaf}", "old_sans", leaf=leaf) for leaf in ("client", "client_rsa", "client_gone")),
        *(row(f"one of two names: {leaf or 'none'}", "two_sans", leaf=leaf) for leaf in (None, "client", "client_rsa", "client_gone")),
        *(row(f"hash: {leaf or 'none'}", "hash", leaf=leaf) for leaf in (None, "client", "client_rsa", "client_other")),
        *(row(f"hash with colons: {leaf}", "hash_colons", leaf=leaf) for leaf in ("client", "client_other")),
        *(row(f"key hash: {leaf}", "spki", leaf=leaf) for leaf in ("client", "client_rsa")),
        *(row(f"either pin: {leaf}", "pins", leaf=leaf) for leaf in ("client", "client_rsa", "client_gone")),
        *(row(f"pin and name: {leaf}", "pin_and_san", leaf=leaf) for leaf in ("client", "client_rsa")),
        *(row(f"crl: {leaf}", "crl", leaf=leaf) for leaf in ("client", "client_gone", "client_behind")),
        *(row(f"crls of all: {leaf}", "crl_all", leaf=leaf) for leaf in ("client", "client_gone", "client_behind")),
        *(row(f"crl of the leaf: {leaf}", "crl_leaf", leaf=leaf) for leaf in ("client", "client_gone", "client_behind")),
        *(row(f"{depth}: {leaf}", depth, leaf=leaf) for depth in ("depth0", "depth1", "depth2") for leaf in ("client", "client_behind", "client_low")),
        *(row(f"spiffe: {leaf}", "spiffe", leaf=leaf) for leaf in SVIDS), row("spiffe: none", "spiffe"),
        *(row(f"spiffe bundles: {leaf}", "spiffe_bundles", leaf=leaf) for leaf in ("svid", "svid_other", "svid_cross", "svid_stranger")),
        *(row(f"spiffe names: {leaf}", "spiffe_san", leaf=leaf) for leaf in ("svid", "svid_other")),
        # sessions
        row("tickets 1.2", "tickets", *sessions(T12)), row("tickets 1.3", "tickets", *sessions(T13)), row("own tickets 1.2", "plain", *sessions(T12)),
        row("own tickets 1.3", "plain", *sessions(T13)), row("tickets off 1.2: by the cache", "no_tickets", *sessions(T12)),
        row("tickets off 1.3", "no_tickets", *sessions(T13)), row("client without tickets 1.2: by the cache", "plain", *sessions([*T12, "-no_ticket"])),
        row("cache off, client without tickets", "no_cache", *sessions([*T12, "-no_ticket"])), row("cache off: tickets", "no_cache", *sessions(T12)),
        row("neither", "no_sessions", *sessions(T12)), row("the other listener with the same keys", "tickets", *sessions(T12, then="tickets_2")),
        row("the other listener, own keys", "plain", *sessions(T12, then="rsa")), row("other verification", "tickets", *sessions(T12, then="mtls_tickets")),
        row("mTLS resumed 1.2", "mtls", *sessions(T12, leaf="client")), row("mTLS resumed 1.3", "mtls", *sessions(T13, leaf="client")),
        row("mTLS by the cache", "mtls", *sessions([*T12, "-no_ticket"], leaf="client")),
        row("session timeout", "timeout", *sessions(T12)), row("another name", "plain", *sessions(T12, sni="x.b.example")),
        # OCSP
        *(row(f"{name}{' asked' if ask else ''}", "ocsp_" + name, args=STATUS if ask else [])
          for name in ("lenient", "lenient_old", "lenient_none", "strict", "strict_old", "strict_none", "staple", "staple_old", "revoked") for ask in (True, False)
          if ask or name not in ("lenient_none", "strict_none", "revoked")),
        row("staple 1.2", "ocsp_lenient", args=[*T12, *STATUS]),
    ]
    for name, (_, good, bad) in SANS.items():
        rows += [row(f"san {name}: {leaf}", "san_" + name, leaf=leaf) for leaf in (good, bad) if leaf]
    rows.append(row("san without a certificate", "san_dns_exact"))
    sent = "x-forwarded-client-cert: By=spiffe://old;Hash=00;Subject=\"CN=x\"\r\n"
    for mode in (*XFCC, "bare"):
        for leaf in ("client", "client_rsa", None):
            rows.append(row(f"xfcc {mode} {leaf or 'no certificate'}", "xfcc_" + mode.lower(), {"leaf": leaf}, {"leaf": leaf, "more": sent}))
    told = {"text": XFCC_OWN, "array": 'x-forwarded-client-cert: [{"hash":"1"}]\r\n', "empty array": "x-forwarded-client-cert: []\r\n"}
    for listener in ("xfcc_SANITIZE_SET_TEXT", "xfcc_SANITIZE_SET_JSON", "xfcc_APPEND_FORWARD_JSON"):
        rows.append(row(listener, listener, *({"leaf": leaf} for leaf in ("client", "client_bare", "client_behind", None))))
    rows += [row(f"xfcc JSON behind {name}", "xfcc_APPEND_FORWARD_JSON", {"leaf": "client", "more": header}) for name, header in told.items()]
    rows += [row(f"xfcc matcher: {name}", "xfcc_matcher", *({"leaf": leaf, "more": f"{XFCC_OWN}x-m: {name}\r\n"} for leaf in ("client", None)))
             for name in ("set", "forward", "sanitize", "other")]
    rows.append(row("xfcc of a chain", "xfcc_append_forward", leaf="client_behind"))
    return rows


# --- upstream ---

def not_tls(connection):
    """Answers a hello as a server of plain HTTP does."""
    connection.sock.recv(65536)
    connection.send("HTTP/1.1 400 Bad Request\r\n\r\n")


def servers(c):
    h1 = {"alpn": ["http/1.1"]}
    return {
        "up": (c.up, h1), "up_rsa": (c.up_rsa, {}), "up_bare": (c.up_bare, {}), "up_behind": (c.up_behind, {}), "up_wrong": (c.client_other, {}),
        "up_client_only": (c.up_client_only, {}), "up_no_signing": (c.up_no_signing, {"most": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE-RSA-AES128-GCM-SHA256"}),
        "up_mtls": (c.up, {"ca": c.ca.cert}), "up_mtls_other": (c.up, {"ca": c.other_ca.cert}),
        "up_12": (c.up, {"most": ssl.TLSVersion.TLSv1_2}), "up_13": (c.up, {"least": ssl.TLSVersion.TLSv1_3}),
        "up_384": (c.up, {"curve": "secp384r1"}), "up_cbc": (c.up_rsa, {"most": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE-RSA-AES128-SHA"}),
        "up_svid": (c.svid, {}), "raw": not_tls,
    }


def utx(validation=None, over=None, **common):
    body = dict(common)
    if validation is not None:
        body["validation_context"] = validation
    return {"common_tls_context": body, **(over or {})}


def clusters(c):
    ca = {"trusted_ca": file(c.ca.cert)}
    any_version = {"tls_maximum_protocol_version": "TLSv1_3"}

    def san(matcher):
        return {**ca, "match_typed_subject_alt_names": [matcher]}
    return {
        "bare": {"to": "up", "tls": utx()}, "sni": {"to": "up", "tls": utx(over={"sni": "up.example"})},
        "alpn": {"to": "up", "tls": utx(alpn_protocols=["h2", "http/1.1"])}, "no_alpn": {"to": "up_rsa", "tls": utx(alpn_protocols=["http/1.1"])},
        "ca": {"to": "up", "tls": utx(ca)}, "ca_rsa": {"to": "up_rsa", "tls": utx(ca)}, "ca_chain": {"to": "up_behind", "tls": utx(ca)},
        "ca_wrong": {"to": "up_wrong", "tls": utx(ca)}, "ca_accept": {"to": "up_wrong", "tls": utx({**ca, "trust_chain_verification": "ACCEPT_UNTRUSTED"})},
        "ca_usage": {"to": "up_client_only", "tls": utx(ca)},
        "san_good": {"to": "up", "tls": utx(san({"san_type": "DNS", "matcher": {"exact": "up.example"}}))},
        "san_wild": {"to": "up", "tls": utx(san({"san_type": "DNS", "matcher": {"exact": "x.w.example"}}))},
        "san_uri": {"to": "up", "tls": utx(san({"san_type": "URI", "matcher": {"prefix": "spiffe://up/"}}))},
        "san_ip": {"to": "up", "tls": utx(san({"san_type": "IP_ADDRESS", "matcher": {"exact": "127.0.0.1"}}))},
        "san_bad": {"to": "up", "tls": utx(san({"san_type": "DNS", "matcher": {"exact": "other.example"}}))},
        "san_none": {"to": "up_bare", "tls": utx(san({"san_type": "DNS", "matcher": {"exact": "up.bare"}}))},
        "hash": {"to": "up", "tls": utx({"verify_certificate_hash": [c.up.hash()]})},
        "hash_bad": {"to": "up", "tls": utx({"verify_certificate_hash": [c.client.hash()]})},
        "spki": {"to": "up", "tls": utx({"verify_certificate_spki": [c.up.spki()]})},
        "auto_san": {"to": "up", "tls": utx(ca, {"sni": "up.example", "auto_sni_san_validation": True})},
        "auto_bad": {"to": "up", "tls": utx(ca, {"sni": "other.example", "auto_sni_san_validation": True})},
        "mtls": {"to": "up_mtls", "tls": utx(tls_certificates=[c.client.config()])},
        "mtls_none": {"to": "up_mtls", "tls": utx()}, "mtls_13": {"to": "up_mtls", "tls": utx(tls_certificates=[c.client_rsa.config()], tls_params=any_version)},
        "mtls_other": {"to": "up_mtls_other", "tls": utx(tls_certificates=[c.client.config()])},
        "v12": {"to": "up_12", "tls": utx()}, "v13_default": {"to": "up_13", "tls": utx()}, "v13": {"to": "up_13", "tls": utx(tls_params=any_version)},
        "v13_any": {"to": "up", "tls": utx(tls_params=any_version)},
        "curve": {"to": "up_384", "tls": utx(tls_params={**any_version, "ecdh_curves": ["P-384"]})}, "no_curve": {"to": "up_384", "tls": utx(tls_params=any_version)},
        "cbc": {"to": "up_cbc", "tls": utx()}, "cbc_set": {"to": "up_cbc", "tls": utx(tls_params={"cipher_suites": ["ECDHE-RSA-AES128-SHA"]})},
        "cipher": {"to": "up_rsa", "tls": utx(tls_params={"cipher_suites": ["ECDHE-RSA-AES256-GCM-SHA384"]})},
        "sigalg": {"to": "up_rsa", "tls": utx(tls_params={"signature_algorithms": ["rsa_pss_rsae_sha384"]})},
        "usage": {"to": "up_no_signing", "tls": utx(over={"enforce_rsa_key_usage": True})},
        "usage_off": {"to": "up_no_signing", "tls": utx(over={"enforce_rsa_key_usage": False})},
        "spiffe_good": {"to": "up_svid", "tls": utx(spiffe(c))}, "spiffe_bad": {"to": "up", "tls": utx(spiffe(c))},
        "not_tls": {"to": "raw", "tls": utx(ca)}, "plain_to_tls": {"to": "up"},
        "auto_sni": {"to": "up", "tls": utx(ca), "typed_extension_protocol_options": auto(auto_sni=True)},
        "auto_validation": {"to": "up", "tls": utx(ca), "typed_extension_protocol_options": auto(auto_sni=True, auto_san_validation=True)},
        "override": {"to": "up", "tls": utx(ca), "typed_extension_protocol_options": auto(auto_sni=True, override_auto_sni_header="x-sni")},
        "fewer": {"to": "up_12", "tls": utx(over={"max_session_keys": 0})}, "sessions": {"to": "up_12", "tls": utx(over={"sni": "up.example"})},
        "host_sni": {"to": "up", "tls": utx(over={"auto_host_sni": True, "sni": "fallback.example"})},
    }


def auto(**fields):
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {name: {"@type": "type.googleapis.com/" + name, "explicit_http_config": {"http_protocol_options": {}}, "upstream_http_protocol_options": fields}}


# Requests of each cluster; headers where they matter.
UP_REQUESTS = {"override": {"headers": {"x-sni": "up.example"}}}
assert TLS and openssl_client and server_context
