/* UTF-8 steps shared by text.c and sb.c. */
#pragma once
#include <stddef.h>
#include "base/str.h"

/* Length of the valid UTF-8 sequence that starts at index `at` (1..4), or 0 if none does. RFC 3629:
 * no surrogates, no overlongs, nothing above U+10FFFF. */
size_t utf8_sequence(struct str s, size_t at);
