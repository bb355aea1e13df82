/* Reading the values of one runtime layer. Values and keys live in the arena; the map's table on
 * the heap. */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include "base/map.h"
#include "base/str.h"

struct arena;
struct Google__Protobuf__Struct;

/* Nested fields are joined by dots; a struct with numerator (and denominator) is a fraction. */
void layer_read_struct(struct arena *a, const struct Google__Protobuf__Struct *s, struct map *to);
/* An envoy.service.runtime.v3.Runtime; NULL: nothing. */
void layer_read_runtime(struct arena *a, const ProtobufCMessage *runtime, struct map *to);
/* Files below a directory, path separators as dots. False: no such directory. */
bool layer_read_directory(struct arena *a, struct str dir, struct map *to);
/* One value from text, as files and the admin page give it. */
void layer_read_text(struct arena *a, struct str key, struct str text, struct map *to);
/* For arena_on_free: releases a struct map. */
void layer_map_release(void *map);
