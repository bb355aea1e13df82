/* The file of the config cache: a header that says whose it is and guards the rest, then messages
 * (DeltaDiscoveryResponse), each with its length. Main thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"

struct arena;
struct Envoy__Service__Discovery__V3__DeltaDiscoveryResponse;

enum { CACHE_FILE_MOST = 256 << 20 }; /* bytes; more is neither written nor read */

struct cache_sections {
    struct Envoy__Service__Discovery__V3__DeltaDiscoveryResponse **v;
    size_t count;
};
/* Adds a message to the body of a file to be. */
void cache_file_add(struct sb *body,
                    const struct Envoy__Service__Discovery__V3__DeltaDiscoveryResponse *section);
/* Writes beside and renames, mode 0600. 0 or negative errno. */
int cache_file_write(struct arena *a, const char *path, uint64_t identity, struct str body);
/* False: *why says what is wrong; NULL there: there is no such file. The sections live in `a`. */
bool cache_file_read(struct arena *a, const char *path, uint64_t identity,
                     struct cache_sections *out, struct str *why);
