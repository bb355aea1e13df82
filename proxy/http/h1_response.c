/* Rules on a response's head: which body follows, and whether the connection may serve again. */
#include "proxy/http/h1_internal.h"

static bool h1_response_tunnel(const struct h1 *h, uint32_t status)
{
    if (h->is_connect) return status >= 200 && status < 300;
    return status == 101;
}

static bool h1_response_framing(struct h1 *h, uint32_t status)
{
    bool chunked;
    uint64_t length = 0;
    if (h1_response_tunnel(h, status)) {
        h->read = H1_READ_TUNNEL;
        return true;
    }
    if (!h1_transfer_coding(h, &chunked)) return false;
    bool sized = headers_has(h->head, HDR_CONTENT_LENGTH);
    if (sized && !h1_content_length(h->head, &length))
        return h1_refuse(h, 502, "http1.codec_error");
    h->remaining = length;
    if (h->is_head || status == 204 || status == 304)
        h->read = H1_READ_DONE;
    else if (chunked)
        h->read = H1_READ_CHUNKED;
    else if (sized)
        h->read = length ? H1_READ_LENGTH : H1_READ_DONE;
    else
        h->read = H1_READ_CLOSE;
    if (h->read == H1_READ_CLOSE) h->peer_close = true;
    return true;
}

bool h1_response_accept(struct h1 *h)
{
    uint32_t status = h->parser.status_code;
    if (h->parser.http_major != 1 || h->parser.http_minor > 1)
        return h1_refuse(h, 502, "http1.codec_error");
    if (status < 100 || status > 999) return h1_refuse(h, 502, "http1.codec_error");
    h->http10 = h->parser.http_minor == 0;
    headers_set_status(h->head, status);
    if (status == 101 && !h->is_upgrade) return h1_refuse(h, 502, "http1.codec_error");
    h->interim = status < 200 && status != 101;
    if (h->interim) {
        if (headers_has(h->head, HDR_TRANSFER_ENCODING))
            return h1_refuse(h, 502, "http1.transfer_encoding_not_allowed");
        h->read = H1_READ_HEAD;
        return true;
    }
    if (h->http10) h->peer_close = !headers_has_token(h->head, HDR_CONNECTION, STR("keep-alive"));
    if (headers_has_token(h->head, HDR_CONNECTION, STR("close"))) h->peer_close = true;
    return h1_response_framing(h, status);
}
