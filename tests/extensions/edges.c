/* What stands at the edges: a listener filter (test.peek: four bytes decide: DROP, SKIP, or stay),
 * a transport socket (test.flip: every byte has bit 5 turned over, both ways), and an access logger
 * (test.count: counts entries). */
#include <errno.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/access_logger.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/transport_socket.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

/* --- listener filter
 * ------------------------------------------------------------------------------------------------
 */
enum { PEEK = 4 };

static enum accept_flow peek_on_accept(void *self, const void *conf, struct accepting *a)
{
    (void)self, (void)conf, (void)a;
    return ACCEPT_WAIT;
}

static enum accept_flow peek_on_data(void *self, const void *conf, struct accepting *a,
                                     struct str peeked, bool end)
{
    (void)self, (void)conf;
    if (peeked.len < PEEK) return end ? ACCEPT_CLOSE : ACCEPT_WAIT;
    if (str_starts(peeked, STR("DROP"))) return ACCEPT_CLOSE;
    if (str_starts(peeked, STR("SKIP"))) {
        a->consume = PEEK;
        a->info->sni = STR("skipped.test");
    }
    return ACCEPT_CONTINUE;
}

const struct listener_filter_type test_peek = {
    .ext = {.name = "test.peek"},
    .max_peek = PEEK,
    .on_accept = peek_on_accept,
    .on_data = peek_on_data,
};

/* --- transport socket
 * -----------------------------------------------------------------------------------------------
 */
extern const struct transport_socket_type test_flip;

enum { FLIP = 0x20, FLIP_ROOM = 4096 };
struct flip {
    int fd;
    struct str failure;
};

static const struct transport_socket *flip_conf_create(const struct conf_at *at,
                                                       const struct ProtobufCMessage *msg,
                                                       bool downstream)
{
    struct transport_socket *ts = ARENA_NEW(conf_arena(at), struct transport_socket);
    (void)msg, (void)downstream;
    ts->type = &test_flip;
    ts->protocol = STR("flip");
    return ts;
}

static void *flip_open(const struct transport_socket *ts, struct conn *c, int fd, bool server,
                       const struct transport_ask *ask)
{
    struct flip *f = mem_alloc(sizeof(*f));
    (void)ts, (void)c, (void)server, (void)ask;
    f->fd = fd;
    return f;
}

static ssize_t flip_error(struct flip *f, ssize_t wait)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK) return wait;
    f->failure = STR("flipped over");
    return TRANSPORT_ERROR;
}

static ssize_t flip_read(void *t, void *to, size_t len)
{
    struct flip *f = t;
    unsigned char *bytes = to;
    ssize_t n = recv(f->fd, to, len, 0);
    if (n < 0) return flip_error(f, TRANSPORT_WANT_READ);
    for (ssize_t i = 0; i < n; i++)
        bytes[i] ^= FLIP;
    return n;
}

static ssize_t flip_writev(void *t, const struct iovec *iov, int count)
{
    struct flip *f = t;
    unsigned char out[FLIP_ROOM];
    size_t n = 0;
    for (int i = 0; i < count; i++) {
        const unsigned char *from = iov[i].iov_base;
        for (size_t k = 0; k < iov[i].iov_len && n < sizeof(out); k++)
            out[n++] = from[k] ^ FLIP;
    }
    ssize_t sent = send(f->fd, out, n, MSG_NOSIGNAL);
    return sent < 0 ? flip_error(f, TRANSPORT_WANT_WRITE) : sent;
}

static struct str flip_failure(void *t)
{
    return ((struct flip *)t)->failure;
}

static void flip_close(void *t)
{
    mem_free(t);
}

const struct transport_socket_type test_flip = {
    .ext = {.name = "test.flip"},
    .conf_create = flip_conf_create,
    .open = flip_open,
    .read = flip_read,
    .writev = flip_writev,
    .failure = flip_failure,
    .close = flip_close,
};

/* --- access logger
 * --------------------------------------------------------------------------------------------------
 */
static const struct stat_def count_defs[] = {{"entries", STAT_COUNTER, 0}};

static void count_release(void *p)
{
    struct stat_group *g = p;
    stat_group_unref(&g);
}

static const void *count_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    (void)msg;
    struct stat_group *g = stat_group_get(at->cx->rt->stats, STR("test_log."), count_defs, 1);
    arena_on_free(conf_arena(at), count_release, g);
    return g;
}

static void count_log(struct worker *w, const void *conf, const struct stream_info *info,
                      enum access_log_type type)
{
    (void)w, (void)info, (void)type;
    stat_inc((struct stat_group *)(uintptr_t)conf, 0);
}

const struct access_logger_type test_count = {
    .ext = {.name = "test.count"},
    .conf_create = count_conf_create,
    .log = count_log,
};
