/* Admin's insides: requests, pages, the parts of pages. Main thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"

struct admin;
struct admin_http;
struct arena;
struct print_opts;
struct regex;
struct server;
struct sb;
struct ProtobufCMessage;

enum { ADMIN_PARAMS_MOST = 128 };
struct admin_param {
    struct str name, value;
};
/* One request and its answer; lives in the arena. */
struct admin_request {
    struct server *server;
    struct arena *arena;
    struct str method, path; /* path without query */
    struct str body;
    struct admin_param
        params[ADMIN_PARAMS_MOST]; /* of the query, and of a form in the body; decoded */
    size_t param_count;
    /* the answer; zero status is 200, NULL type is text/plain in UTF-8 */
    uint32_t status;
    const char *content_type;
    bool nosniff_twice; /* Envoy: errors of /config_dump carry x-content-type-options twice */
    struct sb out;
    /* A long page: appends the next piece (a few milliseconds of work, some 100 KiB; may be empty)
     * to `out`, which is empty, at a later turn of the loop and when the client has taken the one
     * before. False: that was the last. What it keeps hangs on the arena: the client may leave at
     * any time. */
    bool (*more)(struct admin_request *r);
    void *cursor; /* of `more` */
};
#define ADMIN_TEXT "text/plain; charset=UTF-8"
#define ADMIN_JSON "application/json"
#define ADMIN_HTML "text/html; charset=UTF-8"

/* A parameter of a page, for /help and the start page. */
struct admin_param_help {
    const char *name, *text;
};
struct admin_page {
    const char *path;
    void (*handle)(struct admin_request *r);
    bool post;        /* changes state: POST only */
    const char *text; /* NULL: an API of its own, neither in /help nor on the start page */
    const struct admin_param_help *params; /* NULL name at the end; NULL: none */
};
/* All pages in the order of their paths. */
const struct admin_page *admin_pages(size_t *count);

/* Answers: fills status, type and out. `target` is the request target, `body` a form or empty. */
void admin_answer(struct admin_request *r, struct str target, struct str body);
/* ptr NULL: absent. A parameter without "=" has an empty value with a non-NULL ptr. */
struct str admin_param(const struct admin_request *r, const char *name);
/* Ends the page with a status and a text. */
void admin_error(struct admin_request *r, uint32_t status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* How pages print messages: pretty, secrets hidden. */
extern const struct print_opts admin_print_opts;
/* The message as Envoy prints it, with a line end; secrets are hidden. */
void admin_json(struct admin_request *r, const struct ProtobufCMessage *m, bool zero_fields);
void admin_html_escaped(struct sb *out, struct str s);

/* The pages by file. */
void admin_page_help(struct admin_request *r); /* admin_pages.c */
void admin_page_home(struct admin_request *r);
void admin_help_text(struct sb *out);
void admin_page_stats(struct admin_request *r); /* admin_stats.c */
void admin_page_prometheus(struct admin_request *r);
void admin_page_reset_counters(struct admin_request *r);
void admin_page_recent_lookups(struct admin_request *r);
void admin_page_recent_lookups_change(struct admin_request *r);
void admin_page_clusters(struct admin_request *r);  /* admin_clusters.c */
void admin_page_listeners(struct admin_request *r); /* admin_state.c */
void admin_page_server_info(struct admin_request *r);
void admin_page_ready(struct admin_request *r);
void admin_page_memory(struct admin_request *r);
void admin_page_init_dump(struct admin_request *r);
void admin_page_hot_restart_version(struct admin_request *r);
void admin_page_certs(struct admin_request *r);   /* admin_certs.c */
void admin_page_runtime(struct admin_request *r); /* admin_runtime.c */
void admin_page_runtime_modify(struct admin_request *r);
void admin_page_logging(struct admin_request *r); /* admin_actions.c */
void admin_page_healthcheck_fail(struct admin_request *r);
void admin_page_healthcheck_ok(struct admin_request *r);
void admin_page_drain_listeners(struct admin_request *r);
void admin_page_quit(struct admin_request *r);
void admin_page_reopen_logs(struct admin_request *r);
void admin_page_contention(struct admin_request *r);
void admin_page_profiler(struct admin_request *r);
void admin_page_no_heap_dump(struct admin_request *r);
void admin_page_client_status(struct admin_request *r); /* admin_client_status.c */
void admin_page_config_dump(struct admin_request *r);   /* admin_config_dump.c */

/* --- field masks (admin_mask.c)
 * ----------------------------------------------------------------------------------- */
struct admin_mask {
    const struct str *paths;
    size_t count;
};
/* "a.b,c" in the arena. */
struct admin_mask admin_mask_parse(struct arena *a, struct str text);
/* Leaves only what the mask names, through Any, too. False: a path does not exist in the message,
 * which is then unchanged. */
bool admin_mask_trim(struct arena *a, struct ProtobufCMessage *m, const struct admin_mask *mask);

/* --- the HTTP server (admin_http.c)
 * ----------------------------------------------------------------------------------- */
struct access_log_list;
/* Accepts on the listening descriptor (taken) and answers through admin_answer. `log` (borrowed,
 * NULL: none) gets a line a request. */
struct admin_http *admin_http_new(struct server *s, int fd, const struct access_log_list *log);
/* Closes everything; runs the loop for some turns so that the connections' memory is freed. Leaves
 * NULL. */
void admin_http_free(struct admin_http **h);
