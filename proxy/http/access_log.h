/* Access logs: the configured lists with their filters (inside), and the thread that writes log
 * files. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "proxy/api/access_logger.h"
#include "proxy/api/matcher.h"

struct runtime;

/* Main, before runtime_start. Text is written when `min_bytes` of it wait or `flush_us` after it
 * was logged. The thread begins with the first file; its statistics thread index is concurrency
 * + 1. */
void access_log_start(struct runtime *rt, uint64_t flush_us, size_t min_bytes);
/* Main. Opens all files anew (SIGUSR1: after rotation). */
void access_log_reopen(struct runtime *rt);
/* Main, after runtime_stop. Writes what waits and ends the thread; all struct log_file are gone. */
void access_log_stop(struct runtime *rt);

/* --- inside of struct access_log_list, for its translation */
enum access_filter_kind {
    ACCESS_FILTER_STATUS,
    ACCESS_FILTER_DURATION,
    ACCESS_FILTER_NOT_HEALTH_CHECK,
    ACCESS_FILTER_TRACEABLE,
    ACCESS_FILTER_RUNTIME,
    ACCESS_FILTER_AND,
    ACCESS_FILTER_OR,
    ACCESS_FILTER_HEADER,
    ACCESS_FILTER_FLAG,
    ACCESS_FILTER_GRPC,
    ACCESS_FILTER_METADATA,
    ACCESS_FILTER_LOG_TYPE
};
enum access_compare {
    ACCESS_EQ,
    ACCESS_GE,
    ACCESS_LE,
    ACCESS_NE
}; /* numbers of ComparisonFilter.Op */
struct access_filter {
    enum access_filter_kind kind;
    enum access_compare op;
    uint32_t value; /* status, duration in ms */
    struct str runtime_key;
    uint32_t numerator, denominator;
    bool independent;                /* runtime: its own random number */
    const struct access_filter *sub; /* and, or */
    size_t count;
    struct header_matcher header;
    uint64_t bits; /* flags, gRPC statuses, log types */
    bool exclude;
    struct metadata_matcher metadata;
    bool has_metadata, if_missing;
};
struct access_log_entry {
    const struct access_filter *filter; /* NULL: all */
    const struct access_logger_type *type;
    const void *conf;
};
struct access_log_list {
    struct access_log_entry *v;
    size_t count;
};
bool access_filter_pass(const struct access_filter *f, struct worker *w,
                        const struct stream_info *info, enum access_log_type type);
