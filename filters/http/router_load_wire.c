/* endpoint-load-metrics of a response: what the cluster's lrs_report_endpoint_metrics names of it
 * goes to the load reports. As Envoy reads it: the binary header wins; a text with anything wrong
 * in it is passed over as a whole; a response counts once, by its headers or else its trailers. */
#include <math.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/text.h"
#include "filters/http/router.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "proxy/api/load_metrics.h"
#include "proxy/runtime/runtime.h"
#include "proxy/upstream/cluster.h"
#include "xds/data/orca/v3/orca_load_report.pb-c.h"

typedef Xds__Data__Orca__V3__OrcaLoadReport Report;

static const ProtobufCMessageDescriptor *const report_desc =
    &xds__data__orca__v3__orca_load_report__descriptor;

/* What is known of a report: fixed metrics, and those with names of their own. */
enum { FIXED_CPU, FIXED_MEM, FIXED_APPLICATION, FIXED_EPS, FIXED_RPS, FIXED_COUNT };
static const struct str fixed_names[FIXED_COUNT] = {
    [FIXED_CPU] = {"cpu_utilization", sizeof("cpu_utilization") - 1},
    [FIXED_MEM] = {"mem_utilization", sizeof("mem_utilization") - 1},
    [FIXED_APPLICATION] = {"application_utilization", sizeof("application_utilization") - 1},
    [FIXED_EPS] = {"eps", sizeof("eps") - 1},
    [FIXED_RPS] = {"rps_fractional", sizeof("rps_fractional") - 1},
};
enum { NAMED_MOST = 256 }; /* of one response */
struct load_facts {
    struct arena *arena;
    double fixed[FIXED_COUNT];
    bool fixed_set[FIXED_COUNT]; /* a text must not say one twice */
    struct load_metric named[NAMED_MOST];
    size_t named_count;
};

/* --- texts
 * ---------------------------------------------------------------------------------------------- */

static bool facts_name(struct load_facts *f, struct str name, double value)
{
    for (size_t i = 0; i < f->named_count; i++)
        if (str_eq(f->named[i].name, name)) return false;
    if (f->named_count == NAMED_MOST) return false;
    f->named[f->named_count++] = (struct load_metric){name, value};
    return true;
}

static bool text_metric(struct load_facts *f, struct str name, double value)
{
    static const struct str prefixes[] = {{"named_metrics.", sizeof("named_metrics.") - 1},
                                          {"utilization.", sizeof("utilization.") - 1}};
    for (size_t i = 0; i < FIXED_COUNT; i++) {
        if (!str_eq(name, fixed_names[i])) continue;
        bool twice = f->fixed_set[i];
        f->fixed[i] = value;
        f->fixed_set[i] = true;
        return !twice;
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (str_starts(name, prefixes[i]) && name.len > prefixes[i].len)
            return facts_name(f, name, value);
    return false;
}

/* "name=value,name:value"; empty parts are fine. */
static bool text_read(struct load_facts *f, struct str text)
{
    struct str one, name, value;
    double number;
    while (str_next(&text, ',', &one)) {
        one = str_trim(one);
        if (!one.len) continue;
        size_t equals = str_find_char(one, '='), colon = str_find_char(one, ':');
        size_t at = equals < colon ? equals : colon;
        if (at == SIZE_MAX) return false;
        name = str_sub(one, 0, at);
        value = str_trim(str_sub(one, at + 1, SIZE_MAX));
        if (!str_to_double(value, &number) || !isfinite(number) || number < 0) return false;
        if (!text_metric(f, name, number)) return false;
    }
    return true;
}

/* --- messages
 * ---------------------------------------------------------------------------------------------- */

static void facts_map(struct load_facts *f, const char *prefix, size_t n, const char *key,
                      double value)
{
    if (n < NAMED_MOST) (void)facts_name(f, str_fmt(f->arena, "%s.%s", prefix, key), value);
}

static bool report_read(struct load_facts *f, const Report *m)
{
    if (!m) return false;
    f->fixed[FIXED_CPU] = m->cpu_utilization;
    f->fixed[FIXED_MEM] = m->mem_utilization;
    f->fixed[FIXED_APPLICATION] = m->application_utilization;
    f->fixed[FIXED_EPS] = m->eps;
    f->fixed[FIXED_RPS] = m->rps_fractional;
    for (size_t i = 0; i < m->n_named_metrics; i++)
        facts_map(f, "named_metrics", i, m->named_metrics[i]->key, m->named_metrics[i]->value);
    for (size_t i = 0; i < m->n_utilization; i++)
        facts_map(f, "utilization", i, m->utilization[i]->key, m->utilization[i]->value);
    for (size_t i = 0; i < m->n_request_cost; i++)
        facts_map(f, "request_cost", i, m->request_cost[i]->key, m->request_cost[i]->value);
    return true;
}

static bool binary_read(struct load_facts *f, struct str text)
{
    const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct errors unused = {.arena = f->arena};
    struct str bytes;
    if (!text.len) return false;
    if (text.len % 4) text = str_cat(f->arena, text, str_sub(STR("==="), 0, 4 - text.len % 4));
    if (!base64_decode(f->arena, text, &bytes)) return false;
    return report_read(
        f, (const void *)proto_unpack(f->arena, report_desc, bytes, &lenient, NULL, &unused));
}

static bool json_text_read(struct load_facts *f, struct str text)
{
    struct errors unused = {.arena = f->arena};
    return report_read(f, (const void *)json_read(f->arena, report_desc, text, JSON_FORMAT_JSON,
                                                  NULL, NULL, &unused));
}

static bool facts_read(struct load_facts *f, const struct headers *h)
{
    struct str binary = headers_find(h, STR("endpoint-load-metrics-bin")),
               text = headers_find(h, STR("endpoint-load-metrics"));
    if (binary.ptr) return binary_read(f, binary);
    if (!text.ptr) return false;
    if (str_starts(text, STR("TEXT "))) return text_read(f, str_sub(text, 5, SIZE_MAX));
    if (str_starts(text, STR("JSON "))) return json_text_read(f, str_sub(text, 5, SIZE_MAX));
    if (str_starts(text, STR("BIN "))) return binary_read(f, str_sub(text, 4, SIZE_MAX));
    return false;
}

/* --- what the cluster wants of it
 * ---------------------------------------------------------------------------------------------- */

/* On its way to main. */
struct load_letter {
    struct arena *arena;
    struct runtime *rt;
    struct host *host; /* a reference */
    struct str cluster;
    struct load_metric *v;
    size_t count;
};

static void letter_arrived(void *arg)
{
    struct load_letter *l = arg;
    struct arena *a = l->arena;
    const struct load_sink *sink = l->rt->load_sink;
    if (sink) sink->take(sink->arg, l->cluster, l->host, l->v, l->count);
    host_unref(&l->host);
    arena_free(&a);
}

static void letter_add(struct load_letter *l, struct str name, double value)
{
    if (isfinite(value)) l->v[l->count++] = (struct load_metric){str_dup(l->arena, name), value};
}

/* "named_metrics.*" is all of them; a metric that two of the wishes name counts twice, as in
 * Envoy. */
static void letter_wish(struct load_letter *l, const struct load_facts *f, struct str wish)
{
    for (size_t i = 0; i < FIXED_COUNT; i++)
        if (str_eq(wish, fixed_names[i])) letter_add(l, wish, f->fixed[i]);
    bool all = str_ends(wish, STR(".*"));
    struct str start = str_sub(wish, 0, wish.len - 1);
    for (size_t i = 0; i < f->named_count; i++)
        if (all ? str_starts(f->named[i].name, start) : str_eq(f->named[i].name, wish))
            letter_add(l, f->named[i].name, f->named[i].value);
}

void router_load_metrics(struct router *r, const struct upstream_attempt *a,
                         const struct headers *h)
{
    const struct cluster *c = upstream_conf(a->uc);
    struct runtime *rt = r->f.worker->rt;
    if (!c->load_metric_count || !rt->load_sink || r->load_told || !a->host) return;
    struct load_facts *f = ARENA_NEW(r->info->arena, struct load_facts);
    f->arena = r->info->arena;
    if (!facts_read(f, h)) return;
    r->load_told = true;
    struct arena *own = arena_new("load metrics", 0);
    struct load_letter *l = ARENA_NEW(own, struct load_letter);
    *l = (struct load_letter){
        .arena = own, .rt = rt, .host = host_ref(a->host), .cluster = str_dup(own, c->obj.name)};
    l->v = ARENA_ARRAY(own, struct load_metric, c->load_metric_count * (f->named_count + 1));
    for (size_t i = 0; i < c->load_metric_count; i++)
        letter_wish(l, f, c->load_metrics[i]);
    runtime_to_main(rt, letter_arrived, l);
}
