/* The last step of a response: what the connection manager changes, counts and tells the codec. */
#include "base/arena.h"
#include "proxy/api/access_logger.h"
#include "proxy/api/headers.h"
#include "proxy/http/h1.h"
#include "proxy/http/stream_internal.h"
#include "proxy/runtime/runtime.h"

static bool stream_is_h1(const struct http_stream *s)
{
    return s->m->codec->ops->kind == CODEC_H1;
}

static void stream_count_response(struct http_stream *s, uint32_t status)
{
    const struct hcm_conf *conf = s->m->conf;
    if (s->info.health_check) return;
    uint32_t class = status / 100;
    stat_inc(conf->stats, HCM_STAT_RQ_COMPLETED);
    stat_inc(conf->listener_stats, HCM_LISTENER_STAT_COMPLETED);
    if (class < 1 || class > 5) return;
    stat_inc(conf->stats, HCM_STAT_RQ_1XX + class - 1);
    stat_inc(conf->listener_stats, HCM_LISTENER_STAT_1XX + class - 1);
}

static bool stream_response_opens_tunnel(const struct http_stream *s, uint32_t status)
{
    if (!s->upgrade_wanted) return false;
    bool connect = str_eq(headers_get(s->info.req, HDR_METHOD), STR("CONNECT"));
    return connect ? status >= 200 && status < 300 : status == 101;
}

/* Connection: close, where the connection ends after this response. */
static void stream_say_close(struct http_stream *s, struct headers *h)
{
    struct hcm *m = s->m;
    if (!s->end_in) {
        if (stream_is_h1(s))
            m->close_next = true; /* HTTP/1: nobody waits for the rest of the request */
        stat_inc(m->conf->stats, HCM_STAT_RQ_RESPONSE_BEFORE_RQ_COMPLETE);
    }
    if (m->draining && !m->close_next && stream_is_h1(s)) {
        m->close_next = true;
        stat_inc(m->conf->stats, HCM_STAT_CX_DRAIN_CLOSE);
    }
    if (!stream_is_h1(s) || s->tunnel) return;
    if (m->close_next)
        headers_set_id(h, HDR_CONNECTION, STR("close"));
    else if (s->info.protocol == HTTP_PROTOCOL_10)
        headers_set_id(h, HDR_CONNECTION, STR("keep-alive"));
}

/* Our side is complete. If the request is not, HTTP/1 ends the connection, HTTP/2 the stream. */
static void stream_response_end(struct http_stream *s)
{
    struct codec_stream *cs = s->codec;
    s->response_done = true;
    if (!cs || s->over) return; /* the codec told that both sides are complete */
    if (s->end_in) return;
    s->codec = NULL;
    s->m->close_next |= stream_is_h1(s);
    cs->codec->ops->detach(cs);
    stream_over(s);
}

void stream_note_counts(struct http_stream *s, const struct codec_stream *cs)
{
    const struct codec_counts *n = cs->codec->ops->counts(cs);
    s->info.header_sent = n->header_sent;
    s->info.wire_sent = n->wire_sent;
    s->info.wire_received = n->wire_received;
}

static void stream_note_sent(struct http_stream *s)
{
    s->info.last_tx_us = loop_now_us(s->m->worker->loop);
    if (s->codec) stream_note_counts(s, s->codec);
}

static void stream_open_tunnel(struct http_stream *s)
{
    const struct hcm_conf *conf = s->m->conf;
    s->tunnel = true;
    stat_inc(conf->stats, HCM_STAT_CX_UPGRADES_TOTAL);
    stat_inc(conf->stats, HCM_STAT_CX_UPGRADES_ACTIVE);
}

void stream_send_headers(struct http_stream *s, struct headers *h, bool end)
{
    struct codec_stream *cs = s->codec;
    if (!cs || s->response_started) return;
    s->info.resp = h;
    uint32_t status = headers_status(h);
    if (stream_response_opens_tunnel(s, status)) stream_open_tunnel(s);
    edge_mutate_response(s, h);
    stream_say_close(s, h);
    s->info.response_code = status;
    stream_count_response(s, status);
    s->response_started = true;
    s->info.first_tx_us = loop_now_us(s->m->worker->loop);
    if (end) s->response_done = true;
    cs->codec->ops->send_headers(cs, h, end);
    stream_note_sent(s);
    if (s->tunnel && s->m->conf->access_log_on_tunnel) {
        access_log_run(s->m->worker, s->m->conf->access_log, &s->info,
                       ACCESS_LOG_TYPE_DOWNSTREAM_TUNNEL_ESTABLISHED);
    }
    if (end) stream_response_end(s);
}

void stream_send_1xx(struct http_stream *s, struct headers *h)
{
    struct codec_stream *cs = s->codec;
    if (!cs || s->response_started) return;
    if (headers_status(h) != 100 || !s->m->conf->proxy_100_continue)
        return; /* Envoy: no other one is passed on */
    headers_remove_id(h, HDR_CONNECTION);
    headers_remove_id(h, HDR_KEEP_ALIVE);
    headers_remove_id(h, HDR_UPGRADE);
    cs->codec->ops->send_1xx(cs, h);
}

void stream_send_data(struct http_stream *s, struct buf *data, bool end)
{
    struct codec_stream *cs = s->codec;
    if (!cs || !s->response_started || s->response_done) {
        buf_release(data);
        return;
    }
    if (s->is_head) buf_release(data);
    s->info.bytes_sent += data->len;
    if (end) s->response_done = true;
    cs->codec->ops->send_data(cs, data, end);
    stream_note_sent(s);
    if (end) stream_response_end(s);
}

void stream_send_trailers(struct http_stream *s, struct headers *t)
{
    struct codec_stream *cs = s->codec;
    if (!cs || !s->response_started || s->response_done) return;
    s->info.resp_trailers = t;
    s->response_done = true;
    cs->codec->ops->send_trailers(cs, t);
    stream_note_sent(s);
    stream_response_end(s);
}
