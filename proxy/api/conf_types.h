/* Translation of the small messages that many places of the configuration share: matchers, formats,
 * header changes, metadata, durations, fractions. Implemented in proxy/config. Main thread; results
 * are immutable and live in conf_arena(at). Where a function gives bool or NULL for failure, the
 * mistake was told at `at`. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proxy/api/conf.h"
#include "proxy/api/format.h"
#include "proxy/api/header_change.h"
#include "proxy/api/matcher.h"
#include "proxy/api/metadata.h"

struct Envoy__Config__Core__V3__DataSource;
struct Envoy__Config__Core__V3__HeaderValue;
struct Envoy__Config__Core__V3__HeaderValueOption;
struct Envoy__Config__Core__V3__Metadata;
struct Envoy__Config__Core__V3__RuntimeFractionalPercent;
struct Envoy__Config__Core__V3__SubstitutionFormatString;
struct Envoy__Config__Core__V3__TypedExtensionConfig;
struct Envoy__Config__Common__MutationRules__V3__HeaderMutation;
struct Envoy__Config__Route__V3__HeaderMatcher;
struct Envoy__Config__Route__V3__QueryParameterMatcher;
struct Envoy__Type__Matcher__V3__MetadataMatcher;
struct Envoy__Type__Matcher__V3__RegexMatcher;
struct Envoy__Type__Matcher__V3__RegexMatchAndSubstitute;
struct Envoy__Type__Matcher__V3__StringMatcher;
struct Envoy__Type__Matcher__V3__ValueMatcher;
struct Envoy__Type__V3__FractionalPercent;
struct Google__Protobuf__Duration;
struct Google__Protobuf__Struct;
struct Google__Protobuf__Value;

/* --- matchers
 * -------------------------------------------------------------------------------------------------------------------
 */
/* NULL: told (a bad pattern). */
const struct regex *conf_regex(const struct conf_at *at,
                               const struct Envoy__Type__Matcher__V3__RegexMatcher *m);
/* Pattern and checked replacement text. */
bool conf_regex_rewrite(const struct conf_at *at,
                        const struct Envoy__Type__Matcher__V3__RegexMatchAndSubstitute *m,
                        const struct regex **regex, struct str *to);
bool conf_string_matcher(const struct conf_at *at,
                         const struct Envoy__Type__Matcher__V3__StringMatcher *m,
                         struct string_matcher *out);
/* Arrays as protobuf-c has them; `field` is the repeated field of the message at `at`. NULL with
 * *ok true when empty. */
const struct string_matcher *conf_string_matchers(
    const struct conf_at *at, const char *field, size_t n,
    struct Envoy__Type__Matcher__V3__StringMatcher *const *v, bool *ok);
bool conf_header_matcher(const struct conf_at *at,
                         const struct Envoy__Config__Route__V3__HeaderMatcher *m,
                         struct header_matcher *out);
const struct header_matcher *conf_header_matchers(
    const struct conf_at *at, const char *field, size_t n,
    struct Envoy__Config__Route__V3__HeaderMatcher *const *v, bool *ok);
const struct query_matcher *conf_query_matchers(
    const struct conf_at *at, const char *field, size_t n,
    struct Envoy__Config__Route__V3__QueryParameterMatcher *const *v, bool *ok);
bool conf_value_matcher(const struct conf_at *at,
                        const struct Envoy__Type__Matcher__V3__ValueMatcher *m,
                        struct value_matcher *out);
bool conf_metadata_matcher(const struct conf_at *at,
                           const struct Envoy__Type__Matcher__V3__MetadataMatcher *m,
                           struct metadata_matcher *out);

/* --- formats and header changes
 * ----------------------------------------------------------------------------------------------------
 */
const struct format *conf_format(const struct conf_at *at,
                                 const struct Envoy__Config__Core__V3__SubstitutionFormatString *m);
/* The field `formatters` of the message at `at`; *extra: what they add, for conf_header_additions.
 */
bool conf_formatters(const struct conf_at *at, size_t n,
                     struct Envoy__Config__Core__V3__TypedExtensionConfig *const *v,
                     unsigned *extra);
/* The text of a DataSource (inline, file, environment variable); a file of more than `most` bytes
 * is an error (0: 1 MiB). */
bool conf_data_source(const struct conf_at *at, const struct Envoy__Config__Core__V3__DataSource *m,
                      size_t most, struct str *out);
/* add/remove are the names of the two repeated fields of the message at `at`. NULL with *ok true
 * when both are empty. */
const struct header_change *conf_header_change(
    const struct conf_at *at, const char *add_field, size_t add_count,
    struct Envoy__Config__Core__V3__HeaderValueOption *const *add, const char *remove_field,
    size_t remove_count, char *const *remove, bool *ok);
/* Additions alone, whose formats may use the operators of formatter extensions. */
const struct header_change *conf_header_additions(
    const struct conf_at *at, const char *field, size_t n,
    struct Envoy__Config__Core__V3__HeaderValueOption *const *v, unsigned extra, bool *ok);
/* Plain pairs, set over what is there; values may be formats (proxy/config/side_target.c). */
const struct header_change *conf_header_values(
    const struct conf_at *at, const char *field, size_t n,
    struct Envoy__Config__Core__V3__HeaderValue *const *v, bool *ok);
struct cidr;
/* A CidrRange of either family of messages, by its parts. No length is 0, one that is too long is
 * the longest, as in Envoy. False: told at `at`. */
bool conf_cidr(const struct conf_at *at, struct str ip, uint32_t bits, struct cidr *out);
/* config.common.mutation_rules.v3.HeaderMutation lists (mirrors, header_mutation). */
const struct header_change *conf_header_mutations(
    const struct conf_at *at, const char *field, size_t n,
    struct Envoy__Config__Common__MutationRules__V3__HeaderMutation *const *v, bool *ok);

/* --- metadata
 * ------------------------------------------------------------------------------------------------------------------------
 */
/* NULL when m is NULL. */
const struct metadata *conf_metadata(const struct conf_at *at,
                                     const struct Envoy__Config__Core__V3__Metadata *m);
struct value *conf_struct(struct arena *a, const struct Google__Protobuf__Struct *m);
void conf_value(struct arena *a, const struct Google__Protobuf__Value *m, struct value *out);

/* --- numbers
 * -------------------------------------------------------------------------------------------------------------------------
 */
/* Microseconds; m NULL: fallback. Negative or out of range durations are refused. */
bool conf_duration(const struct conf_at *at, const struct Google__Protobuf__Duration *m,
                   uint64_t fallback_us, uint64_t *out_us);
/* A fraction that runtime may override; m NULL: always. */
struct conf_fraction {
    struct str runtime_key;
    uint32_t numerator, denominator;
};
struct conf_fraction conf_runtime_fraction(
    const struct conf_at *at, const struct Envoy__Config__Core__V3__RuntimeFractionalPercent *m);
uint32_t conf_percent_denominator(const struct Envoy__Type__V3__FractionalPercent *m);
