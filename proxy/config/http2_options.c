/* Http2ProtocolOptions. */
#include "proxy/config/http2_options.h"

#include "envoy/config/core/v3/protocol.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/codec.h"
#include "proxy/api/conf_types.h"

static uint32_t value_of(const Google__Protobuf__UInt32Value *v)
{
    return v ? v->value : 0; /* 0: the codec's default */
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
