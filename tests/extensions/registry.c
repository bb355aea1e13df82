/* The table of the program skiff_extensions: all extensions and those of tests/extensions. It takes
 * the place of the one in filters/registry.c. */
#include "filters/registry.h"

#include "proxy/api/access_logger.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/lb_policy.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/transport_socket.h"

#define E(kind, type, symbol) extern const struct type symbol;
#include "filters/extensions.def"
#include "tests/extensions/extensions.def"
#undef E

static const struct registry_entry entries[] = {
#define E(kind, type, symbol) {kind, &symbol.ext},
#include "filters/extensions.def"
#include "tests/extensions/extensions.def"
#undef E
};

const struct registry filters_registry = {entries, sizeof entries / sizeof entries[0]};
