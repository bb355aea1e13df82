/* What a peer may cost: resets in time, frames that wait because it does not read. */
#include "base/must.h"
#include "proxy/http/h2_internal.h"

/* --- resets
 * ------------------------------------------------------------------------------------------------------------
 */

void h2_count_reset(struct h2 *h)
{
    uint64_t now = loop_now_us(conn_worker(h->base.conn)->loop), one = 1000000 / H2_RESETS_PER_S;
    uint64_t floor = now > H2_RESETS_BURST * one ? now - H2_RESETS_BURST * one : 0;
    if (!h->server) return; /* what an upstream resets costs only what we asked for */
    if (h->reset_tokens_us < floor) h->reset_tokens_us = floor;
    h->reset_tokens_us += one;
    if (h->reset_tokens_us > now + one)
        h2_fail(h, NGHTTP2_ENHANCE_YOUR_CALM, "http2.too_many_resets");
}

bool h2_reset_limit(const struct codec_options *o, uint64_t *burst, uint64_t *rate)
{
    enum { BURST = 1000, RATE = 33 }; /* nghttp2's */
    *burst = o->h2_reset_burst ? o->h2_reset_burst : BURST;
    *rate = o->h2_reset_rate ? o->h2_reset_rate : RATE;
    if (o->h2_reset_burst || o->h2_reset_rate) return true;
    /* What resets of a client cost is the connection manager's to judge; this is the last bound. */
    *burst = H2_RESETS_BURST * 25;
    *rate = H2_RESETS_PER_S * 25;
    return false;
}

/* --- frames that wait
 * --------------------------------------------------------------------------------------------------
 */

/* Acknowledgements and resets are counted until the socket took them (Envoy's
 * max_outbound_control_frames): in nghttp2's queue by number, then, in the connection's, by where
 * they end in all that we ever said. */
void h2_control_begin(struct h2 *h)
{
    h->control_due++;
}

void h2_control_end(struct h2 *h)
{
    if (h->control_due) h->control_due--;
}

void h2_control_said(struct h2 *h)
{
    enum { FIRST = 16 };
    h2_control_end(h);
    if (h->control_count == h->control_cap) {
        uint32_t cap = h->control_cap ? h->control_cap * 2 : FIRST;
        uint64_t *v = mem_array(cap, sizeof *v);
        for (uint32_t i = 0; i < h->control_count; i++)
            v[i] = h->control_at[(h->control_first + i) % h->control_cap];
        mem_free(h->control_at);
        h->control_at = v;
        h->control_cap = cap;
        h->control_first = 0;
    }
    h->control_at[(h->control_first + h->control_count++) % h->control_cap] = h->said + h->wire.len;
}

/* Forgets those that the socket took. */
static void h2_control_taken(struct h2 *h)
{
    uint64_t taken = h->said - conn_write_queued(h->base.conn);
    while (h->control_count && h->control_at[h->control_first] <= taken) {
        h->control_first = (h->control_first + 1) % h->control_cap;
        h->control_count--;
    }
}

uint32_t h2_control_most(const struct codec_options *o)
{
    enum { MOST = 1000 };
    return o->h2_max_outbound_control_frames ? o->h2_max_outbound_control_frames : MOST;
}

void h2_check_queue(struct h2 *h)
{
    uint32_t most = h->options->h2_max_outbound_frames;
    if (h->fail.len || h->dead) return;
    if (nghttp2_session_get_outbound_queue_size(h->session) > (most ? most : H2_OUT_FRAMES)) {
        h2_stat(h, H2_STAT_OUTBOUND_FLOOD);
        h2_fail(h, NGHTTP2_ENHANCE_YOUR_CALM, "http2.outbound_frames_flood");
        return;
    }
    if (h->control_due + h->control_count <= h2_control_most(h->options)) return;
    h2_control_taken(h);
    if (h->control_due + h->control_count <= h2_control_most(h->options)) return;
    h2_stat(h, H2_STAT_CONTROL_FLOOD);
    h2_fail(h, NGHTTP2_ENHANCE_YOUR_CALM, "http2.outbound_control_flood");
}
