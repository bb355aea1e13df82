/* The mailbox of a loop: a lock-free stack with many senders and one receiver. The receiver takes
 * the whole stack with one exchange and reverses it, so each sender's messages keep their order. */
#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/loop_internal.h"

void mailbox_init(struct mailbox *b)
{
    atomic_init(&b->head, NULL);
    b->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    must(b->fd >= 0);
}

bool mailbox_receive(struct mailbox *b)
{
    uint64_t wakes;
    /* Before the exchange: a message that comes between the two writes again and is only found
     * early. */
    while (read(b->fd, &wakes, sizeof(wakes)) < 0 && errno == EINTR)
        continue;
    struct mail *stack = atomic_exchange_explicit(&b->head, NULL, memory_order_acquire);
    struct mail *queue = NULL;
    bool any = stack;
    while (stack) {
        struct mail *next = stack->next;
        stack->next = queue;
        queue = stack;
        stack = next;
    }
    while (queue) {
        struct mail *next = queue->next; /* deliver may free the message */
        queue->deliver(queue);
        queue = next;
    }
    return any;
}

bool loop_deliver(struct loop *l)
{
    return mailbox_receive(&l->mailbox);
}

void mailbox_release(struct mailbox *b)
{
    (void)close(b->fd); /* nothing can be done about a failure */
    b->fd = -1;
}

void loop_post(struct loop *l, struct mail *m)
{
    struct mailbox *b = &l->mailbox;
    struct mail *head = atomic_load_explicit(&b->head, memory_order_relaxed);
    do {
        m->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&b->head, &head, m, memory_order_release,
                                                    memory_order_relaxed));
    if (head) return;
    const uint64_t one = 1;
    while (write(b->fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}
