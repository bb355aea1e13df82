/* Byte queues: a random walk against a flat array, sharing, reserve and commit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/rand.h"

enum { FLAT_MOST = 400000, STEPS = 6000 };
/* A buf and what it must hold. */
struct pair {
    struct buf buf;
    unsigned char flat[FLAT_MOST];
    size_t len;
};
static struct pair x, y;

static void check(struct pair *p)
{
    static unsigned char out[FLAT_MOST];
    assert_int_equal(buf_len(&p->buf), p->len);
    assert_int_equal(buf_copy_out(&p->buf, 0, out, sizeof(out)), p->len);
    if (p->len) assert_memory_equal(out, p->flat, p->len);
}

static void fill(struct rng *r, unsigned char *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (unsigned char)rng_next(r);
}

static size_t some_size(struct rng *r)
{
    return rng_below(r, 8) ? rng_below(r, 200) : rng_below(r, 40000);
}

static void step_append(struct rng *r, struct pair *p)
{
    size_t n = some_size(r);
    if (p->len + n > FLAT_MOST / 2) return;
    fill(r, p->flat + p->len, n);
    buf_append(&p->buf, p->flat + p->len, n);
    p->len += n;
}

static void step_prepend(struct rng *r, struct pair *p)
{
    size_t n = some_size(r);
    if (p->len + n > FLAT_MOST / 2) return;
    memmove(p->flat + n, p->flat, p->len);
    fill(r, p->flat, n);
    buf_prepend(&p->buf, p->flat, n);
    p->len += n;
}

static void step_read(struct rng *r, struct pair *p)
{
    size_t room;
    if (p->len > FLAT_MOST / 2) return;
    unsigned char *to = buf_reserve(&p->buf, rng_below(r, 2) ? 65536 : 10, &room);
    size_t n = rng_below(r, room + 1);
    fill(r, to, n);
    memcpy(p->flat + p->len, to, n);
    buf_commit(&p->buf, n);
    p->len += n;
}

/* One readv into several slices. */
static void step_room(struct rng *r, struct pair *p)
{
    struct buf_room room;
    size_t n = rng_below(r, 60000);
    if (p->len + n > FLAT_MOST / 2) n = 0;
    fill(r, p->flat + p->len, n);
    buf_room_open(&p->buf, &room, n);
    size_t left = n;
    for (int i = 0; i < room.count; i++) {
        size_t part = left < room.iov[i].iov_len ? left : room.iov[i].iov_len;
        memcpy(room.iov[i].iov_base, p->flat + p->len + (n - left), part);
        left -= part;
    }
    assert_int_equal(left, 0);
    buf_room_close(&p->buf, &room, n);
    p->len += n;
}

static void step_drain(struct rng *r, struct pair *p)
{
    size_t n = rng_below(r, p->len + 1);
    buf_drain(&p->buf, n);
    p->len -= n;
    memmove(p->flat, p->flat + n, p->len);
}

static void step_move(struct rng *r, struct pair *to, struct pair *from)
{
    size_t n = rng_below(r, 3) ? rng_below(r, from->len + 1) : from->len;
    if (to->len + n > FLAT_MOST / 2) return;
    memcpy(to->flat + to->len, from->flat, n);
    to->len += n;
    from->len -= n;
    memmove(from->flat, from->flat + n, from->len);
    if (from->len == 0)
        buf_move(&to->buf, &from->buf);
    else
        buf_move_n(&to->buf, &from->buf, n);
}

static void step_share(struct pair *to, struct pair *from)
{
    if (to->len + from->len > FLAT_MOST / 2) return;
    buf_share(&to->buf, &from->buf);
    memcpy(to->flat + to->len, from->flat, from->len);
    to->len += from->len;
}

static void step_peek(struct rng *r, struct pair *p)
{
    size_t n = some_size(r);
    struct str got = buf_peek(&p->buf, n);
    assert_int_equal(got.len, n < p->len ? n : p->len);
    if (got.len) assert_memory_equal(got.ptr, p->flat, got.len);
}

static void holds_what_a_flat_array_holds(void **state)
{
    struct rng r;
    (void)state;
    rng_init(&r, 7);
    for (int i = 0; i < STEPS; i++) {
        struct pair *p = rng_below(&r, 2) ? &x : &y, *q = p == &x ? &y : &x;
        switch (rng_below(&r, 8)) {
        case 0: step_append(&r, p); break;
        case 1: step_prepend(&r, p); break;
        case 2: step_read(&r, p); break;
        case 3: step_drain(&r, p); break;
        case 4: step_move(&r, p, q); break;
        case 5: step_share(p, q); break;
        case 6: step_room(&r, p); break;
        default: step_peek(&r, p); break;
        }
        if (i % 16 == 0) check(p);
    }
    check(&x);
    check(&y);
    buf_release(&x.buf);
    buf_release(&y.buf);
}

static void one_byte_pieces_share_a_block(void **state)
{
    struct buf from = {0}, to = {0};
    struct iovec iov[64];
    (void)state;
    for (int i = 0; i < 5000; i++) {
        size_t room;
        char *at = buf_reserve(&from, 65536, &room);
        *at = 'x';
        buf_commit(&from, 1);
        buf_move(&to, &from);
    }
    assert_int_equal(buf_len(&to), 5000);
    assert_int_equal(buf_iov(&to, iov, 64), 1);
    buf_release(&to);
}

static void an_empty_read_holds_nothing(void **state)
{
    struct buf b = {0};
    size_t room;
    (void)state;
    assert_non_null(buf_reserve(&b, 1000, &room));
    assert_int_equal(room, 1000);
    buf_commit(&b, 0);
    assert_null(b.head);
    assert_int_equal(buf_front(&b).len, 0);
    buf_append(&b, "abc", 3);
    (void)buf_reserve(&b, 65536, &room);
    buf_commit(&b, 0);
    assert_int_equal(buf_len(&b), 3);
    buf_release(&b);
}

static void a_shared_tail_is_not_overwritten(void **state)
{
    struct buf a = {0}, b = {0};
    struct arena *arena = arena_new("test", 0);
    static char big[2000];
    (void)state;
    memset(big, 'a', sizeof(big));
    buf_append(&a, big, sizeof(big));
    buf_share(&b, &a);
    buf_append(&a, "1", 1);
    buf_append(&b, "2", 1);
    assert_int_equal(buf_dup(&a, arena).ptr[2000], '1');
    assert_string_equal(buf_dup(&b, arena).ptr + 2000, "2");
    buf_release(&a);
    buf_release(&b);
    arena_free(&arena);
    buf_thread_release();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(holds_what_a_flat_array_holds),
        cmocka_unit_test(one_byte_pieces_share_a_block),
        cmocka_unit_test(an_empty_read_holds_nothing),
        cmocka_unit_test(a_shared_tail_is_not_overwritten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
