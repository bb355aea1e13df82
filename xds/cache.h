/* --config-cache: the last accepted resources of control planes on disk, and a start from them
 * while a control plane is away. Main thread. NULL (no such option) is fine everywhere. */
#pragma once
#include <stdbool.h>
#include "base/str.h"
#include "xds/xds.h"

struct cache;
struct source;
struct resource;

/* Reads what is there; a file that is corrupt or another's is told and ignored. directory is
 * borrowed for the life of the process. */
struct cache *cache_new(struct xds *x, const char *directory);
void cache_free(struct cache **c);
/* A source began to connect, wants something more, failed, or answered for the first time. */
void cache_source_started(struct cache *c, struct source *s);
void cache_source_watched(struct cache *c, struct source *s);
void cache_source_failed(struct cache *c, struct source *s);
void cache_source_answered(struct cache *c, struct source *s);
/* Something of a control plane was accepted or is gone: written soon. */
void cache_changed(struct cache *c);
/* Writes what waits to be written, if the configuration is whole. */
void cache_flush(struct cache *c);
/* What admin says of a resource that came from the cache while its source has not answered. */
struct str cache_stale_text(const struct resource *r);
