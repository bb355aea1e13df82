"""h2spec against Skiff: prior knowledge (codec AUTO and HTTP2) and TLS. Prints one line for each case that is not as
wanted, then the counts; `--json FILE` gets them, too.

    run.py --skiff BINARY --h2spec BINARY [--json FILE]
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import config  # noqa: E402
from harness.proxy import Proxy  # noqa: E402
from harness.upstream import Upstream  # noqa: E402

CASES = 145
TIMEOUT = 10  # seconds that h2spec waits for what must come
TLS = config.TYPE + "extensions.transport_sockets.tls.v3.DownstreamTlsContext"
# With codec AUTO bytes that are no preface are HTTP/1, and bad HTTP/1 is answered (400) before the connection closes;
# the case takes any byte before the close for a mistake. Envoy answers the same.
CANNOT = {("auto", "http2/3.5", "Sends invalid connection preface")}


def certificate(folder):
    key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
                    "-out", cert, "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True)
    return {"certificate_chain": {"filename": cert}, "private_key": {"filename": key}}


def listener(name, pair=None, **hcm):
    out = config.listener(name, [config.hcm(stat_prefix=name, **hcm)])
    if pair:
        context = {"@type": TLS, "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [pair]}}
        out["filter_chains"][0]["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return out


def answer(connection):
    """The upstream: nothing before the request is whole (an early answer would end its stream in the middle of a case),
    then 1000 bytes, as the cases on windows need."""
    while True:
        request = connection.read_request()
        connection.read_body(request)
        connection.answer({"body": "x" * 1000}, request, "a")


def run(h2spec, port, folder, arguments):
    """{(section, title): passed} of one run; a title that comes twice in a section gets a number."""
    report = os.path.join(folder, "report.xml")
    subprocess.run([h2spec, "-h", "127.0.0.1", "-p", str(port), "-o", str(TIMEOUT), "-j", report, *arguments],
                   stdout=subprocess.DEVNULL, check=False, timeout=1800)
    out = {}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        key, number = (case.get("package"), case.get("classname")), 2
        while key in out:
            key, number = (case.get("package"), f"{case.get('classname')} ({number})"), number + 1
        out[key] = len(case) == 0  # skipped, failed and error are elements
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--skiff", required=True)
    parser.add_argument("--h2spec", required=True)
    parser.add_argument("--json")
    given = parser.parse_args()
    passed, failed, flaky = 0, [], []
    with tempfile.TemporaryDirectory(prefix="skiff-h2spec-") as folder:
        listeners = [listener("auto"), listener("http2", codec_type="HTTP2"), listener("tls", certificate(folder))]
        upstream = Upstream("a", handler=answer)
        proxy = Proxy(os.path.abspath(given.skiff), config.bootstrap(listeners, [config.cluster("a", [upstream.port])]))
        for name, arguments in (("auto", []), ("http2", []), ("tls", ["-t", "-k"])):
            first = run(given.h2spec, proxy.port(name), folder, arguments)
            wrong = [case for case, good in first.items() if not good and (name, *case) not in CANNOT]
            if wrong:
                again = run(given.h2spec, proxy.port(name), folder, arguments)
                flaky += [f"h2spec {name} {' '.join(case)}" for case in wrong if again.get(case)]
                wrong = [case for case in wrong if not again.get(case)]
            if len(first) != CASES:
                wrong.append(("", f"{len(first)} cases ran, not {CASES}"))
            failed += [f"h2spec {name} {' '.join(case)}" for case in wrong]
            passed += len(first) - len(wrong)
            print(f"h2spec {name}: {sum(first.values())} of {len(first)} passed", flush=True)
        proxy.stop()
        upstream.stop()
    for case in failed:
        print(f"failed: {case}")
    for case in flaky:
        print(f"flaky: {case}")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as out:
            json.dump({"passed": passed, "failed": len(failed), "flaky": flaky}, out)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
