/* Values of operators that look into headers: names, paths, query, gRPC status, server name, XFCC.
 */
#include <stdint.h>

#include "base/arena.h"
#include "base/text.h"
#include "proxy/api/headers.h"
#include "proxy/api/stream_info.h"
#include "proxy/http/format_internal.h"
#include "proxy/http/local_reply.h"
#include "proxy/http/matcher.h"

static struct str header_value(const struct headers *h, uint16_t id, struct str name)
{
    if (!h || !name.len) return STR_NONE;
    return id != HDR_OTHER ? headers_get(h, (enum header_id)id) : headers_find(h, name);
}

static struct str header_or_other(const struct format_part *p, const struct format_cx *cx)
{
    const struct stream_info *i = cx->info;
    const struct headers *h = p->op->n == N_REQ    ? i->req
                              : p->op->n == N_RESP ? i->resp
                                                   : i->resp_trailers;
    struct str v = header_value(h, p->id, p->name);
    return v.ptr ? v : header_value(h, p->other_id, p->other);
}

void eval_header(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    struct str v = header_or_other(p, cx);
    if (!v.ptr) return;
    r->kind = FORMAT_STRING;
    r->text = v;
}

static struct str without_query(struct str path)
{
    size_t at = str_find_char(path, '?');
    return at == SIZE_MAX ? path : str_sub(path, 0, at);
}

void eval_header_no_query(const struct format_part *p, const struct format_cx *cx,
                          struct format_result *r)
{
    struct str v = header_or_other(p, cx);
    if (!v.ptr) return;
    r->kind = FORMAT_STRING;
    r->text = without_query(v);
}

static struct str request_path(const struct stream_info *i)
{
    return i->req ? headers_get(i->req, HDR_PATH) : STR_NONE;
}

void eval_query_param(const struct format_part *p, const struct format_cx *cx,
                      struct format_result *r)
{
    struct str v = query_find(request_path(cx->info), p->name);
    if (!v.ptr) return;
    r->kind = FORMAT_STRING;
    r->text = str_find_char(v, '%') == SIZE_MAX ? v : percent_decode(cx->scratch, v);
}

void eval_query_params(const struct format_part *p, const struct format_cx *cx,
                       struct format_result *r)
{
    struct str path, query;
    if (!str_cut(request_path(cx->info), '?', &path, &query)) return;
    format_set_text(r, p->choice ? percent_decode(cx->scratch, query) : query);
}

void eval_path(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    const struct headers *h = cx->info->req;
    if (!h) return;
    struct str original = headers_get(h, HDR_X_ENVOY_ORIGINAL_PATH),
               path = headers_get(h, HDR_PATH), v = original;
    if (p->choice2 == 2 || (p->choice2 == 0 && !original.ptr)) v = path;
    if (!v.ptr) return;
    format_set_text(r, p->choice ? without_query(v) : v);
}

static const char *const grpc_camel[] = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};
static const char *const grpc_snake[] = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

bool format_grpc_status(const struct stream_info *i, uint64_t *status)
{
    struct str v = i->resp_trailers ? headers_get(i->resp_trailers, HDR_GRPC_STATUS) : STR_NONE;
    if (v.len == 0) v = i->resp ? headers_get(i->resp, HDR_GRPC_STATUS) : STR_NONE;
    if (v.len) {
        if (!str_to_u64(v, status)) *status = GRPC_STATUS_INVALID;
        return true;
    }
    if (!i->response_code) return false;
    *status = (uint64_t)grpc_status_of_http(i->response_code);
    return true;
}

void eval_grpc(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    uint64_t status = 0;
    if (!cx->info->req || !headers_is_grpc(cx->info->req) || !format_grpc_status(cx->info, &status))
        return;
    if (status == GRPC_STATUS_INVALID) {
        format_set_text(r, STR("-1"));
    } else if (p->op->n == 1 || p->choice == 2) {
        format_set_number(r, status);
    } else if (status < sizeof grpc_camel / sizeof grpc_camel[0]) {
        format_set_text(r, str_of(p->choice == 1 ? grpc_snake[status] : grpc_camel[status]));
    } else {
        format_set_text(r, str_fmt(cx->scratch, "%llu", (unsigned long long)status));
    }
}

void eval_server_name(const struct format_part *p, const struct format_cx *cx,
                      struct format_result *r)
{
    const struct stream_info *i = cx->info;
    struct str sni = i->conn ? i->conn->sni : STR_NONE, host = STR_NONE;
    if (p->choice != 0 && i->req) {
        struct str original = headers_get(i->req, HDR_X_ENVOY_ORIGINAL_HOST),
                   now = headers_get(i->req, HDR_AUTHORITY);
        host = p->choice2 == 1 || (p->choice2 == 0 && !original.ptr) ? now : original;
    }
    if (p->choice == 2)
        format_set_text(r, host.len ? host : sni);
    else
        format_set_text(r, sni.len || p->choice == 0 ? sni : host);
}

/* One element of XFCC: Key=Value;Key="quoted, value". Gives back the value of the key in its own
 * quotes' absence. */
static struct str xfcc_value(struct str element, struct str key, struct arena *a)
{
    struct sb out = {0};
    size_t i = 0;
    while (i < element.len) {
        size_t from = i;
        while (i < element.len && element.ptr[i] != '=' && element.ptr[i] != ';')
            i++;
        struct str name = str_trim(str_sub(element, from, i - from));
        sb_clear(&out);
        if (i < element.len && element.ptr[i] == '=') i++;
        bool quoted = i < element.len && element.ptr[i] == '"';
        if (quoted) i++;
        while (i < element.len && (quoted ? element.ptr[i] != '"' : element.ptr[i] != ';')) {
            if (quoted && element.ptr[i] == '\\' && i + 1 < element.len) i++;
            sb_char(&out, element.ptr[i++]);
        }
        while (i < element.len && element.ptr[i] != ';')
            i++;
        i++;
        if (str_case_eq(name, key)) break;
        sb_clear(&out);
    }
    struct str v = out.len ? str_dup(a, sb_str(&out)) : STR_NONE;
    sb_release(&out);
    return v;
}

void eval_xfcc(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
{
    if (!cx->info->req) return;
    struct str all = headers_get(cx->info->req, HDR_X_FORWARDED_CLIENT_CERT);
    bool quoted = false;
    size_t from = 0;
    for (size_t i = 0; i <= all.len && all.ptr; i++) {
        if (i < all.len && all.ptr[i] == '"' && (i == 0 || all.ptr[i - 1] != '\\'))
            quoted = !quoted;
        if (i < all.len && (quoted || all.ptr[i] != ',')) continue;
        format_set_text(r, xfcc_value(str_sub(all, from, i - from), p->name, cx->scratch));
        if (r->kind != FORMAT_NOTHING) return;
        from = i + 1;
    }
}
