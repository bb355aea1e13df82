/* Addresses as messages have them. */
#pragma once
#include "base/addr.h"
#include "envoy/config/core/v3/address.pb-c.h"

struct arena;

/* In the arena. */
Envoy__Config__Core__V3__Address *address_message(struct arena *a, const struct addr *addr);
