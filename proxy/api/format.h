/* Substitution formats ("%REQ(:PATH)% %RESPONSE_CODE%"), text and JSON: access log lines, header
 * values, local reply bodies. Compiled once on main (proxy/api/conf_types.h), written in workers
 * without locks. */
#pragma once
#include <stdbool.h>
#include "base/str.h"
#include "proxy/api/access_logger.h"

struct arena;
struct stream_info;
struct value;

struct format; /* immutable */

/* Appends what the format gives for the stream (JSON formats end in a newline). Bytes from peers
 * are taken as they are in text formats except for what Envoy escapes; a JSON format stays JSON
 * whatever they hold. */
void format_write(const struct format *f, const struct stream_info *info, enum access_log_type type,
                  struct sb *out);
/* The same without an access log type: header values and bodies. */
void format_text(const struct format *f, const struct stream_info *info, struct sb *out);
/* In an arena; for header values. */
struct str format_dup(const struct format *f, const struct stream_info *info, struct arena *a);
/* The text when the format has no operators ("%%" undone), so that it needs no formatting; ptr NULL
 * otherwise. */
struct str format_literal(const struct format *f);
/* Content type for bodies made by it: "text/plain", "application/json" or what the configuration
 * says. */
struct str format_content_type(const struct format *f);

/* Compiles a text format. NULL: *why (in the arena) has Envoy's message. omit_empty: nothing
 * instead of "-" for absent values. */
const struct format *format_parse(struct arena *a, struct str text, bool omit_empty,
                                  struct str *why);
/* The same for a header value: the old operator syntax ("%UPSTREAM_METADATA([...])%") is understood
 * too; omit_empty. */
const struct format *format_parse_header(struct arena *a, struct str text, struct str *why);
/* A JSON format from a struct. sort: keys in order (Envoy's access logs). */
const struct format *format_parse_json(struct arena *a, const struct value *object, bool omit_empty,
                                       struct str *why);
/* Envoy's default access log line. */
const struct format *format_default(struct arena *a);
