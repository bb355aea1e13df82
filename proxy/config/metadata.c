/* Translation of metadata, structs, durations and fractions. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/proxy_header.h"
#include "base/watch.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/proxy_protocol.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/conf_types.h"

static int by_name(const void *x, const void *y)
{
    const struct value_field *a = x, *b = y;
    return str_cmp(a->name, b->name);
}

static void value_of_struct(struct arena *a, const Google__Protobuf__Struct *m, struct value *out)
{
    size_t n = m ? m->n_fields : 0;
    *out = (struct value){.kind = VALUE_STRUCT};
    out->u.fields.fields = ARENA_ARRAY(a, struct value_field, n);
    for (size_t i = 0; i < n; i++) {
        struct value_field *f = &out->u.fields.fields[i];
        f->name = str_dup(a, str_of(m->fields[i]->key));
        conf_value(a, m->fields[i]->value, &f->value);
    }
    if (n > 1) qsort(out->u.fields.fields, n, sizeof *out->u.fields.fields, by_name);
    out->u.fields.count = n;
}

/* Depth is bounded by that of configuration messages. */
void conf_value(struct arena *a, const Google__Protobuf__Value *m, struct value *out)
{
    *out = (struct value){.kind = VALUE_NULL};
    if (!m) return;
    switch ((int)m->kind_case) {
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        out->kind = VALUE_NUMBER;
        out->u.number = m->number_value;
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        out->kind = VALUE_STRING;
        out->u.text = str_dup(a, str_of(m->string_value));
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        out->kind = VALUE_BOOL;
        out->u.boolean = m->bool_value;
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
        value_of_struct(a, m->struct_value, out);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE:
        out->kind = VALUE_LIST;
        out->u.list.count = m->list_value->n_values;
        out->u.list.items = ARENA_ARRAY(a, struct value, m->list_value->n_values);
        for (size_t i = 0; i < m->list_value->n_values; i++)
            conf_value(a, m->list_value->values[i], &out->u.list.items[i]);
        return;
    default: return;
    }
}

struct value *conf_struct(struct arena *a, const Google__Protobuf__Struct *m)
{
    struct value *v = ARENA_NEW(a, struct value);
    value_of_struct(a, m, v);
    return v;
}

/* Envoy: a message of another type tells nothing. */
static struct str proxy_tlvs_of(const struct conf_at *at,
                                const Envoy__Config__Core__V3__Metadata *m)
{
    const ProtobufCMessageDescriptor *wanted =
        &envoy__config__core__v3__per_host_config__descriptor;
    struct sb all = {0};
    for (size_t i = 0; i < m->n_typed_filter_metadata; i++) {
        struct str key = str_of(m->typed_filter_metadata[i]->key);
        const Google__Protobuf__Any *any = m->typed_filter_metadata[i]->value;
        if (!str_eq(key, STR("envoy.transport_sockets.proxy_protocol")) || !any) continue;
        if (!str_eq(proto_any_name(conf_arena(at), any), str_of(wanted->name))) continue;
        struct conf_at here = conf_key(at, "typed_filter_metadata", key);
        struct proto_path root = proto_path_root(conf_path(&here));
        const Envoy__Config__Core__V3__PerHostConfig *own = (const void *)proto_any_unpack(
            conf_arena(at), any, wanted, at->cx->opts, &root, at->cx->errors);
        for (size_t k = 0; own && k < own->n_added_tlvs; k++) {
            const Envoy__Config__Core__V3__TlvEntry *e = own->added_tlvs[k];
            struct conf_at place = conf_index(&here, "added_tlvs", k);
            struct str value = str_make((const char *)e->value.data, e->value.len);
            if (e->format_string)
                (void)conf_fail(&place, "an endpoint's TLV cannot have a format_string");
            if (!proxy_tlv_add(&all, (uint8_t)e->type, value))
                (void)conf_fail(&place, "the value is too long");
        }
    }
    struct str out = str_dup(conf_arena(at), sb_str(&all));
    sb_release(&all);
    return out;
}

const struct metadata *conf_metadata(const struct conf_at *at,
                                     const Envoy__Config__Core__V3__Metadata *m)
{
    if (!m) return NULL;
    struct arena *a = conf_arena(at);
    struct metadata *out = ARENA_NEW(a, struct metadata);
    size_t n = m->n_filter_metadata;
    out->root.kind = VALUE_STRUCT;
    out->root.u.fields.fields = ARENA_ARRAY(a, struct value_field, n);
    out->root.u.fields.count = n;
    for (size_t i = 0; i < n; i++) {
        struct value_field *f = &out->root.u.fields.fields[i];
        f->name = str_dup(a, str_of(m->filter_metadata[i]->key));
        value_of_struct(a, m->filter_metadata[i]->value, &f->value);
    }
    if (n > 1) qsort(out->root.u.fields.fields, n, sizeof *out->root.u.fields.fields, by_name);
    if (m->n_typed_filter_metadata) out->proxy_tlvs = proxy_tlvs_of(at, m);
    return out;
}

bool conf_duration(const struct conf_at *at, const Google__Protobuf__Duration *m,
                   uint64_t fallback_us, uint64_t *out_us)
{
    *out_us = fallback_us;
    if (!m) return true;
    if (m->seconds < 0 || m->nanos < 0 || m->nanos > 999999999)
        return conf_fail(at, "Expected positive duration: negative or out of range");
    if (m->seconds > 315576000000) return conf_fail(at, "Duration out-of-range");
    *out_us = (uint64_t)m->seconds * 1000000 + (uint64_t)m->nanos / 1000;
    if (!*out_us && m->nanos) *out_us = 1;
    return true;
}

uint32_t conf_percent_denominator(const Envoy__Type__V3__FractionalPercent *m)
{
    if (m->denominator == ENVOY__TYPE__V3__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__MILLION)
        return 1000000;
    if (m->denominator == ENVOY__TYPE__V3__FRACTIONAL_PERCENT__DENOMINATOR_TYPE__TEN_THOUSAND)
        return 10000;
    return 100;
}

struct conf_fraction conf_runtime_fraction(
    const struct conf_at *at, const Envoy__Config__Core__V3__RuntimeFractionalPercent *m)
{
    struct conf_fraction f = {.numerator = 100, .denominator = 100};
    if (!m) return f;
    f.runtime_key = str_dup(conf_arena(at), str_of(m->runtime_key));
    if (m->default_value) {
        f.numerator = m->default_value->numerator;
        f.denominator = conf_percent_denominator(m->default_value);
    }
    return f;
}

static bool source_file(const struct conf_at *at, const char *path, size_t most, struct str *out)
{
    struct conf_at here = conf_field(at, "filename");
    int rc = file_read(conf_arena(at), path, most, out);
    if (rc == -EFBIG) return conf_fail(&here, "file %s is larger than %zu bytes", path, most);
    if (rc < 0) return conf_fail(&here, "file %s cannot be read: %s", path, strerror(-rc));
    return true;
}

bool conf_data_source(const struct conf_at *at, const Envoy__Config__Core__V3__DataSource *m,
                      size_t most, struct str *out)
{
    struct arena *a = conf_arena(at);
    *out = STR("");
    if (!most) most = 1 << 20;
    switch ((int)m->specifier_case) {
    case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_FILENAME:
        return source_file(at, m->filename, most, out);
    case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_STRING:
        *out = str_dup(a, str_of(m->inline_string));
        break;
    case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_INLINE_BYTES:
        *out = str_dup(a, str_make((const char *)m->inline_bytes.data, m->inline_bytes.len));
        break;
    case ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_ENVIRONMENT_VARIABLE: {
        const char *v = getenv(m->environment_variable);
        if (!v) return conf_fail(at, "environment variable %s is not set", m->environment_variable);
        *out = str_dup(a, str_of(v));
        break;
    }
    default: return conf_fail(at, "a specifier is needed");
    }
    if (out->len > most) return conf_fail(at, "is larger than %zu bytes (has %zu)", most, out->len);
    return true;
}
