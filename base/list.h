/* Intrusive doubly linked lists: a head is a node that points to itself when empty. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/must.h"

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}
/* A node that is in no list must be initialised (self-linked) or zeroed. */
static inline bool list_linked(const struct list *n)
{
    return n->next && n->next != n;
}
static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}
static inline void list_add_after(struct list *at, struct list *n)
{
    n->next = at->next;
    n->prev = at;
    at->next->prev = n;
    at->next = n;
}
static inline void list_push_back(struct list *head, struct list *n)
{
    list_add_after(head->prev, n);
}
static inline void list_push_front(struct list *head, struct list *n)
{
    list_add_after(head, n);
}
/* Unlinks and self-links; fine on a node that is in no list. */
static inline void list_remove(struct list *n)
{
    if (n->next) {
        n->next->prev = n->prev;
        n->prev->next = n->next;
    }
    list_init(n);
}
static inline struct list *list_first(const struct list *head)
{
    return list_empty(head) ? NULL : head->next;
}
#define LIST_FOREACH(head, it) for (struct list *it = (head)->next; it != (head); it = it->next)
/* The current node may be removed. */
#define LIST_FOREACH_SAFE(head, it, nx) \
    for (struct list *it = (head)->next, *nx = it->next; it != (head); it = nx, nx = it->next)
