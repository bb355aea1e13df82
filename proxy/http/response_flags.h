/* Texts of the response flags, for access logs, formats and filters that name them in
 * configuration. Any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"
#include "proxy/api/stream_info.h"

/* "UF,URX" in bit order; "-" when none is set. */
struct str response_flags_text(uint64_t flags, bool long_names, struct arena *a);
/* By short name. False: unknown. */
bool response_flag_parse(struct str short_name, enum response_flag *out);
