/* Statistics of the process. What costs something to know is brought up to date only when somebody
 * looks. */
#include "server/server_stats.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/must.h"
#include "proxy/net/listener_manager.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"
#include "server/admin.h"
#include "server/server.h"

enum server_stat {
    SERVER_STAT_FIPS,
    SERVER_STAT_CONCURRENCY,
    SERVER_STAT_CERT_DAYS,
    SERVER_STAT_ASSERTIONS,
    SERVER_STAT_DROPPED_FLUSHES,
    SERVER_STAT_DYNAMIC_UNKNOWN,
    SERVER_STAT_BUGS,
    SERVER_STAT_NOTIFICATIONS,
    SERVER_STAT_EPOCH,
    SERVER_STAT_INIT_TIME,
    SERVER_STAT_LIVE,
    SERVER_STAT_ALLOCATED,
    SERVER_STAT_HEAP,
    SERVER_STAT_PHYSICAL,
    SERVER_STAT_PARENT,
    SERVER_STAT_OCSP,
    SERVER_STAT_STATE,
    SERVER_STAT_STATIC_UNKNOWN,
    SERVER_STAT_LOOKUPS,
    SERVER_STAT_CONNECTIONS,
    SERVER_STAT_UPTIME,
    SERVER_STAT_VERSION,
    SERVER_STAT_WIP,
    SERVER_STAT_IGNORED,
    SERVER_STAT_COUNT
};
static const struct stat_def defs[SERVER_STAT_COUNT] = {
    [SERVER_STAT_FIPS] = {"compilation_settings.fips_mode", STAT_GAUGE, 0},
    [SERVER_STAT_CONCURRENCY] = {"concurrency", STAT_GAUGE, 0},
    [SERVER_STAT_CERT_DAYS] = {"days_until_first_cert_expiring", STAT_GAUGE, 0},
    [SERVER_STAT_ASSERTIONS] = {"debug_assertion_failures", STAT_COUNTER, 0},
    [SERVER_STAT_DROPPED_FLUSHES] = {"dropped_stat_flushes", STAT_COUNTER, 0},
    [SERVER_STAT_DYNAMIC_UNKNOWN] = {"dynamic_unknown_fields", STAT_COUNTER, 0},
    [SERVER_STAT_BUGS] = {"envoy_bug_failures", STAT_COUNTER, 0},
    [SERVER_STAT_NOTIFICATIONS] = {"envoy_notifications", STAT_COUNTER, 0},
    [SERVER_STAT_EPOCH] = {"hot_restart_epoch", STAT_GAUGE, 0},
    [SERVER_STAT_INIT_TIME] = {"initialization_time_ms", STAT_HISTOGRAM, 0},
    [SERVER_STAT_LIVE] = {"live", STAT_GAUGE, 0},
    [SERVER_STAT_ALLOCATED] = {"memory_allocated", STAT_GAUGE, 0},
    [SERVER_STAT_HEAP] = {"memory_heap_size", STAT_GAUGE, 0},
    [SERVER_STAT_PHYSICAL] = {"memory_physical_size", STAT_GAUGE, 0},
    [SERVER_STAT_PARENT] = {"parent_connections", STAT_GAUGE, 0},
    [SERVER_STAT_OCSP] = {"seconds_until_first_ocsp_response_expiring", STAT_GAUGE, 0},
    [SERVER_STAT_STATE] = {"state", STAT_GAUGE, 0},
    [SERVER_STAT_STATIC_UNKNOWN] = {"static_unknown_fields", STAT_COUNTER, 0},
    [SERVER_STAT_LOOKUPS] = {"stats_recent_lookups", STAT_GAUGE, 0},
    [SERVER_STAT_CONNECTIONS] = {"total_connections", STAT_GAUGE, 0},
    [SERVER_STAT_UPTIME] = {"uptime", STAT_GAUGE, 0},
    [SERVER_STAT_VERSION] = {"version", STAT_GAUGE, 0},
    [SERVER_STAT_WIP] = {"wip_protos", STAT_COUNTER, 0},
    /* Ours: fields that were accepted without effect (each is in the log). */
    [SERVER_STAT_IGNORED] = {"ignored_fields", STAT_COUNTER, STAT_LAZY},
};

/* The first three bytes of the revision as a number, as Envoy does; ours may be overridden by
 * stats_server_version_override. */
static uint64_t server_version_number(const struct server *s)
{
    const Google__Protobuf__UInt64Value *v =
        s->config.bootstrap ? s->config.bootstrap->stats_server_version_override : NULL;
    return v ? v->value : 0;
}

void server_stats_start(struct server *s)
{
    s->server_stats = stat_group_get(s->stats, STR("server."), defs, SERVER_STAT_COUNT);
    stat_set(s->server_stats, SERVER_STAT_CONCURRENCY, s->options.concurrency);
    stat_set(s->server_stats, SERVER_STAT_EPOCH, s->options.restart_epoch);
    stat_set(s->server_stats, SERVER_STAT_VERSION, server_version_number(s));
    stat_set(s->server_stats, SERVER_STAT_STATE, SERVER_PRE_INITIALIZING);
    /* Envoy shows the largest 32-bit number while there is no certificate and 0 while there is no
     * OCSP response. */
    stat_set(s->server_stats, SERVER_STAT_CERT_DAYS, UINT32_MAX);
    stat_add(s->server_stats, SERVER_STAT_STATIC_UNKNOWN, s->early_unknown);
    stat_add(s->server_stats, SERVER_STAT_IGNORED, s->early_ignored);
}

void server_stats_stop(struct server *s)
{
    stat_group_unref(&s->server_stats);
}

void server_stats_live(struct server *s)
{
    stat_set(s->server_stats, SERVER_STAT_LIVE, 1);
    stat_record(s->server_stats, SERVER_STAT_INIT_TIME, (clock_now_us() - s->rt->start_us) / 1000);
}

uint64_t server_stats_resident(void)
{
    uint64_t resident = 0;
    char line[128];
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return 0;
    if (fgets(line, sizeof line, f)) {
        struct str text = str_trim(str_of(line)), first, second;
        uint64_t pages;
        if (str_next(&text, ' ', &first) && str_next(&text, ' ', &second) &&
            str_to_u64(second, &pages))
            resident = pages;
    }
    (void)fclose(f); /* only read */
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void server_stats_refresh(struct server *s)
{
    struct mallinfo2 m = mallinfo2();
    stat_set(s->server_stats, SERVER_STAT_STATE, s->state);
    stat_set(s->server_stats, SERVER_STAT_LIVE, s->state == SERVER_LIVE && !s->health_failed);
    stat_set(s->server_stats, SERVER_STAT_UPTIME, (clock_now_us() - s->rt->start_us) / 1000000);
    stat_set(s->server_stats, SERVER_STAT_ALLOCATED, m.uordblks + m.hblkhd);
    stat_set(s->server_stats, SERVER_STAT_HEAP, m.arena + m.hblkhd);
    stat_set(s->server_stats, SERVER_STAT_PHYSICAL, server_stats_resident());
    stat_set(s->server_stats, SERVER_STAT_CONNECTIONS, listener_manager_connections(s->listeners));
    stat_set(s->server_stats, SERVER_STAT_VERSION, server_version_number(s));
    stat_set(s->server_stats, SERVER_STAT_CERT_DAYS, admin_days_until_expiry(s));
    if (bug_count()) stat_set(s->server_stats, SERVER_STAT_BUGS, bug_count());
}

void server_stats_show(struct server *s)
{
    uint64_t now = clock_now_us();
    server_stats_refresh(s);
    if (s->flushed_us && now - s->flushed_us < s->flush_interval_us) return;
    s->flushed_us = now;
    stats_flush(s->stats);
}

void server_stats_note(struct server *s, enum proto_note_kind kind)
{
    if (!s->server_stats) { /* the bootstrap is read before there are statistics */
        s->early_unknown += kind == PROTO_NOTE_UNKNOWN;
        s->early_ignored += kind == PROTO_NOTE_IGNORED;
        return;
    }
    bool dynamic = s->running; /* not of the bootstrap */
    switch (kind) {
    case PROTO_NOTE_UNKNOWN:
        stat_inc(s->server_stats,
                 dynamic ? SERVER_STAT_DYNAMIC_UNKNOWN : SERVER_STAT_STATIC_UNKNOWN);
        return;
    case PROTO_NOTE_IGNORED: stat_inc(s->server_stats, SERVER_STAT_IGNORED); return;
    case PROTO_NOTE_DEPRECATED: return; /* runtime.deprecated_feature_use counts those */
    }
}
