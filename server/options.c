/* The command line: one table of flags, read by one loop. */
#include "server/options.h"

#include <sched.h>
#include <stddef.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/must.h"

enum flag_kind {
    FLAG_SWITCH,
    FLAG_TEXT,
    FLAG_U32,
    FLAG_LEVEL,
    FLAG_MODE,
    FLAG_STRATEGY,
    FLAG_IP_VERSION,
    FLAG_STATS_TAG,
    FLAG_ADDRESS,
    FLAG_NOTHING,
    FLAG_OCTAL
};
struct flag {
    const char *name;
    char letter;
    enum flag_kind kind;
    size_t at; /* offset of the field in struct options */
    const char *help;
};
#define AT(field) offsetof(struct options, field)
enum { NOWHERE = 0 };

/* FLAG_NOTHING: a switch that changes nothing here; its help says so. */
static const struct flag flags[] = {
    {"config-path", 'c', FLAG_TEXT, AT(config_path),
     "path of the bootstrap (.json .yaml .yml .pb), or a FIFO"},
    {"config-yaml", 0, FLAG_TEXT, AT(config_yaml),
     "bootstrap as inline YAML, merged over the file"},
    {"config-cache", 0, FLAG_TEXT, AT(config_cache),
     "directory that keeps the last accepted resources, for a start while the control plane is away"},
    {"mode", 0, FLAG_MODE, AT(mode), "serve | validate"},
    {"concurrency", 0, FLAG_U32, AT(concurrency), "number of worker threads"},
    {"cpuset-threads", 0, FLAG_SWITCH, AT(cpuset_threads),
     "default number of workers from the cpuset"},
    {"log-level", 'l', FLAG_LEVEL, AT(log_level),
     "trace debug info warning|warn error critical off"},
    {"component-log-level", 0, FLAG_TEXT, AT(component_log_level),
     "levels by component: upstream:debug,config:trace"},
    {"log-path", 0, FLAG_TEXT, AT(log_path), "log file, opened again on SIGUSR1"},
    {"log-format", 0, FLAG_TEXT, AT(log_format),
     "accepted; the line format is fixed (Envoy's default)"},
    {"log-format-escaped", 0, FLAG_NOTHING, NOWHERE,
     "accepted; control bytes in the log are always escaped"},
    {"log-stacktrace-single-entry", 0, FLAG_NOTHING, NOWHERE, "accepted, no effect"},
    {"enable-fine-grain-logging", 0, FLAG_NOTHING, NOWHERE, "accepted, no effect"},
    {"skip-deprecated-logs", 0, FLAG_SWITCH, AT(skip_deprecated_logs),
     "do not warn of deprecated fields"},
    {"service-node", 0, FLAG_TEXT, AT(service_node), "node id, overrides the bootstrap"},
    {"service-cluster", 0, FLAG_TEXT, AT(service_cluster), "node cluster, overrides the bootstrap"},
    {"service-zone", 0, FLAG_TEXT, AT(service_zone), "zone of the node's locality"},
    {"admin-address-path", 0, FLAG_TEXT, AT(admin_address_path),
     "file that the admin address is written to"},
    {"client-status-address", 0, FLAG_ADDRESS, AT(client_status_address),
     "127.0.0.1:PORT, a path or @name: the client status API (CSDS) by gRPC, without any "
     "authentication, as admin; off by default"},
    {"local-address-ip-version", 0, FLAG_IP_VERSION, AT(ipv6), "v4 | v6"},
    {"allow-unknown-static-fields", 0, FLAG_SWITCH, AT(allow_unknown_static),
     "unknown fields in the bootstrap are no error"},
    {"allow-unknown-fields", 0, FLAG_SWITCH, AT(allow_unknown_static), "the same, deprecated name"},
    {"reject-unknown-dynamic-fields", 0, FLAG_SWITCH, AT(reject_unknown_dynamic),
     "unknown fields from xDS are refused"},
    {"ignore-unknown-dynamic-fields", 0, FLAG_SWITCH, AT(ignore_unknown_dynamic),
     "unknown fields from xDS are not even told"},
    {"drain-time-s", 0, FLAG_U32, AT(drain_time_s),
     "seconds that connections of a removed listener may stay (600)"},
    {"drain-strategy", 0, FLAG_STRATEGY, AT(drain_immediate), "gradual | immediate"},
    {"parent-shutdown-time-s", 0, FLAG_U32, AT(parent_shutdown_time_s),
     "accepted; there is no hot restart"},
    {"disable-hot-restart", 0, FLAG_SWITCH, AT(disable_hot_restart),
     "accepted; there is no hot restart"},
    {"restart-epoch", 0, FLAG_U32, AT(restart_epoch), "accepted; there is no hot restart"},
    {"base-id", 0, FLAG_U32, AT(base_id), "accepted; processes do not exclude each other"},
    {"use-dynamic-base-id", 0, FLAG_NOTHING, NOWHERE, "accepted, no effect"},
    {"base-id-path", 0, FLAG_TEXT, AT(base_id_path), "file that the base id (0) is written to"},
    {"socket-path", 0, FLAG_TEXT, AT(socket_path), "accepted; there is no hot restart"},
    {"socket-mode", 0, FLAG_OCTAL, AT(socket_mode), "accepted; there is no hot restart"},
    {"hot-restart-version", 0, FLAG_SWITCH, AT(hot_restart_version),
     "print the hot restart version and exit"},
    {"skip-hot-restart-on-no-parent", 0, FLAG_NOTHING, NOWHERE, "accepted, no effect"},
    {"skip-hot-restart-parent-stats", 0, FLAG_NOTHING, NOWHERE, "accepted, no effect"},
    {"file-flush-interval-msec", 0, FLAG_U32, AT(file_flush_ms),
     "access logs are written at least this often (10000)"},
    {"file-flush-min-size-kb", 0, FLAG_U32, AT(file_flush_min_kb),
     "access logs are written when this much is buffered (64)"},
    {"stats-tag", 0, FLAG_STATS_TAG, AT(stats_tags),
     "tag:value put on every statistic; may be repeated"},
    {"disable-extensions", 0, FLAG_TEXT, AT(disable_extensions),
     "extensions that may not be used, by name"},
    {"enable-mutex-tracing", 0, FLAG_SWITCH, AT(mutex_tracing), "accepted, no effect"},
    {"enable-core-dump", 0, FLAG_SWITCH, AT(core_dump), "allow core dumps"},
    {"version", 0, FLAG_SWITCH, AT(version), "print the version and exit"},
    {"help", 'h', FLAG_SWITCH, AT(help), "print this and exit"},
};

static bool flag_takes_value(const struct flag *f)
{
    return f->kind != FLAG_SWITCH && f->kind != FLAG_NOTHING;
}

static const struct flag *flag_find(struct str name, bool letter)
{
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        if (letter && name.len == 1 && flags[i].letter == name.ptr[0]) return &flags[i];
        if (!letter && str_eq(str_of(flags[i].name), name)) return &flags[i];
    }
    return NULL;
}

static struct str flag_unknown(struct arena *a, const char *arg, struct str name)
{
    const char *best = NULL;
    size_t distance = 6;
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        size_t d = str_distance(str_of(flags[i].name), name, distance);
        if (d >= distance) continue;
        distance = d;
        best = flags[i].name;
    }
    if (best) return str_fmt(a, "unknown argument '%s'; did you mean '--%s'?", arg, best);
    return str_fmt(a, "unknown argument '%s'; --help lists all", arg);
}

static bool flag_bad(struct arena *a, const struct flag *f, const char *value, const char *expected,
                     struct str *why)
{
    *why = str_fmt(a, "--%s: '%s' is not %s", f->name, value, expected);
    return false;
}

static bool flag_octal(struct str s, uint32_t *out)
{
    *out = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '7' || *out > 07777) return false;
        *out = *out * 8 + (uint32_t)(s.ptr[i] - '0');
    }
    return s.len > 0;
}

/* One of two words into a bool: true is the second. */
static bool flag_choice(struct str v, struct str no, struct str yes, bool *out)
{
    *out = str_eq(v, yes);
    return *out || str_eq(v, no);
}

static bool flag_set(const struct flag *f, const char *value, struct options *o, struct arena *a,
                     struct str *why)
{
    void *to = (char *)o + f->at;
    struct str v = str_of(value);
    switch (f->kind) {
    case FLAG_SWITCH: *(bool *)to = true; return true;
    case FLAG_NOTHING: return true;
    case FLAG_TEXT: *(const char **)to = value; return true;
    case FLAG_U32:
        if (!str_to_u32(v, to)) return flag_bad(a, f, value, "a number", why);
        if (f->at == AT(concurrency)) o->concurrency_set = true;
        return true;
    case FLAG_OCTAL: return flag_octal(v, to) || flag_bad(a, f, value, "an octal mode", why);
    case FLAG_LEVEL:
        return log_level_parse(v, to) ||
               flag_bad(a, f, value, "one of trace debug info warning warn error critical off",
                        why);
    case FLAG_MODE: {
        bool validate;
        if (!flag_choice(v, STR("serve"), STR("validate"), &validate))
            return flag_bad(a, f, value, "serve or validate", why);
        o->mode = validate ? MODE_VALIDATE : MODE_SERVE;
        return true;
    }
    case FLAG_STRATEGY:
        return flag_choice(v, STR("gradual"), STR("immediate"), to) ||
               flag_bad(a, f, value, "gradual or immediate", why);
    case FLAG_IP_VERSION:
        return flag_choice(v, STR("v4"), STR("v6"), to) || flag_bad(a, f, value, "v4 or v6", why);
    case FLAG_ADDRESS:
        return addr_parse(v, to) || (v.len && strchr("/@", v.ptr[0]) && addr_unix(v, to)) ||
               flag_bad(a, f, value, "ip:port, [ip]:port, /path or @name", why);
    case FLAG_STATS_TAG:
        if (o->stats_tag_count == ARRAY_LEN(o->stats_tags))
            return flag_bad(a, f, value, "possible: too many tags", why);
        if (str_find_char(v, ':') == SIZE_MAX) return flag_bad(a, f, value, "tag:value", why);
        o->stats_tags[o->stats_tag_count++] = v;
        return true;
    }
    return false;
}

/* Reads the flag at argv[*i] with its value, moves *i to the last argument used. */
static bool options_one(int argc, char **argv, int *i, struct options *o, struct arena *a,
                        struct str *why)
{
    struct str arg = str_of(argv[*i]), name, value = STR_NONE;
    bool letter = !str_starts(arg, STR("--"));
    if (arg.len < 2 || arg.ptr[0] != '-') {
        *why = flag_unknown(a, argv[*i], arg);
        return false;
    }
    name = str_sub(arg, letter ? 1 : 2, arg.len);
    if (!letter) {
        struct str left, right;
        if (str_cut(name, '=', &left, &right)) name = left, value = right;
    } else if (name.len > 1) { /* -lwarn */
        value = str_sub(name, 1, name.len);
        name = str_sub(name, 0, 1);
    }
    const struct flag *f = flag_find(name, letter);
    if (!f) {
        *why = flag_unknown(a, argv[*i], name);
        return false;
    }
    const char *text = value.ptr ? value.ptr : NULL; /* the end of an argument: NUL-terminated */
    if (!flag_takes_value(f)) {
        if (text) *why = str_fmt(a, "--%s takes no value", f->name);
        return !text && flag_set(f, "", o, a, why);
    }
    if (!text && *i + 1 >= argc) {
        *why = str_fmt(a, "--%s needs a value", f->name);
        return false;
    }
    if (!text) text = argv[++*i];
    return flag_set(f, text, o, a, why);
}

static uint32_t options_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (uint32_t)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

bool options_parse(int argc, char **argv, struct options *o, struct arena *a, struct str *why)
{
    *o = (struct options){.log_level = LOG_INFO,
                          .drain_time_s = 600,
                          .parent_shutdown_time_s = 900,
                          .socket_mode = 0600,
                          .socket_path = "@envoy_domain_socket",
                          .file_flush_ms = 10000,
                          .file_flush_min_kb = 0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0 || strcmp(argv[i], "--ignore_rest") == 0) break;
        if (!options_one(argc, argv, &i, o, a, why)) return false;
    }
    if (!o->concurrency_set) o->concurrency = options_cpus();
    if (o->concurrency == 0) o->concurrency = 1;
    if (o->concurrency > 512) {
        *why = STR("--concurrency: at most 512 workers");
        return false;
    }
    return true;
}

void options_usage(struct sb *out)
{
    sb_add(
        out,
        STR("usage: skiff -c FILE [flags]\n\nAn Envoy-compatible xDS data plane. Flags are Envoy 1.40's:\n\n"));
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        const struct flag *f = &flags[i];
        char shortcut[8] = "    ";
        if (f->letter) shortcut[0] = '-', shortcut[1] = f->letter, shortcut[2] = ',';
        sb_fmt(out, "  %s--%s%s\n        %s\n", shortcut, f->name,
               flag_takes_value(f) ? " VALUE" : "", f->help);
    }
    sb_add(out, STR("      -- , --ignore_rest\n        what follows is ignored\n"));
}

bool options_apply_components(const char *list, struct arena *a, struct str *why)
{
    struct str rest = str_of(list), one, name, level;
    while (list && str_next(&rest, ',', &one)) {
        enum log_component c;
        enum log_level l;
        if (!str_cut(one, ':', &name, &level)) {
            *why = str_fmt(a, "--component-log-level: '%.*s' is not component:level", STR_ARG(one));
            return false;
        }
        if (!log_level_parse(level, &l)) {
            *why = str_fmt(a, "--component-log-level: '%.*s' is no level", STR_ARG(level));
            return false;
        }
        /* Envoy has some seventy loggers, we have fewer: a name of one of the others changes
         * nothing. */
        if (log_component_parse(name, &c)) log_set_component(c, l);
    }
    return true;
}
