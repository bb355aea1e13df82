/* What jwt.c and jwks.c share of JSON. */
#pragma once
#include "filters/common/jwt.h"

struct json_t;

/* An object, the caller's (json_decref), or NULL. */
struct json_t *jwt_json(struct str text);
/* The URL-safe alphabet without padding, nothing else. */
bool jwt_base64url(struct arena *a, struct str in, struct str *out);
