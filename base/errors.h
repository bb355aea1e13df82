/* Configuration errors, collected: each has the path of the field and a text. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

enum { ERRORS_MOST = 20 };

/* One mistake. Both texts live in the arena of the list. */
struct error {
    struct str path;  /* "virtual_hosts[2].routes[0].match.safe_regex.regex"; may be empty */
    struct str text;  /* "unmatched \"(\"" */
    struct str where; /* "file.yaml:12:7" when known, else empty */
};

/* Up to ERRORS_MOST errors; more are only counted. Zero plus an arena is a valid empty list. */
struct errors {
    struct arena *arena; /* borrowed */
    struct error v[ERRORS_MOST];
    size_t count; /* all that were added, may exceed ERRORS_MOST */
};

/* Adds one (copies). Always returns false so that `return errors_add(...)` reads well. */
bool errors_add(struct errors *e, struct str path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool errors_vadd(struct errors *e, struct str path, const char *fmt, va_list ap);
/* All errors as one text: "path: text; path: text; and N more". root ("RouteConfiguration \"web\"")
 * may be empty. The result lives in `a`. */
struct str errors_text(const struct errors *e, struct arena *a, struct str root);
