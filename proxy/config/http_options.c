/* Http1ProtocolOptions and Http2ProtocolOptions. */
#include "proxy/config/http_options.h"

#include "base/arena.h"
#include "envoy/config/core/v3/protocol.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/codec.h"
#include "proxy/api/conf_types.h"
#include "proxy/config/header_key_format.h"

bool translate_http1_options(const struct conf_at *at,
                             const Envoy__Config__Core__V3__Http1ProtocolOptions *m,
                             struct codec_options *o)
{
    if (!m) return true;
    bool ok = true;
    o->allow_absolute_url = !m->allow_absolute_url || m->allow_absolute_url->value;
    o->accept_http_10 = m->accept_http_10;
    o->default_host_for_http_10 = str_dup(conf_arena(at), str_of(m->default_host_for_http_10));
    o->enable_trailers = m->enable_trailers;
    o->allow_chunked_length = m->allow_chunked_length;
    o->send_fully_qualified_url = m->send_fully_qualified_url;
    o->allow_custom_methods = m->allow_custom_methods;
    o->ignore_upgrades = conf_string_matchers(
        at, "ignore_http_11_upgrade", m->n_ignore_http_11_upgrade, m->ignore_http_11_upgrade, &ok);
    o->ignore_upgrade_count = m->n_ignore_http_11_upgrade;
    struct conf_at format = conf_field(at, "header_key_format");
    return translate_header_key_format(&format, m->header_key_format, o) && ok;
}

/* --- HTTP/2
 * ---------------------------------------------------------------------------------------------------------------
 */

/* Of SETTINGS, as RFC 9113 6.5.2 numbers them. */
enum {
    SETTING_HEADER_TABLE_SIZE = 1,
    SETTING_ENABLE_PUSH,
    SETTING_MAX_CONCURRENT_STREAMS,
    SETTING_INITIAL_WINDOW_SIZE,
    SETTING_MAX_FRAME_SIZE,
    SETTING_ENABLE_CONNECT_PROTOCOL = 8
};

static uint32_t value_of(const Google__Protobuf__UInt32Value *v)
{
    return v ? v->value : 0; /* 0: the codec's default */
}

static bool keepalive(const struct conf_at *at,
                      const Envoy__Config__Core__V3__Http2ProtocolOptions *m,
                      struct codec_options *o)
{
    if (!m->connection_keepalive) return true;
    struct conf_at keep = conf_field(at, "connection_keepalive");
    struct conf_at interval = conf_field(&keep, "interval"), timeout = conf_field(&keep, "timeout"),
                   idle = conf_field(&keep, "connection_idle_interval");
    const Envoy__Type__V3__Percent *jitter = m->connection_keepalive->interval_jitter;
    enum { JITTER_PERCENT = 15 }; /* Envoy's default */
    o->h2_keepalive_jitter = (jitter ? jitter->value : JITTER_PERCENT) / 100;
    bool ok = conf_duration(&interval, m->connection_keepalive->interval, 0,
                            &o->h2_keepalive_interval_us);
    return conf_duration(&timeout, m->connection_keepalive->timeout, 0,
                         &o->h2_keepalive_timeout_us) &&
           conf_duration(&idle, m->connection_keepalive->connection_idle_interval, 0,
                         &o->h2_keepalive_idle_us) &&
           ok;
}

/* Envoy's rules on one of custom_settings_parameters. */
static bool custom_setting(const struct conf_at *at,
                           const Envoy__Config__Core__V3__Http2ProtocolOptions *m, uint32_t id,
                           uint32_t value)
{
    const char *twice = NULL;
    bool fits = true;
    enum { FRAME_LEAST = 1 << 14, FRAME_MOST = (1 << 24) - 1 };
    switch (id) {
    case SETTING_ENABLE_PUSH:
        return value == 0 ||
               conf_fail(at, "server push is not supported and cannot be enabled by a setting");
    case SETTING_ENABLE_CONNECT_PROTOCOL:
        return conf_fail(at, "the \"allow_connect\" SETTINGS parameter must only be configured "
                             "through the named field");
    case SETTING_HEADER_TABLE_SIZE:
        if (m->hpack_table_size) twice = "hpack_table_size";
        break;
    case SETTING_MAX_CONCURRENT_STREAMS:
        if (m->max_concurrent_streams) twice = "max_concurrent_streams";
        break;
    case SETTING_INITIAL_WINDOW_SIZE:
        if (m->initial_stream_window_size) twice = "initial_stream_window_size";
        fits = value <= INT32_MAX;
        break;
    case SETTING_MAX_FRAME_SIZE: fits = value >= FRAME_LEAST && value <= FRAME_MOST; break;
    default: break;
    }
    if (twice)
        return conf_fail(at,
                         "the {%s} HTTP/2 SETTINGS parameter(s) can not be configured through "
                         "both named and custom parameters",
                         twice);
    return fits || conf_fail(at, "the value %u is not allowed for setting %u", value, id);
}

static bool custom_settings(const struct conf_at *at,
                            const Envoy__Config__Core__V3__Http2ProtocolOptions *m,
                            struct codec_options *o)
{
    enum { MOST = 256 };
    size_t given = m->n_custom_settings_parameters;
    struct conf_at field = conf_field(at, "custom_settings_parameters");
    if (given > MOST) return conf_fail(&field, "more than %d settings", MOST);
    struct codec_setting *v = ARENA_ARRAY(conf_arena(at), struct codec_setting, given);
    size_t n = 0;
    for (size_t i = 0; i < given; i++) {
        uint32_t id = m->custom_settings_parameters[i]->identifier->value;
        uint32_t value = m->custom_settings_parameters[i]->value->value;
        struct conf_at here = conf_index(at, "custom_settings_parameters", i);
        size_t same = 0;
        while (same < n && v[same].id != id)
            same++;
        if (same < n && v[same].value != value)
            return conf_fail(&here,
                             "inconsistent HTTP/2 custom SETTINGS parameter(s) detected; "
                             "identifiers = {0x%02x}",
                             id);
        if (!custom_setting(&here, m, id, value)) return false;
        if (same == n) v[n++] = (struct codec_setting){(uint16_t)id, value};
    }
    o->h2_settings = v;
    o->h2_setting_count = n;
    return true;
}

/* nghttp2 reads fields of 64 KiB at most, which is the least that may be configured. */
static bool field_size(const struct conf_at *at,
                       const Envoy__Config__Core__V3__Http2ProtocolOptions *m,
                       const struct codec_options *o)
{
    enum { MOST_KB = 64 };
    if (!m->max_header_field_size_kb) return true;
    struct conf_at here = conf_field(at, "max_header_field_size_kb");
    uint32_t kb = m->max_header_field_size_kb->value;
    if ((size_t)kb * 1024 > o->max_header_bytes)
        return conf_fail(&here, "max_header_field_size_kb must not exceed the size of all headers");
    return kb <= MOST_KB || conf_fail(&here, "fields of more than 64 KiB are not supported");
}

bool translate_http2_options(const struct conf_at *at,
                             const Envoy__Config__Core__V3__Http2ProtocolOptions *m,
                             struct codec_options *o)
{
    if (!m) return true;
    o->h2_max_concurrent_streams = value_of(m->max_concurrent_streams);
    o->h2_initial_stream_window = value_of(m->initial_stream_window_size);
    o->h2_initial_conn_window = value_of(m->initial_connection_window_size);
    o->h2_hpack_table = value_of(m->hpack_table_size);
    o->h2_max_outbound_frames = value_of(m->max_outbound_frames);
    o->h2_max_outbound_control_frames = value_of(m->max_outbound_control_frames);
    o->h2_max_inbound_empty_data = value_of(m->max_consecutive_inbound_frames_with_empty_payload);
    o->h2_max_inbound_priority = value_of(m->max_inbound_priority_frames_per_stream);
    o->h2_max_inbound_window_update =
        value_of(m->max_inbound_window_update_frames_per_data_frame_sent);
    o->h2_allow_connect = m->allow_connect;
    o->h2_allow_metadata = m->allow_metadata;
    o->h2_max_metadata = m->max_metadata_size ? m->max_metadata_size->value : 0;
    o->h2_refuse_obs_text = m->disallow_obs_text && m->disallow_obs_text->value;
    o->h2_reset_burst = m->stream_reset_burst ? m->stream_reset_burst->value : 0;
    o->h2_reset_rate = m->stream_reset_rate ? m->stream_reset_rate->value : 0;
    if (!custom_settings(at, m, o) || !field_size(at, m, o)) return false;
    return keepalive(at, m, o);
}
