/* The list of pages, the help text and the start page. */
#include "base/must.h"
#include "server/admin_internal.h"

#define PARAMS(...)                   \
    (const struct admin_param_help[]) \
    {                                 \
        __VA_ARGS__,                  \
        {                             \
            NULL, NULL                \
        }                             \
    }
#define REGEX_HELP "Regular expression (Google re2) for filtering "
#define ENABLE_HELP "One of (y, n)"

static const struct admin_page pages[] = {
    {"/", admin_page_home, false, "Admin home page", NULL},
    {"/allocprofiler", admin_page_profiler, true,
     "enable/disable the allocation profiler (if supported)",
     PARAMS({"enable", "enable/disable the allocation profiler; " ENABLE_HELP})},
    {"/certs", admin_page_certs, false, "print certs on machine", NULL},
    {"/clusters", admin_page_clusters, false, "upstream cluster status",
     PARAMS({"filter", REGEX_HELP "clusters by name"})},
    {"/config_dump", admin_page_config_dump, false, "dump current Envoy configs",
     PARAMS(
         {"resource", "The resource to dump"},
         {"mask",
          "The mask to apply. With resource it is applied to every element of the repeated field. A FieldMask"},
         {"name_regex",
          "Dump only configurations whose names match. Can be used with resource and mask"},
         {"include_eds", "Dump endpoints, too"})},
    {"/contention", admin_page_contention, false,
     "dump current Envoy mutex contention stats (if enabled)", NULL},
    {"/cpuprofiler", admin_page_profiler, true, "enable/disable the CPU profiler",
     PARAMS({"enable", "enables the CPU profiler; " ENABLE_HELP})},
    {"/drain_listeners", admin_page_drain_listeners, true, "drain listeners",
     PARAMS({"graceful", "Drain connections for the drain time before the listeners are closed"},
            {"skip_exit", "Drain connections but never close the listeners"},
            {"inboundonly", "Drain listeners with traffic_direction INBOUND only"})},
    {"/healthcheck/fail", admin_page_healthcheck_fail, true,
     "cause the server to fail health checks", NULL},
    {"/healthcheck/ok", admin_page_healthcheck_ok, true, "cause the server to pass health checks",
     NULL},
    {"/heap_dump", admin_page_no_heap_dump, false, "dump current Envoy heap (if supported)", NULL},
    {"/heapprofiler", admin_page_profiler, true, "enable/disable the heap profiler",
     PARAMS({"enable", "enable/disable the heap profiler; " ENABLE_HELP})},
    {"/help", admin_page_help, false, "print out list of admin commands", NULL},
    {"/hot_restart_version", admin_page_hot_restart_version, false,
     "print the hot restart compatibility version", NULL},
    {"/init_dump", admin_page_init_dump, false,
     "dump current Envoy init manager information (experimental)",
     PARAMS({"mask", "The component whose unready targets are shown, e.g. listener"})},
    {"/listeners", admin_page_listeners, false, "print listener info",
     PARAMS({"format", "File format to use; One of (text, json)"})},
    {"/logging", admin_page_logging, true, "query/change logging levels",
     PARAMS({"paths", "Change several levels: <logger>:<level>,<logger>:<level>"},
            {"group", "Change one: <logger>:<level>"},
            {"level", "Change all; One of (, trace, debug, info, warning, error, critical, off)"})},
    {"/memory", admin_page_memory, false, "print current allocation/heap usage", NULL},
    {"/memory/tcmalloc", admin_page_no_heap_dump, false, "print TCMalloc stats", NULL},
    {"/peak_heap_dump", admin_page_no_heap_dump, false, "dump peak Envoy heap (if supported)",
     NULL},
    {"/quitquitquit", admin_page_quit, true, "exit the server", NULL},
    {"/ready", admin_page_ready, false,
     "print server state, return 200 if LIVE, otherwise return 503", NULL},
    {"/reopen_logs", admin_page_reopen_logs, true, "reopen access logs", NULL},
    {"/reset_counters", admin_page_reset_counters, true, "reset all counters to zero", NULL},
    {"/runtime", admin_page_runtime, false, "print runtime values", NULL},
    {"/runtime_modify", admin_page_runtime_modify, true,
     "Adds or modifies runtime values as passed in query parameters; an empty value deletes what was added here",
     NULL},
    {"/server_info", admin_page_server_info, false, "print server version/status information",
     NULL},
    {"/stats", admin_page_stats, false, "print server stats",
     PARAMS({"usedonly", "Only include stats that have been written by system since restart"},
            {"filter", REGEX_HELP "stats"}, {"invert_filter", "Invert the filter regex"},
            {"format", "Format to use; One of (html, active-html, text, json)"},
            {"type",
             "Stat types to include.; One of (All, Counters, Histograms, Gauges, TextReadouts)"},
            {"histogram_buckets",
             "Histogram bucket display mode; One of (cumulative, disjoint, detailed, summary)"})},
    {"/stats/prometheus", admin_page_prometheus, false, "print server stats in prometheus format",
     PARAMS({"usedonly", "Only include stats that have been written by system since restart"},
            {"text_readouts", "Render text_readouts as gauges with value 0"},
            {"filter", REGEX_HELP "stats"}, {"invert_filter", "Invert the filter regex"},
            {"histogram_buckets", "Histogram bucket display mode; One of (cumulative, summary)"})},
    {"/stats/recentlookups", admin_page_recent_lookups, false, "Show recent stat-name lookups",
     NULL},
    {"/stats/recentlookups/clear", admin_page_recent_lookups_change, true,
     "clear list of stat-name lookups and counter", NULL},
    {"/stats/recentlookups/disable", admin_page_recent_lookups_change, true,
     "disable recording of reset stat-name lookup names", NULL},
    {"/stats/recentlookups/enable", admin_page_recent_lookups_change, true,
     "enable recording of reset stat-name lookup names", NULL},
    {"/v3/discovery:client_status", admin_page_client_status, true, NULL, NULL},
};

const struct admin_page *admin_pages(size_t *count)
{
    *count = ARRAY_LEN(pages);
    return pages;
}

void admin_help_text(struct sb *out)
{
    sb_add(out, STR("admin commands are:\n"));
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (!pages[i].text) continue;
        sb_fmt(out, "  %s%s: %s\n", pages[i].path, pages[i].post ? " (POST)" : "", pages[i].text);
        for (const struct admin_param_help *p = pages[i].params; p && p->name; p++)
            sb_fmt(out, "      %s: %s\n", p->name, p->text);
    }
}

void admin_page_help(struct admin_request *r)
{
    admin_help_text(&r->out);
}

/* A link for pages that only show, a form with a button for those that change something. */
static void home_row(struct sb *out, const struct admin_page *page)
{
    sb_add(out, STR("<tr><td>"));
    if (page->post) {
        sb_fmt(out, "<form action='%s' method='post'><button>%s</button></form>", page->path + 1,
               page->path + 1);
    } else {
        sb_fmt(out, "<a href='%s'>%s</a>", page->path + 1, page->path + 1);
    }
    sb_add(out, STR("</td><td>"));
    admin_html_escaped(out, str_of(page->text));
    sb_add(out, STR("</td></tr>\n"));
}

void admin_page_home(struct admin_request *r)
{
    r->content_type = ADMIN_HTML;
    sb_add(
        &r->out,
        STR("<!DOCTYPE html>\n<html lang='en'>\n<head><title>Skiff Admin</title>\n<style>body{font-family:sans-serif}"
            "td{padding:4px}tr:nth-child(even){background:#ddd}form{margin:0}</style></head>\n<body><table>\n"
            "<thead><th>Command</th><th>Description</th></thead>\n"));
    for (size_t i = 1; i < ARRAY_LEN(pages); i++)
        if (pages[i].text) home_row(&r->out, &pages[i]);
    sb_add(&r->out, STR("</table></body></html>\n"));
}
