/* JSON primitives as Envoy's access logs write them. */
#pragma once
#include "base/str.h"

/* A JSON string with its quotes. Envoy: text that is no valid UTF-8 is taken byte by byte, what is
 * not plain ASCII becomes \u00XX. */
void json_string(struct sb *out, struct str s);
/* The same without the quotes. */
void json_string_content(struct sb *out, struct str s);
/* A number in its shortest form ("1e+05", "1.5"); NaN and infinities are null. */
void json_number(struct sb *out, double v);
