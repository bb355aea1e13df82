/* Substitution formats: declared in proxy/api, so that filters may use them. */
#pragma once
#include "proxy/api/format.h"
