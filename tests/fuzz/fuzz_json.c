/* Bytes as JSON (first bit 0) or YAML (1) of a bootstrap: read, print, read again. */
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/must.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "proto/json.h"
#include "proto/print.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_WARN};
    static const struct print_opts pretty = {.pretty = true};
    const ProtobufCMessageDescriptor *desc = &envoy__config__bootstrap__v3__bootstrap__descriptor;
    if (size == 0) return 0;
    struct arena *arena = arena_new("fuzz", 0);
    struct errors errors = {.arena = arena};
    enum json_format format = data[0] & 1 ? JSON_FORMAT_YAML : JSON_FORMAT_JSON;
    struct str text = str_make((const char *)data + 1, size - 1);
    const ProtobufCMessage *m = json_read(arena, desc, text, format, "fuzz", &lenient, &errors);
    if (m) {
        struct str printed = print_to(arena, m, &pretty);
        must(json_read(arena, desc, printed, JSON_FORMAT_JSON, "again", &lenient, &errors) != NULL);
    }
    arena_free(&arena);
    return 0;
}
