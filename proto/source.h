/* The text that a configuration was read from, kept so that an error found later can be shown at
 * its line. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"
#include "proto/json.h"

struct arena;
struct errors;
struct source;

/* Copies name and text. */
struct source *source_new(struct str name, struct str text, enum json_format format);
void source_free(struct source **s);
struct str source_name(const struct source *s);

/* Where a field path leads ("static_resources.listeners[0].filter_chains[0]"; names in both styles;
 * through Any and TypedStruct), or its deepest part that exists. Line and column count from 1.
 * Gives back how many steps were found; 0: none, the place is the start. The text is read again at
 * the first call. */
size_t source_locate(struct source *s, struct str path, uint32_t *line, uint32_t *column);
/* Sets `where` ("file.yaml:12:7") of each error that has a path but no place yet. Of several
 * sources (merged) the one where the path leads deepest is named; the last one on a tie. */
void source_locate_errors(struct source *const *sources, size_t count, struct errors *errors);
