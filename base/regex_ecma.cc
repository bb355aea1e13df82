/* The C++ library's expressions behind the C face of regex_ecma.h. It throws; nothing of that
 * leaves this file. "Polynomial" is libstdc++'s way that keeps a list of states and does not go one
 * call deeper with each byte, which overflowed the stack; back references are its price. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include "base/arena.h"
#include "base/regex_ecma.h"
#include "base/str.h"
#pragma GCC diagnostic pop

/* GCC 12 warns of its own <regex>, wrongly, where sanitizers keep it from seeing through. */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include <cstring>
#include <regex>

struct regex_ecma {
    std::regex re;
};

static void regex_ecma_destroy(void *ptr)
{
    delete static_cast<struct regex_ecma *>(ptr);
}

struct regex_ecma *regex_ecma_new(struct arena *a, struct str pattern, struct str *why)
{
    struct regex_ecma *r = nullptr;
    try {
        r = new regex_ecma{std::regex(pattern.ptr ? pattern.ptr : "", pattern.len,
                                      std::regex::ECMAScript | std::regex::optimize |
                                          std::regex_constants::__polynomial)};
    } catch (const std::regex_error &e) {
        if (why) *why = str_dup(a, {e.what(), std::strlen(e.what())});
        return nullptr;
    }
    arena_on_free(a, regex_ecma_destroy, r);
    return r;
}

bool regex_ecma_groups(const struct regex_ecma *r, struct str s, struct str *groups, size_t count)
{
    if (s.len > REGEX_ECMA_TEXT_MOST || !s.ptr) return false;
    std::cmatch found;
    try {
        if (!std::regex_search(s.ptr, s.ptr + s.len, found, r->re)) return false;
    } catch (const std::regex_error &) {
        return false; /* too complex for this text */
    }
    for (size_t i = 0; i < count; i++) {
        bool there = i < found.size() && found[i].matched;
        groups[i].ptr = there ? found[i].first : nullptr;
        groups[i].len = there ? static_cast<size_t>(found[i].length()) : 0;
    }
    return true;
}

size_t regex_ecma_group_count(const struct regex_ecma *r)
{
    return r->re.mark_count();
}
