/* The version as launchers expect it: revision/version/state/type/TLS library. */
#include "server/version.h"

#ifndef SKIFF_REVISION
#define SKIFF_REVISION "0000000000000000000000000000000000000000" /* built outside a checkout */
#endif
#ifdef NDEBUG
#define SKIFF_BUILD "RELEASE"
#else
#define SKIFF_BUILD "DEBUG"
#endif

const char *version_text(void)
{
    return SKIFF_REVISION "/1.40.0/Clean/" SKIFF_BUILD "/OpenSSL";
}
