/* Admin's start and stop, and the way from a request to its page. */
#include "server/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/must.h"
#include "base/text.h"
#include "envoy/extensions/access_loggers/file/v3/file.pb-c.h"
#include "filters/registry.h"
#include "proto/decode.h"
#include "proto/print.h"
#include "proxy/api/conf_types.h"
#include "proxy/config/access_log.h"
#include "proxy/config/socket.h"
#include "proxy/http/path.h"
#include "proxy/net/socket.h"
#include "server/admin_internal.h"
#include "server/server.h"
#include "server/server_stats.h"

struct admin {
    struct admin_http *http;
    struct arena *arena;
    const struct access_log_list *log;    /* NULL: none */
    const struct string_matcher *allowed; /* NULL: all paths */
    size_t allowed_count;
    struct addr addr;
};

/* --- requests
 * -------------------------------------------------------------------------------------------------------
 */

void admin_error(struct admin_request *r, uint32_t status, const char *fmt, ...)
{
    va_list ap;
    r->status = status;
    sb_clear(&r->out);
    va_start(ap, fmt);
    sb_vfmt(&r->out, fmt, ap);
    va_end(ap);
}

struct str admin_param(const struct admin_request *r, const char *name)
{
    for (size_t i = 0; i < r->param_count; i++)
        if (str_eq(r->params[i].name, str_of(name))) return r->params[i].value;
    return STR_NONE;
}

const struct print_opts admin_print_opts = {.pretty = true, .redact = true};

void admin_json(struct admin_request *r, const struct ProtobufCMessage *m, bool zero_fields)
{
    struct print_opts opts = admin_print_opts;
    opts.always_primitive = zero_fields;
    r->content_type = ADMIN_JSON;
    print_json(&r->out, m, &opts);
    sb_char(&r->out, '\n');
}

void admin_html_escaped(struct sb *out, struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        switch (s.ptr[i]) {
        case '<': sb_add(out, STR("&lt;")); break;
        case '>': sb_add(out, STR("&gt;")); break;
        case '&': sb_add(out, STR("&amp;")); break;
        case '"': sb_add(out, STR("&quot;")); break;
        case '\'': sb_add(out, STR("&#39;")); break;
        default: sb_char(out, s.ptr[i]); break;
        }
    }
}

/* "+" is a space in forms. */
static struct str admin_decode(struct arena *a, struct str text, bool form)
{
    if (!form || str_find_char(text, '+') == SIZE_MAX) return percent_decode(a, text);
    char *copy = str_z(a, text);
    for (size_t i = 0; i < text.len; i++)
        if (copy[i] == '+') copy[i] = ' ';
    return percent_decode(a, str_make(copy, text.len));
}

static void admin_read_params(struct admin_request *r, struct str text, bool form)
{
    struct str one;
    while (str_next(&text, '&', &one)) {
        struct str name = one, value = STR("");
        if (one.len == 0) continue;
        if (r->param_count == ADMIN_PARAMS_MOST) return; /* no page has so many */
        (void)str_cut(one, '=', &name, &value);
        value = admin_decode(r->arena, value, form);
        if (!value.ptr) value = STR("");
        r->params[r->param_count++] =
            (struct admin_param){admin_decode(r->arena, name, form), value};
    }
}

static const struct admin_page *admin_find(struct str path)
{
    size_t count;
    const struct admin_page *pages = admin_pages(&count);
    for (size_t i = 0; i < count; i++)
        if (str_eq(str_of(pages[i].path), path)) return &pages[i];
    return NULL;
}

static bool admin_allowed(const struct admin *a, struct str path)
{
    return !a || !a->allowed || string_match_any(a->allowed, a->allowed_count, path);
}

/* The admin listener of Envoy normalizes paths and merges slashes ("//stats" of Envoy Gateway);
 * what cannot be normalized finds no page. */
static struct str admin_path(struct arena *a, struct str path)
{
    struct str normal;
    return path_normalize(a, path, &normal) ? path_merge_slashes(a, normal) : path;
}

void admin_answer(struct admin_request *r, struct str target, struct str body)
{
    struct str query = STR_NONE, path = target;
    (void)str_cut(target, '?', &path, &query);
    path = admin_path(r->arena, path);
    r->path = path;
    if (!admin_allowed(r->server->admin, path)) {
        admin_error(r, 403, "request to path %.*s not allowed", STR_ARG(path));
        return;
    }
    const struct admin_page *page = admin_find(path);
    if (!page) {
        r->status = 404;
        sb_add(&r->out, STR("invalid path. "));
        admin_help_text(&r->out);
        return;
    }
    bool post = str_eq(r->method, STR("POST"));
    if (page->post && !post) {
        log_error(LOG_C_ADMIN, "admin path \"%s\" mutates state, method=%.*s rather than POST",
                  page->path, STR_ARG(r->method));
        admin_error(r, 405, "Method %.*s not allowed, POST required.", STR_ARG(r->method));
        return;
    }
    r->body = body;
    admin_read_params(r, query, false);
    if (post) admin_read_params(r, body, true);
    log_debug(LOG_C_ADMIN, "request complete: path: %.*s", STR_ARG(path));
    page->handle(r);
}

/* --- start and stop
 * -----------------------------------------------------------------------------------------------------
 */

static bool admin_write_address(struct server *s, const struct addr *addr, struct errors *errors)
{
    const char *path = s->options.admin_address_path;
    char text[ADDR_TEXT_MAX];
    if (!path) return true;
    size_t len = addr_format(addr, text);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool good = fd >= 0 && write(fd, text, len) == (ssize_t)len;
    int err = errno;
    if (fd >= 0 && close(fd) != 0) good = false;
    /* Envoy: an error in the log, and on it goes. */
    if (!good)
        log_error(LOG_C_ADMIN, "cannot open admin address output file %s for writing: %s", path,
                  strerror(err));
    (void)errors;
    return true;
}

/* access_log_path, the old way to ask for a file. */
static Envoy__Config__Accesslog__V3__AccessLog *admin_log_by_path(struct arena *a, const char *path)
{
    Envoy__Extensions__AccessLoggers__File__V3__FileAccessLog file =
        ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__INIT;
    Envoy__Config__Accesslog__V3__AccessLog *log =
        ARENA_NEW(a, Envoy__Config__Accesslog__V3__AccessLog);
    envoy__config__accesslog__v3__access_log__init(log);
    file.path = (char *)(uintptr_t)path;
    log->name = str_z(a, STR("envoy.access_loggers.file"));
    log->config_type_case = ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG__CONFIG_TYPE_TYPED_CONFIG;
    log->typed_config = proto_any_pack(a, &file.base);
    return log;
}

static bool admin_logs(struct admin *a, const struct conf_at *at,
                       const Envoy__Config__Bootstrap__V3__Admin *m)
{
    size_t count = m->n_access_log;
    Envoy__Config__Accesslog__V3__AccessLog **all =
        ARENA_ARRAY(a->arena, Envoy__Config__Accesslog__V3__AccessLog *, count + 1);
    bool ok;
    for (size_t i = 0; i < count; i++)
        all[i] = m->access_log[i];
    if (m->access_log_path[0]) all[count++] = admin_log_by_path(a->arena, m->access_log_path);
    a->log = translate_access_logs(at, "access_log", count, all, &ok);
    return ok;
}

/* What translation gives, as far as binding needs it. */
struct admin_socket {
    struct socket_options options;
    uint32_t mode;
};

static bool admin_translate(struct admin *a, const struct conf_at *at,
                            const Envoy__Config__Bootstrap__V3__Admin *m, struct admin_socket *out)
{
    struct conf_at address = conf_field(at, "address");
    bool ok;
    *out = (struct admin_socket){0};
    if (!translate_address(&address, m->address, &a->addr, &out->mode)) return false;
    if (!translate_socket_options(at, "socket_options", m->socket_options, m->n_socket_options,
                                  &out->options))
        return false;
    a->allowed = conf_string_matchers(at, "allow_paths", m->n_allow_paths, m->allow_paths, &ok);
    a->allowed_count = m->n_allow_paths;
    return ok && admin_logs(a, at, m);
}

static bool admin_bind(struct admin *a, const struct conf_at *at, const struct admin_socket *socket,
                       int *fd)
{
    const struct socket_listen how = {
        .addr = &a->addr, .opts = &socket->options, .pipe_mode = socket->mode};
    struct conf_at address = conf_field(at, "address");
    char text[ADDR_TEXT_MAX];
    *fd = socket_listen(&how);
    if (*fd >= 0) return true;
    (void)addr_format(&a->addr, text);
    return conf_fail(&address, "cannot bind '%s': %s", text, strerror(-*fd));
}

bool admin_check(struct server *s, struct errors *errors)
{
    const Envoy__Config__Bootstrap__V3__Admin *m = s->config.bootstrap->admin;
    if (!m || !m->address) return true;
    struct admin a = {.arena = arena_new("admin", 0)};
    struct admin_socket socket;
    struct conf_cx cx = {.arena = a.arena,
                         .errors = errors,
                         .registry = &filters_registry,
                         .rt = s->rt,
                         .validate_only = true};
    struct conf_at root = conf_root(&cx), at = conf_field(&root, "admin");
    bool good = admin_translate(&a, &at, m, &socket);
    arena_free(&a.arena);
    return good;
}

bool admin_start(struct server *s, struct admin **out, struct errors *errors)
{
    const Envoy__Config__Bootstrap__V3__Admin *m = s->config.bootstrap->admin;
    *out = NULL;
    if (!m || !m->address) return true;
    struct admin *a = mem_alloc(sizeof *a);
    a->arena = arena_new("admin", 0);
    struct conf_cx cx = {
        .arena = a->arena, .errors = errors, .registry = &filters_registry, .rt = s->rt};
    struct conf_at root = conf_root(&cx), at = conf_field(&root, "admin");
    struct admin_socket socket;
    int fd;
    if (!admin_translate(a, &at, m, &socket) || !admin_bind(a, &at, &socket, &fd)) {
        arena_free(&a->arena);
        mem_free(a);
        return false;
    }
    (void)socket_local(fd, &a->addr); /* the real port; else as configured */
    a->http = admin_http_new(s, fd, a->log);
    *out = a;
    char text[ADDR_TEXT_MAX];
    (void)addr_format(&a->addr, text);
    log_info(LOG_C_ADMIN, "admin address: %s", text);
    return admin_write_address(s, &a->addr, errors);
}

void admin_stop(struct admin **ap)
{
    struct admin *a = *ap;
    if (!a) return;
    admin_http_free(&a->http);
    if (a->addr.sa.any.sa_family == AF_UNIX && a->addr.sa.un.sun_path[0])
        (void)unlink(a->addr.sa.un.sun_path); /* gone already is fine */
    arena_free(&a->arena);
    mem_free(a);
    *ap = NULL;
}
