/* POST /v3/discovery:client_status: the client status API (CSDS) in its HTTP form. */
#include "base/arena.h"
#include "base/errors.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "server/admin_internal.h"
#include "server/server.h"
#include "xds/client_status.h"
#include "xds/xds.h"

static const Envoy__Service__Status__V3__ClientStatusRequest *status_question(
    struct admin_request *r, struct errors *errors)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct str text = r->body.len ? r->body : STR("{}");
    ProtobufCMessage *m =
        json_read(r->arena, &envoy__service__status__v3__client_status_request__descriptor, text,
                  JSON_FORMAT_JSON, NULL, &lenient, errors);
    return m && proto_check(m, &lenient, NULL, errors) ? (const void *)m : NULL;
}

void admin_page_client_status(struct admin_request *r)
{
    enum { BAD_REQUEST = 400 };
    struct errors errors = {.arena = r->arena};
    const Envoy__Service__Status__V3__ClientStatusRequest *q = status_question(r, &errors);
    Envoy__Service__Status__V3__ClientStatusResponse *m =
        q ? client_status(r->server->xds, q, r->arena, &errors) : NULL;
    if (m) {
        admin_json(r, &m->base, false);
        return;
    }
    struct str why = errors_text(&errors, r->arena, STR("ClientStatusRequest"));
    admin_error(r, BAD_REQUEST, "%.*s\n", STR_ARG(why));
}
