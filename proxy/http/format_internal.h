/* Inside of struct format: shared by format_parse.c (compiling), format_args.c (arguments of
 * operators), format_eval_*.c (values) and format_write.c. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"
#include "proxy/api/access_logger.h"
#include "proxy/api/format.h"
#include "proxy/api/headers.h"
#include "proxy/api/tls_info.h"

struct value;
struct format_part;

/* What an operator gave. */
enum format_kind { FORMAT_NOTHING, FORMAT_STRING, FORMAT_NUMBER, FORMAT_BOOL, FORMAT_VALUE };
struct format_result {
    enum format_kind kind;
    struct str text;
    uint64_t number;
    bool boolean;
    const struct value *value;
};
/* One writing of a format. */
struct format_cx {
    const struct stream_info *info;
    enum access_log_type type;
    struct arena *scratch; /* for results that have to be made */
};

/* What may follow the name of an operator. */
enum { FORMAT_PARAMS = 1, FORMAT_PARAMS_MUST = 2, FORMAT_LENGTH = 4 };
struct format_op {
    const char *name;
    unsigned flags;
    /* Reads `arg` into the part. NULL: no argument of interest. False: *why. */
    bool (*parse)(struct arena *a, struct format_part *p, struct str arg, struct str *why);
    void (*eval)(const struct format_part *p, const struct format_cx *cx, struct format_result *r);
    int n; /* which of a family */
};

/* A piece of a strftime format. */
enum time_part_kind {
    TIME_LITERAL,
    TIME_STRFTIME,
    TIME_EPOCH,
    TIME_FRACTION,
    TIME_SECONDS_FRACTION,
    TIME_FRACTION_TRIM,
    TIME_SECONDS_TRIM
};
struct time_part {
    enum time_part_kind kind;
    struct str text; /* literal, or one strftime conversion (NUL-ended) */
    int digits;
};
struct time_format {
    bool is_default, local;
    const struct time_part *parts;
    size_t count;
};

/* One operator or a literal of a text format. */
struct format_part {
    const struct format_op *op; /* NULL: literal */
    struct str literal;
    size_t most; /* characters at most; SIZE_MAX: no limit */
    /* arguments, as the operator's parse function sets them */
    struct str name, other; /* first and alternative header, key, environment value ... */
    uint16_t id, other_id;  /* enum header_id */
    const struct str *path; /* metadata keys */
    size_t path_count;
    int choice, choice2;
    uint32_t bits;
    const struct time_format *time;
    const struct format_part *alternatives; /* COALESCE */
    size_t alternative_count;
};

enum format_node_kind { FORMAT_NODE_TEXT, FORMAT_NODE_RAW, FORMAT_NODE_OBJECT, FORMAT_NODE_LIST };
/* One value of a JSON format. */
struct format_node {
    enum format_node_kind kind;
    struct str key; /* in objects: "\"name\":" ready to write */
    struct str raw; /* FORMAT_NODE_RAW: JSON text */
    const struct format_part *parts;
    size_t part_count;
    const struct format_node *children;
    size_t count;
};
struct format {
    bool json, omit_empty;
    const struct format_part *parts;
    size_t count;
    struct str literal; /* ptr non-NULL: the whole text */
    struct format_node root;
    struct str content_type;
};

const struct format_op *format_op_find(struct str name);
/* Parses text into parts; NULL: *why. Which extra operators (formatter extensions) are allowed:
 * enum format_extra bits. */
enum { FORMAT_EXTRA_REQ_WITHOUT_QUERY = 1 };
const struct format_part *format_parts(struct arena *a, struct str text, unsigned extra,
                                       size_t *count, struct str *why);
bool format_part_set(struct arena *a, struct format_part *p, struct str name, struct str arg,
                     struct str length, unsigned extra, struct str *why);
/* Like format_parse, format_parse_header and format_parse_json with formatter extensions switched
 * on. */
struct format *format_new_text(struct arena *a, struct str text, unsigned extra, bool omit_empty,
                               struct str *why);
struct format *format_new_header(struct arena *a, struct str text, unsigned extra, struct str *why);
struct format *format_new_json(struct arena *a, const struct value *object, unsigned extra,
                               bool omit_empty, bool sort, struct str *why);
/* Rewrites the old operators of header values; the text itself when there is none. */
struct str format_legacy_header(struct arena *a, struct str text);

/* Evaluates, looking into alternatives, and cuts strings to their length. */
void format_eval(const struct format_part *p, const struct format_cx *cx, struct format_result *r);

/* --- format_time.c */
const struct time_format *time_format_parse(struct arena *a, struct str text, bool local);
void time_format_write(const struct time_format *f, uint64_t wall_us, struct sb *out);
struct str time_format_dup(const struct time_format *f, uint64_t wall_us, struct arena *a);

static inline void format_set_text(struct format_result *r, struct str s)
{
    if (!s.len) return;
    r->kind = FORMAT_STRING;
    r->text = s;
}
static inline void format_set_number(struct format_result *r, uint64_t n)
{
    r->kind = FORMAT_NUMBER;
    r->number = n;
}

/* --- format_args.c and format_eval_*.c: named by format_ops.def */
#define FORMAT_PARSE(fn) \
    bool fn(struct arena *a, struct format_part *p, struct str arg, struct str *why)
#define FORMAT_EVAL(fn) \
    void fn(const struct format_part *p, const struct format_cx *cx, struct format_result *r)
FORMAT_PARSE(parse_time);
FORMAT_PARSE(parse_header);
FORMAT_PARSE(parse_details);
FORMAT_PARSE(parse_bits);
FORMAT_PARSE(parse_path);
FORMAT_PARSE(parse_query_params);
FORMAT_PARSE(parse_name);
FORMAT_PARSE(parse_grpc);
FORMAT_PARSE(parse_metadata_path);
FORMAT_PARSE(parse_metadata);
FORMAT_PARSE(parse_filter_state);
FORMAT_PARSE(parse_server_name);
FORMAT_PARSE(parse_duration);
FORMAT_PARSE(parse_environment);
FORMAT_PARSE(parse_hostname);
FORMAT_PARSE(parse_coalesce);
FORMAT_PARSE(parse_cel);
FORMAT_PARSE(parse_cert_time);

FORMAT_EVAL(eval_nothing);
FORMAT_EVAL(eval_time);
FORMAT_EVAL(eval_protocol);
FORMAT_EVAL(eval_number);
FORMAT_EVAL(eval_details);
FORMAT_EVAL(eval_flags);
FORMAT_EVAL(eval_text);
FORMAT_EVAL(eval_underscored);
FORMAT_EVAL(eval_ms);
FORMAT_EVAL(eval_common_duration);
FORMAT_EVAL(eval_address);
FORMAT_EVAL(eval_host_name);
FORMAT_EVAL(eval_unique_id);
FORMAT_EVAL(eval_header);
FORMAT_EVAL(eval_header_no_query);
FORMAT_EVAL(eval_query_param);
FORMAT_EVAL(eval_query_params);
FORMAT_EVAL(eval_path);
FORMAT_EVAL(eval_grpc);
FORMAT_EVAL(eval_metadata);
FORMAT_EVAL(eval_filter_state);
FORMAT_EVAL(eval_server_name);
FORMAT_EVAL(eval_san);
FORMAT_EVAL(eval_tls);
FORMAT_EVAL(eval_cert_time);
FORMAT_EVAL(eval_xfcc);
FORMAT_EVAL(eval_constant);
FORMAT_EVAL(eval_reply_body);
FORMAT_EVAL(eval_log_type);
FORMAT_EVAL(eval_bare_names);
FORMAT_EVAL(eval_endpoint_id);
FORMAT_EVAL(eval_close_type);

/* Members of families (format_op.n). */
enum {
    N_START,
    N_START_LOCAL,
    N_EMIT,
    N_EMIT_LOCAL,
    N_DOWN = 0,
    N_UP = 1, /* sides; protocols, TLS */
    N_REQ = 0,
    N_RESP = 1,
    N_TRAILER = 2,
};
enum format_number {
    N_RESPONSE_CODE,
    N_BYTES_RECEIVED,
    N_BYTES_SENT,
    N_REQ_HEADER_BYTES,
    N_RESP_HEADER_BYTES,
    N_RESP_TRAILER_BYTES,
    N_UP_WIRE_SENT,
    N_UP_WIRE_RECEIVED,
    N_DOWN_WIRE_SENT,
    N_DOWN_WIRE_RECEIVED,
    N_UP_HEADER_SENT,
    N_UP_HEADER_RECEIVED,
    N_DOWN_HEADER_SENT,
    N_DOWN_HEADER_RECEIVED,
    N_ZERO,
    N_ATTEMPTS,
    N_CONN_ID,
    N_UP_CONN_ID
};
enum format_text_fact {
    N_TERMINATION,
    N_ROUTE_NAME,
    N_VIRTUAL_CLUSTER,
    N_FILTER_CHAIN,
    N_LISTENER,
    N_CLUSTER,
    N_CLUSTER_RAW,
    N_HOSTS_ATTEMPTED,
    N_NAMES_ATTEMPTED,
    N_CONN_IDS_ATTEMPTED,
    N_STREAM_ID,
    N_UP_FAILURE,
    N_DOWN_FAILURE,
    N_JA3,
    N_JA4
};
enum format_ms {
    N_TOTAL,
    N_REQ_DONE,
    N_REQ_TX,
    N_RESP_FIRST,
    N_RESP_TX,
    N_HANDSHAKE,
    N_POOL_READY
};
/* addresses: which, and in what form */
enum {
    N_UP_HOST,
    N_UP_LOCAL,
    N_UP_REMOTE,
    N_REMOTE,
    N_DIRECT_REMOTE,
    N_LOCAL,
    N_DIRECT_LOCAL,
    N_ADDRESS_MASK = 15,
    N_FULL = 0,
    N_NO_PORT = 16,
    N_PORT = 32
};
/* metadata */
enum {
    N_MD_DYNAMIC,
    N_MD_CLUSTER,
    N_MD_ROUTE,
    N_MD_UPSTREAM_HOST,
    N_MD_LISTENER,
    N_MD_FILTER_CHAIN,
    N_MD_VIRTUAL_HOST
};
/* TLS facts; + N_TLS_UP for the upstream side */
enum {
    N_URI_SAN,
    N_DNS_SAN,
    N_IP_SAN,
    N_EMAIL_SAN,
    N_OTHERNAME_SAN,
    N_SAN_MASK = 15,
    N_SAN_LOCAL = 16,
    N_TLS_UP = 64,
    N_PEER_SUBJECT = 0,
    N_LOCAL_SUBJECT,
    N_PEER_ISSUER,
    N_TLS_VERSION,
    N_TLS_CIPHER,
    N_TLS_GROUP,
    N_TLS_SESSION,
    N_PEER_FP256,
    N_PEER_FP1,
    N_PEER_SERIAL,
    N_TLS_SNI,
    N_TLS_TEXT, /* + enum tls_text */
    N_TLS_MASK = 31,
    N_CERT_START = 0,
    N_CERT_END = 1
};

/* --- format_eval_http.c, for access log filters too */
/* The gRPC status of trailers, headers or, for want of those, the HTTP status; GRPC_STATUS_INVALID
 * (Envoy's -1) for one that is no number. False: no response. */
#define GRPC_STATUS_INVALID UINT64_MAX
bool format_grpc_status(const struct stream_info *i, uint64_t *status);
