/* Translation of matchers and numbers: declared in proxy/api, so that filters may use it. */
#pragma once
#include "proxy/api/conf_types.h"
