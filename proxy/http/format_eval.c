/* Values of operators about the stream itself: codes, sizes, times, names, ids. */
#include <stdint.h>

#include "base/arena.h"
#include "base/loop.h"
#include "base/rand.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/route.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/tls_info.h"
#include "proxy/http/format_internal.h"
#include "proxy/http/response_flags.h"
#include "proxy/runtime/runtime.h"

void eval_nothing(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    (void)p;
    (void)cx;
    (void)r;
}

void eval_constant(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    (void)cx;
    r->kind = FORMAT_STRING;
    r->text = p->name;
}

void eval_time(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    bool start = p->op->n == N_START || p->op->n == N_START_LOCAL;
    uint64_t wall = start ? cx->info->start_wall_us : clock_wall_us();
    format_set_text(r, time_format_dup(p->time, wall, cx->scratch));
}

static struct str protocol_text(enum http_protocol p)
{
    switch (p) {
    case HTTP_PROTOCOL_NONE: return STR_NONE;
    case HTTP_PROTOCOL_10: return STR("HTTP/1.0");
    case HTTP_PROTOCOL_11: return STR("HTTP/1.1");
    case HTTP_PROTOCOL_2: return STR("HTTP/2");
    case HTTP_PROTOCOL_3: return STR("HTTP/3");
    }
    return STR_NONE;
}

void eval_protocol(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    format_set_text(r,
                    protocol_text(p->op->n == N_UP ? cx->info->up.protocol : cx->info->protocol));
}

static uint64_t header_bytes(const struct headers *h)
{
    return h ? h->bytes : 0;
}

void eval_number(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    const struct stream_info *i = cx->info;
    uint64_t n = 0;
    switch ((enum format_number)p->op->n) {
    case N_RESPONSE_CODE: n = i->response_code; break;
    case N_BYTES_RECEIVED: n = i->bytes_received; break;
    case N_BYTES_SENT: n = i->bytes_sent; break;
    case N_REQ_HEADER_BYTES: n = header_bytes(i->req); break;
    case N_RESP_HEADER_BYTES: n = header_bytes(i->resp); break;
    case N_RESP_TRAILER_BYTES: n = header_bytes(i->resp_trailers); break;
    case N_UP_WIRE_SENT: n = i->up.wire_sent; break;
    case N_UP_WIRE_RECEIVED: n = i->up.wire_received; break;
    case N_DOWN_WIRE_SENT: n = i->wire_sent; break;
    case N_DOWN_WIRE_RECEIVED: n = i->wire_received; break;
    case N_UP_HEADER_SENT: n = i->up.header_sent; break;
    case N_UP_HEADER_RECEIVED: n = i->up.header_received; break;
    case N_DOWN_HEADER_SENT: n = i->header_sent; break;
    case N_DOWN_HEADER_RECEIVED: n = i->header_received; break;
    case N_ZERO: break;
    case N_ATTEMPTS: n = i->up.attempts; break;
    case N_CONN_ID: n = i->conn ? i->conn->id : 0; break;
    case N_UP_CONN_ID: n = i->up.conn_id; break;
    }
    format_set_number(r, n);
}

/* Envoy: no spaces, so that a line stays easy to split. */
static struct str underscored(struct str s, struct arena *a)
{
    if (str_find_char(s, ' ') == SIZE_MAX) return s;
    char *copy = str_z(a, s);
    for (size_t i = 0; i < s.len; i++) {
        if (copy[i] == ' ') copy[i] = '_';
    }
    return str_make(copy, s.len);
}

void eval_details(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    struct str d = cx->info->code_details;
    format_set_text(r, p->choice ? d : underscored(d, cx->scratch));
}

void eval_flags(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    r->kind = FORMAT_STRING; /* "-" is Envoy's own text here: omit_empty_values keeps it */
    r->text = cx->info->flags ? response_flags_text(cx->info->flags, p->op->n != 0, cx->scratch)
                              : STR("-");
}

static struct str text_fact(int n, const struct stream_info *i)
{
    switch ((enum format_text_fact)n) {
    case N_TERMINATION: return i->conn ? i->conn->termination_details : STR_NONE;
    case N_ROUTE_NAME: return i->route ? i->route->name : STR_NONE;
    case N_VIRTUAL_CLUSTER: return i->virtual_cluster;
    case N_FILTER_CHAIN: return i->conn ? i->conn->filter_chain_name : STR_NONE;
    case N_LISTENER: return i->conn ? i->conn->listener_name : STR_NONE;
    case N_CLUSTER: return i->up.cluster_stat.len ? i->up.cluster_stat : i->up.cluster;
    case N_CLUSTER_RAW: return i->up.cluster;
    case N_HOSTS_ATTEMPTED: return i->up.hosts_attempted;
    case N_NAMES_ATTEMPTED: return i->up.host_names_attempted;
    case N_CONN_IDS_ATTEMPTED: return i->up.conn_ids_attempted;
    case N_STREAM_ID: return i->request_id;
    case N_UP_FAILURE: return i->up.transport_failure;
    case N_DOWN_FAILURE: return i->conn ? i->conn->transport_failure : STR_NONE;
    case N_JA3: return i->conn ? i->conn->ja3 : STR_NONE;
    case N_JA4: return i->conn ? i->conn->ja4 : STR_NONE;
    }
    return STR_NONE;
}

void eval_text(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    format_set_text(r, text_fact(p->op->n, cx->info));
}

void eval_underscored(const struct format_part *p, const struct format_cx *cx,
                      struct format_result *r)
{
    format_set_text(r, underscored(text_fact(p->op->n, cx->info), cx->scratch));
}

static void set_span(struct format_result *r, uint64_t from_us, uint64_t to_us)
{
    if (!to_us || !from_us || to_us < from_us) return;
    format_set_number(r, (to_us - from_us) / 1000);
}

static uint64_t stream_end(const struct stream_info *i)
{
    if (i->end_us) return i->end_us;
    return i->worker ? loop_now_us(i->worker->loop) : clock_now_us();
}

void eval_ms(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    const struct stream_info *i = cx->info;
    switch ((enum format_ms)p->op->n) {
    case N_TOTAL: set_span(r, i->start_us, stream_end(i)); return;
    case N_REQ_DONE: set_span(r, i->start_us, i->last_rx_us); return;
    case N_REQ_TX: set_span(r, i->start_us, i->up.last_tx_us); return;
    case N_RESP_FIRST: set_span(r, i->start_us, i->up.first_rx_us); return;
    case N_RESP_TX: set_span(r, i->up.first_rx_us, i->last_tx_us); return;
    case N_HANDSHAKE: return; /* the connection does not record it */
    case N_POOL_READY: set_span(r, i->start_us, i->up.pool_ready_us); return;
    }
}

/* Monotonic time of a named point; 0: it did not happen. */
static uint64_t duration_point(const struct stream_info *i, struct str name)
{
    const struct upstream_info *u = &i->up;
    const struct {
        const char *name;
        uint64_t at;
    } points[] = {
        {"DS_RX_BEG", i->start_us},
        {"DS_RX_END", i->last_rx_us},
        {"US_CX_BEG", u->cx_begin_us},
        {"US_CX_END", u->cx_end_us},
        {"US_HS_END", u->handshake_end_us},
        {"US_TX_BEG", u->first_tx_us},
        {"US_TX_END", u->last_tx_us},
        {"US_RX_BEG", u->first_rx_us},
        {"US_RX_BODY_BEG", u->first_body_us},
        {"US_RX_END", u->last_rx_us},
        {"DS_TX_BEG", i->first_tx_us},
        {"DS_TX_END", i->last_tx_us},
        {"DS_CX_BEG", i->conn ? i->conn->start_us : 0},
        {"DS_CX_END", i->end_us},
    };
    for (size_t k = 0; k < sizeof points / sizeof points[0]; k++) {
        if (str_eq(name, str_of(points[k].name))) return points[k].at;
    }
    return 0;
}

void eval_common_duration(const struct format_part *p, const struct format_cx *cx,
                          struct format_result *r)
{
    uint64_t from = duration_point(cx->info, p->name), to = duration_point(cx->info, p->other);
    if (!from || !to || to < from) return;
    uint64_t us = to - from;
    format_set_number(r, p->choice == 0 ? us / 1000 : p->choice == 1 ? us : us * 1000);
}

void eval_unique_id(const struct format_part *p, const struct format_cx *cx,
                    struct format_result *r)
{
    (void)p;
    char id[37];
    struct rng own;
    struct rng *rng = &own;
    if (cx->info->worker)
        rng = &cx->info->worker->rng;
    else
        rng_init(&own, 0);
    rng_uuid(rng, id);
    format_set_text(r, str_dup(cx->scratch, str_make(id, 36)));
}

void eval_reply_body(const struct format_part *p, const struct format_cx *cx,
                     struct format_result *r)
{
    (void)p;
    r->kind =
        FORMAT_STRING; /* Envoy: no body is an empty text, not "-"; access logs never see one */
    r->text = cx->type == ACCESS_LOG_TYPE_NONE ? cx->info->local_reply_body : STR_NONE;
}

void eval_log_type(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    static const char *const names[] = {"NotSet",
                                        "TcpUpstreamConnected",
                                        "TcpPeriodic",
                                        "TcpConnectionEnd",
                                        "DownstreamStart",
                                        "DownstreamPeriodic",
                                        "DownstreamEnd",
                                        "UpstreamPoolReady",
                                        "UpstreamPeriodic",
                                        "UpstreamEnd",
                                        "DownstreamTunnelSuccessfullyEstablished",
                                        "UdpTunnelUpstreamConnected",
                                        "UdpPeriodic",
                                        "UdpSessionEnd",
                                        "TcpConnectionStart"};
    (void)p;
    if ((size_t)cx->type < sizeof names / sizeof names[0])
        format_set_text(r, str_of(names[cx->type]));
}

static const struct metadata *metadata_of(int which, const struct stream_info *i)
{
    switch (which) {
    case N_MD_DYNAMIC: return i->dynamic;
    case N_MD_CLUSTER: return i->up.cluster_metadata;
    case N_MD_ROUTE: return i->route ? i->route->metadata : NULL;
    case N_MD_UPSTREAM_HOST: return i->up.host_metadata;
    case N_MD_VIRTUAL_HOST: return i->vhost ? i->vhost->metadata : NULL;
    default: return NULL; /* the listener's are not kept */
    }
}

void eval_metadata(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    const struct value *v =
        metadata_find(metadata_of(p->choice, cx->info), p->name, p->path, p->path_count);
    if (!v || v->kind == VALUE_NULL) return;
    if (v->kind == VALUE_STRING) {
        r->kind = FORMAT_STRING;
        r->text = v->u.text;
        return;
    }
    r->kind = FORMAT_VALUE;
    r->value = v;
}

/* Envoy: a field is a text, whatever its kind. */
static void eval_state_field(const struct filter_state_entry *e, struct str name,
                             const struct format_cx *cx, struct format_result *r)
{
    const struct value *v = e && e->fields ? value_field(e->value, name) : NULL;
    if (!v) return;
    r->kind = FORMAT_STRING;
    r->text = v->kind == VALUE_STRING ? v->u.text : value_text(v, cx->scratch);
}

void eval_filter_state(const struct format_part *p, const struct format_cx *cx,
                       struct format_result *r)
{
    if (p->op->n == N_UP) return; /* no upstream filter state yet */
    const struct filter_state_entry *e = filter_state_find(cx->info->state, p->name);
    if (!e && cx->info->conn) e = filter_state_find(cx->info->conn->state, p->name);
    enum { PLAIN = 1, FIELD = 3 };
    if (p->choice == FIELD) {
        eval_state_field(e, p->other, cx, r);
        return;
    }
    if (e && e->value && p->choice != PLAIN) {
        r->kind = FORMAT_VALUE;
        r->value = e->value;
        return;
    }
    if (!e || !e->text) return;
    r->kind = FORMAT_STRING;
    r->text = e->text(e->object, cx->scratch);
}

void format_eval(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    r->kind = FORMAT_NOTHING;
    for (size_t i = 0; i < p->alternative_count && r->kind == FORMAT_NOTHING; i++) {
        format_eval(&p->alternatives[i], cx, r);
        if (r->kind == FORMAT_STRING && !r->text.len) r->kind = FORMAT_NOTHING;
    }
    if (!p->alternative_count) p->op->eval(p, cx, r);
    if (r->kind == FORMAT_STRING && r->text.len > p->most) r->text.len = p->most;
}
