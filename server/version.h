/* Who we are, in Envoy's words. */
#pragma once

/* Envoy's five parts: "revision/1.40.0/Clean/RELEASE/OpenSSL" (static). Launchers parse it. */
const char *version_text(void);
