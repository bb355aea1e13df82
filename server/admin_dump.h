/* The sections of /config_dump. All that they point to is in the request's arena or as old as the
 * process, so that they stay while the page is written. Main thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "envoy/admin/v3/config_dump.pb-c.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "xds/xds.h"

struct admin_request;
struct arena;
struct regex;

enum { DUMP_SECTIONS_MOST = 12 };
/* All sections in Envoy's order, without resources whose name the filter (NULL: none) does not
 * match as a whole; ?include_eds adds the endpoints. Gives back how many. */
size_t dump_sections(struct admin_request *r, const struct regex *filter,
                     ProtobufCMessage *out[DUMP_SECTIONS_MOST]);

/* --- sections in a file of their own (admin_dump_routes.c)
 * ----------------------------------------------------------------- */
ProtobufCMessage *dump_routes(struct admin_request *r, const struct regex *filter);
ProtobufCMessage *dump_scoped_routes(struct admin_request *r, const struct regex *filter);

/* --- what sections are made of (admin_dump_sections.c)
 * ------------------------------------------------------------------------- */

/* The resources of a kind, copied into the request's arena and sorted by name. */
struct dump_views {
    struct arena *arena;
    const struct regex *filter; /* of names; NULL: all */
    struct xds_view *v;
    size_t count, cap;
};
struct dump_views dump_views_of(struct admin_request *r, const struct regex *filter,
                                enum xds_kind kind);
/* Microseconds since 1970 in whole milliseconds, as Envoy shows them. */
Google__Protobuf__Timestamp *dump_time(struct arena *a, uint64_t wall_us);
/* The accepted resource; NULL: none. Borrows the view's bytes. */
Google__Protobuf__Any *dump_config(struct arena *a, const struct xds_view *v);
/* What was refused last; NULL: nothing. Borrows the view's bytes. */
Envoy__Admin__V3__UpdateFailureState *dump_failure(struct arena *a, const struct xds_view *v);
/* static_resources of the bootstrap, empty when it has none. */
const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *dump_statics(
    const struct admin_request *r);
bool dump_named(const struct regex *filter, const char *name);
