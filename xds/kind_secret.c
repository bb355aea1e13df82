/* Secrets (SDS, or static): published to the workers; what is made of files is read anew when one
 * of them changes. */
#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "base/watch.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb-c.h"
#include "proto/decode.h"
#include "proto/proto.h"
#include "proxy/config/secret.h"
#include "proxy/net/tls_list.h"
#include "xds/xds_internal.h"

#define secret_message Envoy__Extensions__TransportSockets__Tls__V3__Secret /* 44 characters */

enum { SECRET_FILES_MOST = 8 };
struct secret_files {
    struct resource *resource;
    struct str bytes; /* heap copy of the message */
    struct watch *watches[SECRET_FILES_MOST];
    size_t count;
    struct loop_later reload;
};

void secret_files_free(struct secret_files **files)
{
    struct secret_files *f = *files;
    *files = NULL;
    if (!f) return;
    for (size_t i = 0; i < f->count; i++)
        watch_free(&f->watches[i]);
    loop_later_cancel(&f->reload);
    resource_keep(&f->bytes, STR_NONE);
    mem_free(f);
}

static void secret_reload(struct loop_later *later);

static void secret_file_changed(void *arg)
{
    struct secret_files *f = arg;
    loop_later(xds_loop(f->resource->x), &f->reload,
               secret_reload); /* certificate and key change together: once a turn */
}

static void secret_watch_path(struct secret_files *f, const char *path)
{
    int err = 0;
    if (!path || !path[0] || f->count == SECRET_FILES_MOST) return;
    struct watch *w =
        watch_path(f->resource->x->env.watches, str_of(path), secret_file_changed, f, &err);
    if (w)
        f->watches[f->count++] = w;
    else
        log_warn(LOG_C_SECRET, "cannot watch %s for changes: %s", path, strerror(-err));
}

static const char *source_file_name(const Envoy__Config__Core__V3__DataSource *d)
{
    return d && d->specifier_case == ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_FILENAME
               ? d->filename
               : NULL;
}

static void secret_watch_files(struct secret_files *f, const secret_message *m)
{
    if (m->type_case ==
        ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__SECRET__TYPE_TLS_CERTIFICATE) {
        secret_watch_path(f, source_file_name(m->tls_certificate->certificate_chain));
        secret_watch_path(f, source_file_name(m->tls_certificate->private_key));
        if (m->tls_certificate->watched_directory)
            secret_watch_path(f, m->tls_certificate->watched_directory->path);
    } else if (m->type_case ==
               ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__SECRET__TYPE_VALIDATION_CONTEXT) {
        secret_watch_path(f, source_file_name(m->validation_context->trusted_ca));
        secret_watch_path(f, source_file_name(m->validation_context->crl));
        if (m->validation_context->watched_directory)
            secret_watch_path(f, m->validation_context->watched_directory->path);
    }
}

static void secret_use(struct resource *r, struct tls_secret *secret)
{
    struct obj *o = &secret->obj;
    if (r->object && r->object->hash == o->hash) {
        obj_unref(&o);
        return;
    }
    obj_unref(&r->object);
    r->object = o;
    runtime_publish(r->x->env.rt, TABLE_SECRETS, r->name, o);
    secret_demand_changed(r);
    tls_list_secret_changed(r->x->env.rt, r->name);
}

/* A file changed. What cannot be read or parsed now leaves the old secret in use. */
static void secret_reload(struct loop_later *later)
{
    struct secret_files *f = CONTAINER_OF(later, struct secret_files, reload);
    struct resource *r = f->resource;
    struct arena *a = arena_new("decode", 0);
    struct errors errors = {.arena = a};
    const struct proto_opts quiet = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct conf_cx cx = {.arena = arena_new("secret", 1024),
                         .errors = &errors,
                         .registry = r->x->env.registry,
                         .rt = r->x->env.rt,
                         .opts = &quiet};
    const ProtobufCMessage *m = proto_decode(a, kind_secret.desc, f->bytes, &quiet, NULL, &errors);
    struct tls_secret *secret = m ? translate_secret(&cx, (const secret_message *)m) : NULL;
    if (secret) {
        log_info(LOG_C_SECRET, "secret \"%.*s\" was read anew from its files", STR_ARG(r->name));
        secret_use(r, secret);
    } else {
        arena_free(&cx.arena);
        stat_inc(r->stats, SECRET_ROTATION_FAILED);
        struct str why = errors_text(&errors, a, STR_NONE);
        log_warn(LOG_C_SECRET,
                 "secret \"%.*s\": the changed files are refused, the old ones serve on: %.*s",
                 STR_ARG(r->name), STR_ARG(why));
    }
    arena_free(&a);
}

static bool kind_secret_accept(struct resource *r, const ProtobufCMessage *msg, struct conf_cx *cx)
{
    struct tls_secret *secret = translate_secret(cx, (const secret_message *)msg);
    if (!secret) return false;
    struct obj *o = &secret->obj;
    if (cx->validate_only) {
        obj_unref(&o);
        return true;
    }
    struct arena *a = arena_new("scratch", 0);
    secret_files_free(&r->files);
    r->files = mem_alloc(sizeof *r->files);
    r->files->resource = r;
    resource_keep(&r->files->bytes, proto_pack(a, msg));
    arena_free(&a);
    secret_watch_files(r->files, (const secret_message *)msg);
    secret_use(r, secret);
    return true;
}

static void kind_secret_remove(struct resource *r)
{
    secret_files_free(&r->files);
    obj_unref(&r->object);
    runtime_publish(r->x->env.rt, TABLE_SECRETS, r->name, NULL);
    secret_demand_changed(r);
}

static bool kind_secret_ready(struct resource *r)
{
    (void)r; /* secrets wait for nothing */
    return true;
}

static void kind_secret_missing(struct resource *r)
{
    (void)r; /* whoever needs it fails closed */
}

const struct kind_ops kind_secret = {
    .type_url = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    .label = "Secret",
    .desc = &envoy__extensions__transport_sockets__tls__v3__secret__descriptor,
    .stays = true,
    .accept = kind_secret_accept,
    .remove = kind_secret_remove,
    .ready = kind_secret_ready,
    .missing = kind_secret_missing,
    .stats = secret_stat_defs,
    .stat_count = SECRET_STAT_COUNT,
};
