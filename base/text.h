/* Encodings of text: base64, hex, UTF-8, percent, number formats. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"

struct arena;

/* Standard or URL-safe alphabet accepted, padding optional. False on junk. */
bool base64_decode(struct arena *a, struct str in, struct str *out);
struct str base64_encode(struct arena *a, struct str in);
struct str base64url_encode(struct arena *a, struct str in); /* no padding */
struct str hex_encode(struct arena *a, struct str in);       /* lower case */
/* Whole-string check as RFC 3629 (no surrogates, no overlongs). */
bool utf8_valid(struct str s);
/* The same text with `instead` for each byte that is no part of valid UTF-8; s itself when all is.
 */
struct str utf8_clean(struct arena *a, struct str s, char instead);
/* Decodes %XX; bad escapes are kept as they are. */
struct str percent_decode(struct arena *a, struct str in);
/* Encodes every byte that is not unreserved (RFC 3986) and not in `keep`. */
struct str percent_encode(struct arena *a, struct str in, struct str keep);
/* IMF-fixdate ("Sun, 06 Nov 1994 08:49:37 GMT", 29 characters) of a wall time. out needs 30. */
void date_http(uint64_t wall_us, char *out);
