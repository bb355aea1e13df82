/* Texts of the response flags. */
#include "proxy/http/response_flags.h"
#include "base/arena.h"

struct flag_text {
    struct str short_name, long_name;
};
static const struct flag_text flag_texts[RF_COUNT] = {
#define R(id, s, l) [RF_##id] = {{s, sizeof(s) - 1}, {l, sizeof(l) - 1}},
#include "proxy/http/response_flags.def"
#undef R
};

struct str response_flags_text(uint64_t flags, bool long_names, struct arena *a)
{
    if (!flags) return STR("-");
    /* Envoy lists flags in the order in which they were set; of those that come together only URX
     * is set before lower numbers. */
    const uint64_t first = (uint64_t)1 << RF_URX;
    struct str text =
        flags & first ? (long_names ? flag_texts[RF_URX].long_name : flag_texts[RF_URX].short_name)
                      : STR_NONE;
    for (unsigned f = 0; f < RF_COUNT; f++) {
        if (!(flags >> f & 1) || f == RF_URX) continue;
        struct str name = long_names ? flag_texts[f].long_name : flag_texts[f].short_name;
        text = text.len ? str_cat(a, str_cat(a, text, STR(",")), name) : name;
    }
    return text;
}

bool response_flag_parse(struct str short_name, enum response_flag *out)
{
    for (unsigned f = 0; f < RF_COUNT; f++) {
        if (!str_eq(flag_texts[f].short_name, short_name)) continue;
        *out = (enum response_flag)f;
        return true;
    }
    return false;
}
