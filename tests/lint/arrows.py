"""Who may include whom: the one table. A room may include itself and what is listed for it."""
import re

BASE = {"base"}
PROTO = BASE | {"proto", "generated"}
STATS = BASE | {"proxy/stats"}
API = STATS | {"proxy/api"}
RUNTIME = API | {"proxy/runtime"}
NET = RUNTIME | {"proxy/net"}
HTTP = NET | {"proxy/http"}
UPSTREAM = HTTP | {"proxy/upstream"}
CONFIG = UPSTREAM | {"proxy/config"} | PROTO
EXTENSION = API | PROTO | {"filters", "filters/common"}

ALLOWED = {
    "base": BASE,
    "proto": PROTO,
    "proxy/stats": STATS,
    "proxy/api": API,
    "proxy/runtime": RUNTIME,
    "proxy/net": NET,
    "proxy/http": HTTP,
    "proxy/upstream": UPSTREAM,
    "proxy/config": CONFIG,
    "proxy": CONFIG,
    # An extension needs only the API; the two shells that carry the proxy's own machinery (the connection manager, the
    # router and what stands beside them) reach for it.
    "filters": CONFIG | EXTENSION,
    "filters/common": API | PROTO,
    "xds": CONFIG | EXTENSION | {"xds"},
    "server": CONFIG | EXTENSION | {"xds", "server"},
    "tests": None,
}
# Single headers that may be included against the arrows, with the reason.
EXCEPTIONS = {
    ("filters/common", "proxy/runtime/runtime.h"): "the store of statistics hangs on the runtime; asked when configuration is made",
    ("proxy/api", "proxy/runtime/obj.h"): "the head of every refcounted object: a type, no behaviour of the runtime",
}
# Libraries stop at their wrapper files (style.md, rule 14).
LIBRARIES = {
    "ev.h": [r"base/loop\w*\.c"],
    "re2/": [r"base/\w+\.cc"],
    "nghttp2/": [r"proxy/http/h2\w*\.[ch]"],
    "llhttp.h": [r"proxy/http/h1\w*\.[ch]"],
    "ares.h": [r"proxy/upstream/dns\w*\.[ch]"],
    "grpc/": [r"xds/grpc\w*\.[ch]", r"xds/source_grpc\.c"],
    "yaml.h": [r"proto/\w+\.[ch]"],
    "openssl/": [r"proxy/net/\w+\.[ch]", r"filters/.*\.c", r"base/\w+\.c", r"server/\w+\.c"],
    "jansson.h": [r"filters/.*\.c", r"proxy/.*\.c"],
}


def room_of(path):
    """The room of a file or of an included path; None for what is no room's (tests, system headers)."""
    if re.match(r"(envoy|google|xds|udpa|validate|skiff)/.*\.pb-c\.h$", path) or path.endswith(".pb-c.h"):
        return "generated"
    parts = path.split("/")
    if parts[0] == "proxy":
        return "/".join(parts[:2]) if len(parts) > 2 else "proxy"
    if parts[0] == "filters":
        return "filters/common" if len(parts) > 2 and parts[1] == "common" else "filters"
    return parts[0] if parts[0] in ("base", "proto", "xds", "server") and len(parts) > 1 else None
