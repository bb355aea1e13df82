/* The table of all extensions that this build has; handed down by server/ as a pointer. */
#pragma once
#include "proxy/api/extension.h"

extern const struct registry filters_registry;
/* filters/http/missing.c; the last one has no config. */
extern const struct registry_missing filters_missing[];
