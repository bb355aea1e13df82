/* Builds the constant table of extensions from extensions.def (and, in the test program
 * skiff_extensions, from one list more). */
#include "filters/registry.h"

#include "proxy/api/access_logger.h"
#include "proxy/api/early_headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/lb_policy.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/original_ip.h"
#include "proxy/api/tls.h"
#include "proxy/api/transport_socket.h"
#include "proxy/api/udp.h"

#define E(kind, type, symbol) extern const struct type symbol;
#include "filters/extensions.def"
#ifdef SKIFF_MORE_EXTENSIONS
#include SKIFF_MORE_EXTENSIONS
#endif
#undef E

extern const struct http_filter_type http_missing;

/* A leading row that no search finds keeps the table non-empty. */
static const struct registry_entry entries[] = {
    {EXTENSION_KINDS, NULL},
#define E(kind, type, symbol) {kind, &symbol.ext},
#include "filters/extensions.def"
#ifdef SKIFF_MORE_EXTENSIONS
#include SKIFF_MORE_EXTENSIONS
#endif
#undef E
};

const struct registry filters_registry = {.entries = entries + 1,
                                          .count = sizeof entries / sizeof entries[0] - 1,
                                          .missing_filter = &http_missing.ext,
                                          .missing = filters_missing};
