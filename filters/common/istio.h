/* Istio's own filters, accepted by name so that a stock Istio works. Plain Envoy does not have
 * them; what each then does not do is said once in the log. */
#pragma once
#include "base/str.h"

struct conf_at;

/* Notes `what` (an ignored field's kind of note: said once, counted always) at `at`. Gives a
 * non-NULL marker, which is what conf_create of a filter without settings returns. Main thread. */
const void *istio_conf_noted(const struct conf_at *at, const char *what);
