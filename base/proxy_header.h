/* Writing PROXY protocol headers (versions 1 and 2), and their TLVs: one byte of type, two of
 * length, the value. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/str.h"

enum { PROXY_TLV_MOST = 65535, PROXY_TLV_TYPES = 256 };

/* Appends one; false: the value is too long, and nothing was added. */
bool proxy_tlv_add(struct sb *out, uint8_t type, struct str value);
/* Takes the first off *rest. False: nothing (well-formed) is left. */
bool proxy_tlv_next(struct str *rest, uint8_t *type, struct str *value);

/* Appends "PROXY TCP4 ...", or UNKNOWN when the two are not addresses of one family. */
void proxy_header_v1(struct sb *out, const struct addr *from, const struct addr *to);
/* Appends a header with these TLVs (encoded); LOCAL and bare when the two are not addresses of one
 * family. False: the TLVs do not fit, and the header has none. */
bool proxy_header_v2(struct sb *out, const struct addr *from, const struct addr *to,
                     struct str tlvs);
/* The bare header of a connection that serves nobody. */
void proxy_header_v2_local(struct sb *out);
