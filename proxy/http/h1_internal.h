/* Insides of the HTTP/1 codec, for h1_*.c only. */
#pragma once
#include <llhttp.h>
#include "base/buf.h"
#include "proxy/api/codec.h"
#include "proxy/api/headers.h"
#include "proxy/http/h1.h"
#include "proxy/net/conn.h"

/* Where the reading side is. */
enum h1_read {
    H1_READ_IDLE, /* between messages */
    H1_READ_HEAD,
    H1_READ_LENGTH,
    H1_READ_CHUNKED,
    H1_READ_CLOSE,  /* a response that lasts until the connection ends */
    H1_READ_TUNNEL, /* raw bytes */
    H1_READ_DONE,   /* the peer's message is complete */
    H1_READ_DEAD    /* nothing more is read from this connection */
};
/* Where our own message is. */
enum h1_write {
    H1_WRITE_IDLE, /* headers not sent */
    H1_WRITE_NONE, /* no body may follow; data is dropped */
    H1_WRITE_LENGTH,
    H1_WRITE_CHUNKED,
    H1_WRITE_CLOSE,
    H1_WRITE_TUNNEL,
    H1_WRITE_DONE
};
/* What a step of reading gave. */
enum h1_step { H1_MORE, H1_NEXT, H1_FAILED };

struct h1 {
    struct codec base;
    struct codec_stream stream; /* the one exchange */
    const struct codec_options *options;
    llhttp_t parser;
    struct codec_counts counts;

    /* a head or trailers being collected; all in the stream's arena */
    char *block; /* the head's bytes, names lowered in place */
    struct headers *head;
    struct str name, value, url, reason;
    struct str method; /* allow_custom_methods: as written */
    bool value_open, obs_fold, trailing;
    size_t line_bytes; /* trailers: bytes so far */
    uint32_t line_count;

    size_t scanned;      /* bytes of an incomplete head that the parser has approved */
    uint64_t remaining;  /* LENGTH: bytes to read */
    uint64_t overhead;   /* CHUNKED: bytes of framing since the last data */
    uint64_t write_left; /* LENGTH: bytes to write */
    uint64_t sent_mark;  /* client: bytes written to the connection before this request */
    struct buf *in;      /* CHUNKED, inside the parser: where its bytes come from */
    struct buf body;     /* CHUNKED: data found by the parser */
    const char *slice, *span_end;
    size_t slice_used;
    char last_byte; /* CHUNKED: the last one that the parser took */
    struct headers *trailers;

    struct str fail_details; /* why a callback refused; empty: a parser error */
    uint32_t fail_status;
    uint32_t pauses, interims;
    uint8_t read, write; /* enum h1_read, enum h1_write */
    bool server, open, message_done, in_bytes;
    bool http10, is_head, is_connect, is_upgrade; /* of the request under way */
    bool peer_close; /* the peer wants (or its version implies) the end of the connection */
    bool last;       /* we said Connection: close, or the framing needs it */
    bool drain;      /* say it on the next response */
    bool interim;    /* client: the head just read is a 1xx */
};

static inline struct h1 *h1_of(struct codec *c)
{
    return (struct h1 *)(void *)c; /* base is first */
}

/* h1_head.c: reads one head out of `in`. H1_NEXT: h->head is complete and h->read tells what
 * follows. H1_FAILED: h->fail_* says why. */
enum h1_step h1_read_head(struct h1 *h, struct buf *in);
void h1_head_reset(struct h1 *h); /* ready for the next head */
/* Refuses the message: status 0 where no answer is possible. Always false. */
bool h1_refuse(struct h1 *h, uint32_t status, const char *details);
extern const llhttp_settings_t h1_settings, h1_scan_settings;

/* h1_request.c, h1_response.c: rules on a whole head; false after h1_refuse. */
bool h1_request_accept(struct h1 *h);
bool h1_response_accept(struct h1 *h);
/* Removes what the Connection header names. False: it names what it must not. */
bool h1_sanitize_connection(struct headers *head);
/* "transfer-encoding" of the head: false after h1_refuse; *chunked tells. */
bool h1_transfer_coding(struct h1 *h, bool *chunked);
/* The value of content-length. False: none (or junk, refused by the parser). */
bool h1_content_length(const struct headers *head, uint64_t *out);

/* h1_body.c */
enum h1_step h1_read_body(struct h1 *h, struct buf *in);

/* h1_write.c: the ops of the writing side. */
void h1_send_headers(struct codec_stream *s, struct headers *h, bool end);
void h1_send_1xx(struct codec_stream *s, struct headers *h);
void h1_send_data(struct codec_stream *s, struct buf *data, bool end);
void h1_send_trailers(struct codec_stream *s, struct headers *t);
void h1_send_metadata(struct codec_stream *s, struct buf *block);

/* h1.c: both sides done? Then the exchange is over. */
void h1_settle(struct h1 *h);
