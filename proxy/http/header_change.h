/* Header changes: declared in proxy/api, so that filters may use them. */
#pragma once
#include "proxy/api/header_change.h"
