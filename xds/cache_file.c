/* "skiff config cache 1 IDENTITY CHECKSUM LENGTH\n", then for each message its length in eight
 * bytes (little endian) and its bytes. */
#include "xds/cache_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/map.h"
#include "base/must.h"
#include "base/watch.h"
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "proto/decode.h"

enum { LENGTH_BYTES = 8, HEADER_MOST = 128, FILE_MODE = 0600 };

#define section_message Envoy__Service__Discovery__V3__DeltaDiscoveryResponse /* 45 characters */
static const char cache_magic[] = "skiff config cache ";

/* --- writing
 * ---------------------------------------------------------------------------------------------- */

void cache_file_add(struct sb *body, const section_message *section)
{
    struct arena *a = arena_new("cache", 0);
    struct str bytes = proto_pack(a, &section->base);
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        sb_char(body, (char)((uint64_t)bytes.len >> (8 * i) & 0xff));
    sb_add(body, bytes);
    arena_free(&a);
}

static int write_all(int fd, struct str data)
{
    while (data.len) {
        ssize_t n = write(fd, data.ptr, data.len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        data = str_sub(data, (size_t)n, data.len);
    }
    return 0;
}

int cache_file_write(struct arena *a, const char *path, uint64_t identity, struct str body)
{
    const char *beside = str_fmt(a, "%s.new", path).ptr;
    struct str header = str_fmt(a, "%s1 %" PRIu64 " %" PRIu64 " %zu\n", cache_magic, identity,
                                hash_xxh64(body, 0), body.len);
    if (body.len > CACHE_FILE_MOST) return -EFBIG;
    (void)unlink(beside); /* a leftover may have another mode or be a link */
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    if (fd < 0) return -errno;
    int err = write_all(fd, header);
    if (!err) err = write_all(fd, body);
    if (close(fd) < 0 && !err) err = -errno;
    if (!err && rename(beside, path) < 0) err = -errno;
    if (err) (void)unlink(beside); /* the error is told already */
    return err;
}

/* --- reading
 * ---------------------------------------------------------------------------------------------- */

static bool cache_fail(struct str *why, const char *text)
{
    *why = str_of(text);
    return false;
}

/* The header's numbers; *body is what follows it. */
static bool header_read(struct str all, uint64_t identity, struct str *body, struct str *why)
{
    struct str line, word[4];
    uint64_t whose = 0, sum = 0, length = 0;
    if (!str_starts(all, str_of(cache_magic)) ||
        !str_cut(str_sub(all, 0, HEADER_MOST), '\n', &line, body))
        return cache_fail(why, "it is no config cache");
    *body = str_sub(all, line.len + 1, all.len);
    line = str_sub(line, sizeof cache_magic - 1, line.len);
    for (size_t i = 0; i < ARRAY_LEN(word); i++)
        if (!str_next(&line, ' ', &word[i])) return cache_fail(why, "its header is corrupt");
    if (!str_eq(word[0], STR("1")))
        return cache_fail(why, "it was written by another version of Skiff");
    if (!str_to_u64(word[1], &whose) || !str_to_u64(word[2], &sum) || !str_to_u64(word[3], &length))
        return cache_fail(why, "its header is corrupt");
    if (whose != identity) return cache_fail(why, "it belongs to another node or bootstrap");
    if (length != body->len || sum != hash_xxh64(*body, 0))
        return cache_fail(why, "it is corrupt (wrong length or checksum)");
    return true;
}

static bool section_read(struct arena *a, struct str *body, section_message **out, struct str *why)
{
    const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct errors errors = {.arena = a};
    uint64_t len = 0;
    if (body->len < LENGTH_BYTES) return cache_fail(why, "it is cut off");
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        len |= (uint64_t)(unsigned char)body->ptr[i] << (8 * i);
    if (len > body->len - LENGTH_BYTES) return cache_fail(why, "it is cut off");
    *out = (section_message *)(void *)proto_unpack(
        a, &envoy__service__discovery__v3__delta_discovery_response__descriptor,
        str_sub(*body, LENGTH_BYTES, (size_t)len), &lenient, NULL, &errors);
    *body = str_sub(*body, LENGTH_BYTES + (size_t)len, body->len);
    if (!*out) *why = errors_text(&errors, a, STR("a section"));
    return *out != NULL;
}

bool cache_file_read(struct arena *a, const char *path, uint64_t identity,
                     struct cache_sections *out, struct str *why)
{
    enum { SECTIONS_MOST = 65536 };
    struct str all, body;
    int err = file_read(a, path, CACHE_FILE_MOST + HEADER_MOST, &all);
    *why = STR_NONE;
    *out = (struct cache_sections){0};
    if (err == -ENOENT) return false;
    if (err < 0) return cache_fail(why, strerror(-err));
    if (!header_read(all, identity, &body, why)) return false;
    size_t room = body.len / LENGTH_BYTES;
    if (room > SECTIONS_MOST) room = SECTIONS_MOST;
    out->v = ARENA_ARRAY(a, section_message *, room);
    while (body.len) {
        if (out->count == room) return cache_fail(why, "it has too many sections");
        if (!section_read(a, &body, &out->v[out->count], why)) return false;
        out->count++;
    }
    return true;
}
