/* Byte queues: lists of refcounted slices, so that bodies move between connections without copies.
 * Worker-local. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "base/str.h"

enum { BUF_SLICE_SIZE = 16384 };
struct buf_block; /* refcounted storage of one or more slices */

/* FIFO of bytes. Zero-initialised is empty and valid. */
struct buf_slice;
struct buf {
    struct buf_slice *head, *tail;
    size_t len;
};

void buf_release(struct buf *b); /* drops all bytes; empty and valid after */
static inline size_t buf_len(const struct buf *b)
{
    return b->len;
}
/* Copies. */
void buf_append(struct buf *b, const void *bytes, size_t len);
static inline void buf_append_str(struct buf *b, struct str s)
{
    buf_append(b, s.ptr, s.len);
}
void buf_prepend(struct buf *b, const void *bytes, size_t len);
/* Moves all (or the first n) bytes of src to the end of dst; whole slices are not copied, a split
 * slice is shared. */
void buf_move(struct buf *dst, struct buf *src);
void buf_move_n(struct buf *dst, struct buf *src, size_t n);
/* Shares: dst gets the same bytes without copying (mirrors, retries). */
void buf_share(struct buf *dst, const struct buf *src);
void buf_drain(struct buf *b, size_t n);
/* The first slice's bytes, for parsers that eat slice by slice; len 0 when empty. */
struct str buf_front(const struct buf *b);
/* The first min(n, len) bytes as one run (copies only when they span slices); borrowed until the
 * next change. */
struct str buf_peek(struct buf *b, size_t n);
/* Copies up to n bytes from offset; gives back how many. */
size_t buf_copy_out(const struct buf *b, size_t offset, void *to, size_t n);
/* All bytes copied into the arena as one str. */
struct str buf_dup(const struct buf *b, struct arena *a);
/* Up to `most` iovecs over the content; gives back their number. */
int buf_iov(const struct buf *b, struct iovec *iov, int most);
/* Room for at least 1 byte to read into (up to *len offered, at most `most`); commit tells how many
 * arrived. */
void *buf_reserve(struct buf *b, size_t most, size_t *len);
void buf_commit(struct buf *b, size_t n);
/* Room for one readv of about `want` bytes: open, read, close with how many arrived; nothing else
 * may happen to the buf in between. */
enum { BUF_ROOM_MOST = 8 };
struct buf_room {
    struct iovec iov[BUF_ROOM_MOST];
    struct buf_slice *slices[BUF_ROOM_MOST];
    int count;
};
void buf_room_open(struct buf *b, struct buf_room *r, size_t want);
void buf_room_close(struct buf *b, struct buf_room *r, size_t n);
/* Frees this thread's cached blocks (thread end). */
void buf_thread_release(void);
