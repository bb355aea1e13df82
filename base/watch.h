/* Files watched for change on the main loop (inotify): content written, replaced by rename, symlink
 * swapped. */
#pragma once
#include "base/loop.h"
#include "base/str.h"

struct watch_set;
struct watch;

struct watch_set *watch_set_new(struct loop *l);
void watch_set_free(struct watch_set **s);
/* Calls fire(arg) some ms after the path changed (moved onto, closed after write). Watches the
 * directory, so atomic replacement is seen. NULL with *err negative errno when the directory cannot
 * be watched. The path is copied. */
struct watch *watch_path(struct watch_set *s, struct str path, void (*fire)(void *arg), void *arg,
                         int *err);
void watch_free(struct watch **w);
/* Whole file into the arena; negative errno, -EFBIG over `most`. Works on FIFOs (reads to the end
 * once). */
int file_read(struct arena *a, const char *path, size_t most, struct str *out);
