/* Owners of side calls know their calls by a link alone, so that nets and streams need no client.
 */
#include "proxy/api/side_call.h"

void side_owner_release(struct side_owner *o)
{
    if (!o->calls.next) return;
    for (struct list *it; (it = list_first(&o->calls));) {
        struct side_link *l = CONTAINER_OF(it, struct side_link, link);
        l->cancel(l);
    }
}
