/* Merging two messages as protobuf's MergeFrom does. By hand: protobuf-c 1.4.1 cannot merge
 * messages that have an unset oneof. */
#include "base/arena.h"
#include "base/must.h"
#include "proto/json.h"
#include "proto/proto.h"

static void merge_into(struct arena *a, ProtobufCMessage *to,
                       const ProtobufCMessage *from); /* recursion: messages nest */

static size_t value_size(const ProtobufCFieldDescriptor *f)
{
    return proto_element_size(f->type);
}

/* True when the map has an entry with the same key (compared as bytes of the wire). */
static bool key_taken(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
                      const ProtobufCMessage *entry)
{
    const ProtobufCFieldDescriptor *key = &entry->descriptor->fields[0];
    for (size_t i = 0; i < proto_field_count(m, f); i++) {
        const ProtobufCMessage *other = proto_field_message(m, f, i);
        const void *x = proto_field_at(entry, key), *y = proto_field_at(other, key);
        if (key->type == PROTOBUF_C_TYPE_STRING) {
            if (strcmp(*(char *const *)x, *(char *const *)y) == 0) return true;
        } else if (memcmp(x, y, value_size(key)) == 0) {
            return true;
        }
    }
    return false;
}

static void merge_repeated(struct arena *a, ProtobufCMessage *to, const ProtobufCMessage *from,
                           unsigned idx, bool map)
{
    const ProtobufCFieldDescriptor *f = &to->descriptor->fields[idx];
    size_t old = proto_field_count(to, f), more = proto_field_count(from, f), size = value_size(f),
           count = 0;
    const char *old_items = *(const char *const *)proto_field_at(to, f),
               *new_items = *(const char *const *)proto_field_at(from, f);
    if (more == 0) return;
    char *items = arena_array(a, old + more, size);
    for (size_t i = 0; i < old; i++) {
        /* Of equal keys the later entry counts. */
        if (map && key_taken(from, f, proto_field_message(to, f, i))) continue;
        memcpy(items + count++ * size, old_items + i * size, size);
    }
    memcpy(items + count * size, new_items, more * size);
    count += more;
    memcpy((char *)to + f->quantifier_offset, &count, sizeof count);
    memcpy((char *)to + f->offset, &items, sizeof items);
}

static void merge_field(struct arena *a, ProtobufCMessage *to, const ProtobufCMessage *from,
                        const struct proto_type *type, unsigned idx)
{
    const ProtobufCFieldDescriptor *f = &to->descriptor->fields[idx];
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        merge_repeated(a, to, from, idx, type->fields[idx].map);
        return;
    }
    if (!proto_field_set(from, type, idx)) return;
    if (f->type == PROTOBUF_C_TYPE_MESSAGE && proto_field_set(to, type, idx)) {
        merge_into(a, *(ProtobufCMessage **)(void *)((char *)to + f->offset),
                   proto_field_message(from, f, 0));
        return;
    }
    memcpy((char *)to + f->offset, proto_field_at(from, f), value_size(f));
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        memcpy((char *)to + f->quantifier_offset, &f->id, sizeof f->id);
}

static void merge_into(struct arena *a, ProtobufCMessage *to, const ProtobufCMessage *from)
{
    const struct proto_type *type = proto_type_of(to->descriptor);
    for (unsigned i = 0; i < to->descriptor->n_fields; i++)
        merge_field(a, to, from, type, i);
}

ProtobufCMessage *json_merge(struct arena *a, const ProtobufCMessage *under,
                             const ProtobufCMessage *over)
{
    if (!under || !over) return under || over ? proto_dup(a, under ? under : over) : NULL;
    must(under->descriptor == over->descriptor);
    ProtobufCMessage *m = proto_dup(a, under);
    merge_into(a, m, proto_dup(a, over));
    return m;
}
