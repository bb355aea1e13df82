/* Matchers: declared in proxy/api, so that filters may use them. */
#pragma once
#include "proxy/api/matcher.h"
