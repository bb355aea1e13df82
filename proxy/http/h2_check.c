/* Frames on closed streams. nghttp2 1.52 passes over some of them in silence; RFC 9113 5.1 wants
 * STREAM_CLOSED. So the head of each frame is looked at on its way to nghttp2; nothing else of it
 * is. */
#include "proxy/http/h2_internal.h"

void h2_note_reset(struct h2 *h, int32_t id)
{
    h->reset_by_us[h->reset_count++ % H2_RESET_MEMORY] = id;
}

static bool h2_in_ring(const int32_t *ring, int32_t id)
{
    for (unsigned i = 0; i < H2_RESET_MEMORY; i++)
        if (ring[i] == id) return true;
    return false;
}

/* The head of a client's frame is complete. False: the frame may not pass. */
static bool h2_check_head(struct h2 *h)
{
    const uint8_t *b = h->head;
    int32_t id = (int32_t)(((uint32_t)b[5] & 0x7f) << 24 | (uint32_t)b[6] << 16 |
                           (uint32_t)b[7] << 8 | b[8]);
    uint8_t type = b[3];
    h->frame_left = (size_t)b[0] << 16 | (size_t)b[1] << 8 | b[2];
    if (type == NGHTTP2_HEADERS) h->block_bytes = 0;
    if (type == NGHTTP2_HEADERS || type == NGHTTP2_CONTINUATION)
        h->block_bytes += h->frame_left + H2_FRAME_HEAD;
    if (type != NGHTTP2_DATA && type != NGHTTP2_HEADERS) return true;
    if (id > h->last_id) {
        if (type != NGHTTP2_HEADERS) return true;
        h->last_id = id;
        h->opened_ids[h->opened_count++ % H2_RESET_MEMORY] = id;
        return true; /* nghttp2 judges ids that were never opened */
    }
    if (id == 0 || nghttp2_session_get_stream_user_data(h->session, id) ||
        h2_in_ring(h->reset_by_us, id))
        return true;
    /* A number below the last one that was never used is a wrong number (5.1.1); a used one is a
     * closed stream (5.1). */
    h2_fail(h, h2_in_ring(h->opened_ids, id) ? NGHTTP2_STREAM_CLOSED : NGHTTP2_PROTOCOL_ERROR,
            "http2.frame_on_closed_stream");
    return false;
}

size_t h2_check_bytes(struct h2 *h, struct str bytes)
{
    size_t at = 0;
    while (at < bytes.len) {
        if (!h->preface_seen) { /* nghttp2 checks its content */
            size_t rest = NGHTTP2_CLIENT_MAGIC_LEN - h->head_have,
                   n = bytes.len - at < rest ? bytes.len - at : rest;
            h->head_have += n;
            at += n;
            if (h->head_have < NGHTTP2_CLIENT_MAGIC_LEN) return at;
            h->preface_seen = true;
            h->head_have = 0;
        } else if (h->frame_left) {
            size_t n = bytes.len - at < h->frame_left ? bytes.len - at : h->frame_left;
            h->frame_left -= n;
            at += n;
        } else {
            if (at && !h->head_have)
                return at; /* what went before decides which streams are open */
            h->head[h->head_have++] = (uint8_t)bytes.ptr[at++];
            if (h->head_have < H2_FRAME_HEAD) continue;
            h->head_have = 0;
            if (!h2_check_head(h)) return 0;
        }
    }
    return at;
}
