/* What the answer of an authorization service changes in a request or response. A header that could
 * not be sent makes the whole answer invalid. */
#include "base/arena.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/service/auth/v3/external_auth.pb-c.h"
#include "filters/http/ext_authz.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/headers.h"

static bool sendable_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];
        if (c <= ' ' || c >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", c)) return false;
    }
    return name.len > 0;
}

/* Where a message ends and whom it is for is not an authorization service's to say. */
static bool framing_name(struct str name)
{
    static const char *const names[] = {"host",       "content-length", "transfer-encoding",
                                        "connection", "upgrade",        "te"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (str_eq(name, str_of(names[i]))) return true;
    }
    return false;
}

static bool sendable_value(struct str value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) return false;
    }
    return true;
}

/* Envoy: headers of the request know append only, those of the response the action, too. */
static enum ext_authz_how how_of(const Envoy__Config__Core__V3__HeaderValueOption *m,
                                 enum ext_authz_where where)
{
    if (where != EXT_AUTHZ_RESPONSE)
        return m->append && m->append->value ? EXT_AUTHZ_APPEND : EXT_AUTHZ_SET;
    if (m->append) return m->append->value ? EXT_AUTHZ_ADD : EXT_AUTHZ_SET;
    switch (m->append_action) {
    case ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__ADD_IF_ABSENT:
        return EXT_AUTHZ_IF_ABSENT;
    case ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS:
        return EXT_AUTHZ_IF_EXISTS;
    case ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS_OR_ADD:
        return EXT_AUTHZ_SET;
    case ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__APPEND_IF_EXISTS_OR_ADD:
        break;
    }
    return EXT_AUTHZ_ADD;
}

bool ext_authz_ops(struct arena *a, Envoy__Config__Core__V3__HeaderValueOption *const *v, size_t n,
                   enum ext_authz_where where, struct ext_authz_ops *out)
{
    out->v = ARENA_ARRAY(a, struct ext_authz_op, n);
    out->count = 0;
    for (size_t i = 0; i < n; i++) {
        const Envoy__Config__Core__V3__HeaderValue *h = v[i]->header;
        if (!h) return false;
        struct ext_authz_op *op = &out->v[out->count++];
        op->name = str_dup_lower(a, str_of(h->key));
        op->value = h->raw_value.len
                        ? str_dup(a, str_make((const char *)h->raw_value.data, h->raw_value.len))
                        : str_dup(a, str_of(h->value));
        op->how = how_of(v[i], where);
        if (!sendable_name(op->name) || framing_name(op->name) || !sendable_value(op->value))
            return false;
        /* Envoy: nothing is appended to a denial. */
        if (where == EXT_AUTHZ_DENIAL && op->how == EXT_AUTHZ_APPEND) out->count--;
    }
    return true;
}

void ext_authz_apply(const struct ext_authz_ops *ops, struct headers *h)
{
    for (size_t i = 0; i < ops->count; i++) {
        const struct ext_authz_op *op = &ops->v[i];
        bool there = headers_find(h, op->name).ptr != NULL;
        switch (op->how) {
        case EXT_AUTHZ_SET: headers_set(h, op->name, op->value); break;
        case EXT_AUTHZ_ADD: headers_add(h, op->name, op->value); break;
        case EXT_AUTHZ_APPEND:
            if (there) headers_append(h, op->name, op->value, STR(","));
            break;
        case EXT_AUTHZ_IF_ABSENT:
            if (!there) headers_add(h, op->name, op->value);
            break;
        case EXT_AUTHZ_IF_EXISTS:
            if (there) headers_set(h, op->name, op->value);
            break;
        }
    }
}

/* --- query parameters
 * -----------------------------------------------------------------------------------------------
 */
struct query_part {
    struct str name, text;
};

static bool query_gone(struct str name, const Envoy__Service__Auth__V3__OkHttpResponse *ok)
{
    for (size_t i = 0; i < ok->n_query_parameters_to_remove; i++) {
        if (str_eq(name, str_of(ok->query_parameters_to_remove[i]))) return true;
    }
    for (size_t i = 0; i < ok->n_query_parameters_to_set; i++) {
        if (str_eq(name, str_of(ok->query_parameters_to_set[i]->key))) return true;
    }
    return false;
}

/* Envoy: what was changed comes back sorted by name. */
static void query_insert(struct query_part *v, size_t *n, struct query_part part)
{
    size_t at = (*n)++;
    for (; at > 0 && str_cmp(v[at - 1].name, part.name) > 0; at--)
        v[at] = v[at - 1];
    v[at] = part;
}

static size_t query_count(struct str query)
{
    size_t n = 1;
    for (size_t i = 0; i < query.len; i++)
        n += query.ptr[i] == '&';
    return n;
}

void ext_authz_query(struct arena *a, struct headers *h,
                     const Envoy__Service__Auth__V3__CheckResponse *r)
{
    const Envoy__Service__Auth__V3__OkHttpResponse *ok = r->ok_response;
    struct str path = headers_get(h, HDR_PATH), rest = STR_NONE, part;
    size_t n = 0;
    if (ok->n_query_parameters_to_set + ok->n_query_parameters_to_remove == 0) return;
    (void)str_cut(path, '?', &path, &rest);
    struct query_part *v =
        ARENA_ARRAY(a, struct query_part, query_count(rest) + ok->n_query_parameters_to_set);
    while (rest.len && str_next(&rest, '&', &part)) {
        struct str name = part, value;
        (void)str_cut(part, '=', &name, &value);
        if (!query_gone(name, ok)) query_insert(v, &n, (struct query_part){name, part});
    }
    for (size_t i = 0; i < ok->n_query_parameters_to_set; i++) {
        const char *key = ok->query_parameters_to_set[i]->key;
        struct str text = str_fmt(a, "%s=%s", key, ok->query_parameters_to_set[i]->value);
        query_insert(v, &n, (struct query_part){str_of(key), text});
    }
    struct str out = path;
    for (size_t i = 0; i < n; i++)
        out = str_fmt(a, "%.*s%c%.*s", STR_ARG(out), i ? '&' : '?', STR_ARG(v[i].text));
    if (sendable_value(out) && str_find_char(out, ' ') == SIZE_MAX)
        headers_set_id(h, HDR_PATH, out);
}
