/* Which bytes may stand where in a message. */
#pragma once
#include <stdbool.h>
#include "base/str.h"

/* Request target: visible ASCII. */
bool h1_target_valid(struct str s);
/* host[:port] of Host or an absolute target: no userinfo, no path, no spaces. */
bool h1_authority_valid(struct str s);
/* Field value: no control bytes but tab, no DEL. */
bool h1_value_valid(struct str s);
/* token of RFC 9110; lower makes it lower case in place, whatever it is. */
bool h1_token_valid(struct str s);
bool h1_token_lower(char *at, size_t len);
