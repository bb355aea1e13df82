#include "filters/common/istio.h"

#include "proto/notes.h"
#include "proxy/api/conf.h"

const void *istio_conf_noted(const struct conf_at *at, const char *what)
{
    static const char marker = 0;
    const struct proto_opts *opts = at->cx->opts;
    if (opts && opts->on_note)
        opts->on_note(opts->user, PROTO_NOTE_IGNORED, conf_path(at), str_of(what));
    return &marker;
}
