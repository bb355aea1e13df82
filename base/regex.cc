/* RE2 behind the C face of regex.h. Options are Envoy's: quiet, UTF-8, 8 MiB of memory per program.
 */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include "base/arena.h"
#include "base/regex.h"
#include "base/str.h"
#pragma GCC diagnostic pop

#include <re2/re2.h>

#include <string>

enum { REGEX_GROUPS_MOST = 32 };
static const int64_t REGEX_MEMORY = 8 << 20;

struct regex {
    re2::RE2 re;
    regex(re2::StringPiece pattern, const re2::RE2::Options &options) : re(pattern, options)
    {
    }
};

static re2::StringPiece piece_of(struct str s)
{
    return re2::StringPiece(s.ptr, s.len);
}

static struct str str_from(struct arena *a, const std::string &s)
{
    struct str view = {s.data(), s.size()};
    return str_dup(a, view);
}

static void regex_destroy(void *ptr)
{
    delete static_cast<struct regex *>(ptr);
}

struct regex *regex_new(struct arena *a, struct str pattern, struct str *why)
{
    re2::RE2::Options options(re2::RE2::Quiet);
    options.set_max_mem(REGEX_MEMORY);
    struct regex *r = new regex(piece_of(pattern), options);
    if (!r->re.ok()) {
        if (why) *why = str_from(a, r->re.error());
        delete r;
        return nullptr;
    }
    arena_on_free(a, regex_destroy, r);
    return r;
}

bool regex_full(const struct regex *r, struct str s)
{
    return r->re.Match(piece_of(s), 0, s.len, re2::RE2::ANCHOR_BOTH, nullptr, 0);
}

bool regex_partial(const struct regex *r, struct str s)
{
    return r->re.Match(piece_of(s), 0, s.len, re2::RE2::UNANCHORED, nullptr, 0);
}

bool regex_groups(const struct regex *r, struct str s, struct str *groups, size_t count)
{
    re2::StringPiece found[REGEX_GROUPS_MOST];
    size_t asked = count < REGEX_GROUPS_MOST ? count : static_cast<size_t>(REGEX_GROUPS_MOST);
    if (!r->re.Match(piece_of(s), 0, s.len, re2::RE2::UNANCHORED, found, static_cast<int>(asked)))
        return false;
    for (size_t i = 0; i < count; i++) {
        groups[i].ptr = i < asked ? found[i].data() : nullptr;
        groups[i].len = i < asked ? found[i].size() : 0;
    }
    return true;
}

size_t regex_group_count(const struct regex *r)
{
    return static_cast<size_t>(r->re.NumberOfCapturingGroups());
}

struct str regex_replace_all(const struct regex *r, struct arena *a, struct str s,
                             struct str rewrite)
{
    std::string text(s.ptr ? s.ptr : "", s.len);
    re2::RE2::GlobalReplace(&text, r->re, piece_of(rewrite));
    return str_from(a, text);
}

bool regex_check_rewrite(const struct regex *r, struct arena *a, struct str rewrite,
                         struct str *why)
{
    std::string error;
    if (r->re.CheckRewriteString(piece_of(rewrite), &error)) return true;
    if (why) *why = str_from(a, error);
    return false;
}
