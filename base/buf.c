/* Byte queues. A slice points into a refcounted block; `used` of the block marks what any slice may
 * refer to, so bytes may be appended behind a slice that ends there even while others share the
 * block. Small pieces are copied into the tail's free room rather than linked: a peer that sends
 * one byte at a time must not cost a block for each. */
#include "base/buf.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/must.h"

enum {
    BUF_COPY_MOST = 1024,  /* up to here copying is cheaper than keeping a block */
    BUF_READ_LEAST = 2048, /* less free room than this is not worth a read(2) */
#ifdef SKIFF_SANITIZED
    BUF_KEEP_BLOCKS = 0, /* sanitisers see each block's own birth and death */
    BUF_KEEP_SLICES = 0,
#else
    BUF_KEEP_BLOCKS = 32,
    BUF_KEEP_SLICES = 256,
#endif
};

struct buf_block {
    struct buf_block *next; /* in the free list */
    uint32_t refs;          /* slices that point here; one thread only */
    uint32_t cap;
    uint32_t used; /* high-water mark in bytes[] */
    uint32_t unused;
    char bytes[];
};
enum { BUF_BLOCK_ROOM = BUF_SLICE_SIZE - sizeof(struct buf_block) };

struct buf_slice {
    struct buf_slice *next;
    struct buf_block *block;
    char *at;
    size_t len;
};

struct buf_cache {
    struct buf_block *blocks;
    struct buf_slice *slices;
    size_t block_count, slice_count;
};
/* This thread's spare blocks and slices; buf_thread_release empties it. */
static _Thread_local struct buf_cache buf_cache;

static struct buf_block *block_new(size_t cap)
{
    struct buf_block *k = cap <= BUF_BLOCK_ROOM ? buf_cache.blocks : NULL;
    if (cap < BUF_BLOCK_ROOM) cap = BUF_BLOCK_ROOM;
    if (k) {
        buf_cache.blocks = k->next;
        buf_cache.block_count--;
    } else {
        must(cap <= UINT32_MAX - sizeof(*k));
        k = mem_realloc(NULL, sizeof(*k) + cap);
        k->cap = (uint32_t)cap;
    }
    k->next = NULL;
    k->refs = 0;
    k->used = 0;
    return k;
}

static void block_unref(struct buf_block *k)
{
    if (--k->refs) return;
    if (k->cap == BUF_BLOCK_ROOM && buf_cache.block_count + 1 <= BUF_KEEP_BLOCKS) {
        k->next = buf_cache.blocks;
        buf_cache.blocks = k;
        buf_cache.block_count++;
        return;
    }
    mem_free(k);
}

/* A slice that refers to len bytes at `at` of the block. */
static struct buf_slice *slice_new(struct buf_block *k, char *at, size_t len)
{
    struct buf_slice *s = buf_cache.slices;
    if (s) {
        buf_cache.slices = s->next;
        buf_cache.slice_count--;
    } else {
        s = mem_realloc(NULL, sizeof(*s));
    }
    *s = (struct buf_slice){.block = k, .at = at, .len = len};
    k->refs++;
    return s;
}

static void slice_free(struct buf_slice *s)
{
    block_unref(s->block);
    if (buf_cache.slice_count + 1 <= BUF_KEEP_SLICES) {
        s->next = buf_cache.slices;
        buf_cache.slices = s;
        buf_cache.slice_count++;
        return;
    }
    mem_free(s);
}

void buf_thread_release(void)
{
    while (buf_cache.blocks) {
        struct buf_block *k = buf_cache.blocks;
        buf_cache.blocks = k->next;
        mem_free(k);
    }
    while (buf_cache.slices) {
        struct buf_slice *s = buf_cache.slices;
        buf_cache.slices = s->next;
        mem_free(s);
    }
    buf_cache = (struct buf_cache){0};
}

static void push_back(struct buf *b, struct buf_slice *s)
{
    s->next = NULL;
    if (b->tail)
        b->tail->next = s;
    else
        b->head = s;
    b->tail = s;
    b->len += s->len;
}

static void push_front(struct buf *b, struct buf_slice *s)
{
    s->next = b->head;
    b->head = s;
    if (!b->tail) b->tail = s;
    b->len += s->len;
}

static struct buf_slice *pop_front(struct buf *b)
{
    struct buf_slice *s = b->head;
    b->head = s->next;
    if (!b->head) b->tail = NULL;
    b->len -= s->len;
    return s;
}

/* Bytes that may be added behind the slice in its block. */
static size_t slice_room(const struct buf_slice *s)
{
    const struct buf_block *k = s->block;
    return s->at + s->len == k->bytes + k->used ? k->cap - k->used : 0;
}

void buf_release(struct buf *b)
{
    while (b->head)
        slice_free(pop_front(b));
    *b = (struct buf){0};
}

/* Copies what fits into the tail's free room; gives back how much. */
static size_t fill_tail(struct buf *b, const char *from, size_t len)
{
    if (!b->tail) return 0;
    size_t room = slice_room(b->tail);
    if (len > room) len = room;
    if (len == 0) return 0;
    memcpy(b->tail->at + b->tail->len, from, len);
    b->tail->len += len;
    b->tail->block->used += (uint32_t)len;
    b->len += len;
    return len;
}

void buf_append(struct buf *b, const void *bytes, size_t len)
{
    const char *from = bytes;
    while (len) {
        size_t done = fill_tail(b, from, len);
        from += done;
        len -= done;
        if (len) {
            struct buf_block *k = block_new(0);
            push_back(b, slice_new(k, k->bytes, 0));
        }
    }
}

void buf_prepend(struct buf *b, const void *bytes, size_t len)
{
    if (len == 0) return;
    struct buf_slice *s = b->head;
    if (s && s->block->refs == 1 && (size_t)(s->at - s->block->bytes) >= len) {
        s->at -= len;
        s->len += len;
        b->len += len;
        memcpy(s->at, bytes, len);
        return;
    }
    /* At the block's end, so that the next prepend finds room before it. */
    struct buf_block *k = block_new(len);
    k->used = k->cap;
    char *at = k->bytes + (k->cap - len);
    memcpy(at, bytes, len);
    push_front(b, slice_new(k, at, len));
}

void buf_move(struct buf *dst, struct buf *src)
{
    while (src->head && src->head->len <= BUF_COPY_MOST && dst->tail &&
           slice_room(dst->tail) >= src->head->len) {
        struct buf_slice *s = pop_front(src);
        (void)fill_tail(dst, s->at, s->len); /* fits: checked above */
        slice_free(s);
    }
    if (!src->head) return;
    if (dst->tail)
        dst->tail->next = src->head;
    else
        dst->head = src->head;
    dst->tail = src->tail;
    dst->len += src->len;
    *src = (struct buf){0};
}

/* The first n bytes of src's head slice (n below its length) go to dst. */
static void move_part(struct buf *dst, struct buf *src, size_t n)
{
    struct buf_slice *s = src->head;
    if (n <= BUF_COPY_MOST)
        buf_append(dst, s->at, n);
    else
        push_back(dst, slice_new(s->block, s->at, n));
    s->at += n;
    s->len -= n;
    src->len -= n;
}

void buf_move_n(struct buf *dst, struct buf *src, size_t n)
{
    if (n >= src->len) {
        buf_move(dst, src);
        return;
    }
    while (n) {
        struct buf_slice *s = src->head;
        if (s->len > n) {
            move_part(dst, src, n);
            return;
        }
        n -= s->len;
        struct buf one = {0};
        push_back(&one, pop_front(src));
        buf_move(dst, &one);
    }
}

void buf_share(struct buf *dst, const struct buf *src)
{
    for (const struct buf_slice *s = src->head; s; s = s->next) {
        if (s->len <= BUF_COPY_MOST)
            buf_append(dst, s->at, s->len);
        else
            push_back(dst, slice_new(s->block, s->at, s->len));
    }
}

void buf_drain(struct buf *b, size_t n)
{
    must(n <= b->len);
    while (b->head && n >= b->head->len) {
        n -= b->head->len;
        slice_free(pop_front(b));
    }
    if (n == 0) return;
    b->head->at += n;
    b->head->len -= n;
    b->len -= n;
}

struct str buf_front(const struct buf *b)
{
    return b->head ? (struct str){b->head->at, b->head->len} : STR_NONE;
}

struct str buf_peek(struct buf *b, size_t n)
{
    if (n > b->len) n = b->len;
    if (n == 0) return STR_NONE;
    if (b->head->len < n) {
        struct buf_block *k = block_new(n);
        (void)buf_copy_out(b, 0, k->bytes, n); /* n is at most the length */
        k->used = (uint32_t)n;
        buf_drain(b, n);
        push_front(b, slice_new(k, k->bytes, n));
    }
    return (struct str){b->head->at, n};
}

size_t buf_copy_out(const struct buf *b, size_t offset, void *to, size_t n)
{
    size_t done = 0;
    for (const struct buf_slice *s = b->head; s && done < n; s = s->next) {
        if (offset >= s->len) {
            offset -= s->len;
            continue;
        }
        size_t part = s->len - offset < n - done ? s->len - offset : n - done;
        memcpy((char *)to + done, s->at + offset, part);
        done += part;
        offset = 0;
    }
    return done;
}

struct str buf_dup(const struct buf *b, struct arena *a)
{
    char *to = arena_alloc_raw(a, b->len + 1);
    size_t len = buf_copy_out(b, 0, to, b->len);
    to[len] = '\0';
    return (struct str){to, len};
}

int buf_iov(const struct buf *b, struct iovec *iov, int most)
{
    int count = 0;
    for (const struct buf_slice *s = b->head; s && count < most; s = s->next) {
        if (s->len) iov[count++] = (struct iovec){.iov_base = s->at, .iov_len = s->len};
    }
    return count;
}

void *buf_reserve(struct buf *b, size_t most, size_t *len)
{
    struct buf_slice *s = b->tail;
    size_t enough = most < BUF_READ_LEAST ? most : BUF_READ_LEAST;
    if (enough == 0) enough = 1;
    /* A sharer could reserve the same room before this one commits. */
    if (!s || s->block->refs != 1 || slice_room(s) < enough) {
        struct buf_block *k = block_new(0);
        s = slice_new(k, k->bytes, 0);
        push_back(b, s);
    }
    size_t room = slice_room(s);
    *len = most && most < room ? most : room;
    return s->at + s->len;
}

/* Drops the tail, which is empty: an idle connection must not hold a block. */
static void drop_tail(struct buf *b)
{
    struct buf_slice *gone = b->tail;
    if (b->head == gone) {
        b->head = b->tail = NULL;
    } else {
        struct buf_slice *before = b->head;
        while (before->next != gone)
            before = before->next;
        before->next = NULL;
        b->tail = before;
    }
    slice_free(gone);
}

void buf_commit(struct buf *b, size_t n)
{
    must(b->tail && n <= slice_room(b->tail));
    b->tail->len += n;
    b->tail->block->used += (uint32_t)n;
    b->len += n;
    if (b->tail->len == 0) drop_tail(b);
}

void buf_room_open(struct buf *b, struct buf_room *r, size_t want)
{
    size_t room = 0;
    r->count = 0;
    if (b->tail && b->tail->block->refs == 1 && slice_room(b->tail) >= BUF_READ_LEAST) {
        room = slice_room(b->tail);
        r->slices[0] = b->tail;
        r->iov[r->count++] = (struct iovec){b->tail->at + b->tail->len, room};
    }
    while (r->count < BUF_ROOM_MOST && (room < want || r->count == 0)) {
        struct buf_block *k = block_new(0);
        r->slices[r->count] = slice_new(k, k->bytes, 0);
        r->iov[r->count++] = (struct iovec){k->bytes, k->cap};
        room += k->cap;
    }
}

void buf_room_close(struct buf *b, struct buf_room *r, size_t n)
{
    struct buf_slice *tail = b->tail;
    for (int i = 0; i < r->count; i++) {
        struct buf_slice *s = r->slices[i];
        size_t part = n < r->iov[i].iov_len ? n : r->iov[i].iov_len;
        n -= part;
        s->len += part;
        s->block->used += (uint32_t)part;
        if (s == tail)
            b->len += part;
        else if (part)
            push_back(b, s);
        else
            slice_free(s);
    }
    must(n == 0);
}
