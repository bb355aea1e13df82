/* Where the process begins. */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "server/options.h"
#include "server/server.h"
#include "server/version.h"

int main(int argc, char **argv)
{
    struct arena *a = arena_new("process", 0);
    struct options o;
    struct str why;
    int code = 0;
    if (!options_parse(argc, argv, &o, a, &why)) {
        (void)fprintf(stderr, "skiff: %.*s\n", STR_ARG(why));
        code = 1;
    } else if (o.help) {
        struct sb text = {0};
        options_usage(&text);
        (void)fwrite(text.ptr, 1, text.len, stdout);
        sb_release(&text);
    } else if (o.version) {
        (void)printf("\n%s  version: %s\n\n", "skiff", version_text());
    } else if (o.hot_restart_version) {
        (void)puts("disabled");
    } else {
        code = server_main(&o);
    }
    arena_free(&a);
    return code;
}
