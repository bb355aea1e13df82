/* Resources from a file: a DiscoveryResponse in YAML, JSON or protobuf bytes, read again whenever
 * the file changes (path_config_source). */
#include <malloc.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/watch.h"
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "xds/source.h"

enum {
    FILE_MOST = 256 << 20, /* a file larger than this is refused */
    TRIM_FROM = 1 << 20    /* after a file of this size memory is given back to the system */
};

struct source_file {
    struct source source;
    struct arena *arena;
    enum xds_kind kind;
    struct str path;
    struct str directory; /* watched instead of the file's own; may be empty */
    struct watch *watch;
    struct map wanted; /* names that somebody watches; value: the struct itself */
    bool all;
    struct loop_later read;
};

static struct source_file *source_file_of(struct source *s)
{
    return CONTAINER_OF(s, struct source_file, source);
}

/* NULL: told in errors. */
static const Envoy__Service__Discovery__V3__DiscoveryResponse *source_file_parse(
    struct source_file *f, struct str text, struct arena *a, struct errors *errors)
{
    const ProtobufCMessageDescriptor *desc =
        &envoy__service__discovery__v3__discovery_response__descriptor;
    const struct proto_opts *opts = &f->source.x->env.dynamic_opts;
    if (str_ends(f->path, STR(".pb")))
        return (const void *)proto_unpack(a, desc, text, opts, NULL, errors);
    enum json_format format = str_ends(f->path, STR(".json")) ? JSON_FORMAT_JSON : JSON_FORMAT_YAML;
    return (const void *)json_read(a, desc, text, format, f->path.ptr, NULL, errors);
}

static void source_file_apply(struct source_file *f,
                              const Envoy__Service__Discovery__V3__DiscoveryResponse *r,
                              struct arena *a)
{
    struct mux_resource *v = ARENA_ARRAY(a, struct mux_resource, r->n_resources);
    for (size_t i = 0; i < r->n_resources; i++) {
        const Google__Protobuf__Any *any = r->resources[i];
        v[i] =
            (struct mux_resource){.version = str_of(r->version_info),
                                  .type_url = str_of(any->type_url),
                                  .bytes = str_make((const char *)any->value.data, any->value.len)};
    }
    struct mux_update u = {.type_url = str_of(kind_of(f->kind)->type_url),
                           .version = str_of(r->version_info),
                           .resources = v,
                           .count = r->n_resources,
                           .full = true};
    struct str error = store_update(f->source.x, &f->source, &u, a);
    if (error.len) log_warn(LOG_C_CONFIG, "%.*s: %.*s", STR_ARG(f->path), STR_ARG(error));
}

static void source_file_read(struct source_file *f)
{
    struct arena *a = arena_new("decode", 0);
    struct errors errors = {.arena = a};
    struct str text = STR_NONE;
    int err = file_read(a, f->path.ptr, FILE_MOST, &text);
    if (err < 0) {
        log_warn(LOG_C_CONFIG, "cannot read %.*s: %s", STR_ARG(f->path), strerror(-err));
        store_source_failed(f->source.x, &f->source);
    } else {
        const Envoy__Service__Discovery__V3__DiscoveryResponse *r =
            source_file_parse(f, text, a, &errors);
        if (r) {
            source_file_apply(f, r, a);
        } else {
            struct str why = errors_text(&errors, a, STR_NONE);
            log_warn(LOG_C_CONFIG, "%.*s is refused, the last good version serves on: %.*s",
                     STR_ARG(f->path), STR_ARG(why));
            store_source_failed(f->source.x, &f->source);
        }
    }
    arena_free(&a);
    if (text.len >= TRIM_FROM) (void)malloc_trim(0); /* reading took far more than what is kept */
}

static void source_file_later(struct loop_later *later)
{
    source_file_read(CONTAINER_OF(later, struct source_file, read));
}

static void source_file_changed(void *arg)
{
    struct source_file *f = arg;
    if (f->source.started && (f->all || f->wanted.count)) source_file_read(f);
}

static void source_file_start(struct source *s)
{
    struct source_file *f = source_file_of(s);
    int err = 0;
    struct str watched = f->directory.len ? f->directory : f->path;
    f->watch = watch_path(s->x->env.watches, watched, source_file_changed, f, &err);
    if (!f->watch)
        log_warn(LOG_C_CONFIG, "cannot watch %.*s for changes: %s", STR_ARG(watched),
                 strerror(-err));
    if (f->all || f->wanted.count) loop_later(xds_loop(s->x), &f->read, source_file_later);
}

static void source_file_watch(struct source *s, enum xds_kind kind, struct str name)
{
    struct source_file *f = source_file_of(s);
    (void)kind; /* a file serves one kind */
    if (!name.len)
        f->all = true;
    else if (!map_get(&f->wanted, name))
        (void)map_put(&f->wanted, str_dup(f->arena, name), f);
    if (s->started) loop_later(xds_loop(s->x), &f->read, source_file_later);
}

static void source_file_unwatch(struct source *s, enum xds_kind kind, struct str name)
{
    struct source_file *f = source_file_of(s);
    (void)kind;
    if (!name.len)
        f->all = false;
    else
        (void)map_remove(&f->wanted, name);
}

static void source_file_stop(struct source *s)
{
    struct source_file *f = source_file_of(s);
    watch_free(&f->watch);
    loop_later_cancel(&f->read);
}

static void source_file_free(struct source *s)
{
    struct source_file *f = source_file_of(s);
    source_file_stop(s);
    map_release(&f->wanted);
    struct arena *a = f->arena;
    arena_free(&a);
}
static const struct source_ops source_file_ops = {.start = source_file_start,
                                                  .watch = source_file_watch,
                                                  .unwatch = source_file_unwatch,
                                                  .stop = source_file_stop,
                                                  .free = source_file_free};

struct source *source_file_new(struct xds *x, struct str path, struct str directory,
                               enum xds_kind kind)
{
    struct arena *a = arena_new("xds source", 1024);
    struct source_file *f = ARENA_NEW(a, struct source_file);
    f->arena = a;
    f->source.x = x;
    f->source.ops = &source_file_ops;
    f->kind = kind;
    f->path = str_dup(a, path);
    f->directory = str_dup(a, directory);
    return &f->source;
}
