/* Datagrams: sockets, reading and writing in batches. Worker thread (opening: any). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/str.h"

struct worker;

enum { DATAGRAM_BATCH = 32 };
struct datagram {
    struct addr from, to; /* to.len 0: the kernel did not tell */
    struct str bytes;     /* in the worker's buffer: until the next read of the worker */
    bool cut;             /* longer than `most` */
};
struct datagram_batch {
    struct datagram v[DATAGRAM_BATCH];
    size_t count;
    bool full;     /* more may wait */
    bool has_lost; /* lost is known */
    uint32_t lost; /* the socket's count of datagrams that found no room, as of this batch */
};

/* A non-blocking, close-on-exec datagram socket for addresses like `like`; negative errno. */
int datagram_open(const struct addr *like);
/* The kernel tells with each datagram its destination (if `destination`) and the count of losses;
 * negative errno. */
int datagram_want_facts(int fd, const struct addr *like, bool destination);
/* Reads what is there, at most a batch, datagrams of at most `most` bytes. 0, or the negative errno
 * when there was nothing (-EAGAIN) or an error (-ECONNREFUSED). */
int datagram_read(struct worker *w, int fd, size_t most, struct datagram_batch *out);
/* Sends; gives back how many were taken before the first failure. to NULL: a connected socket. from
 * NULL: the socket's own address. */
size_t datagram_send(int fd, const struct addr *to, const struct addr *from, const struct str *v,
                     size_t count);
