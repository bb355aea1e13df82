/* The admin interface: HTTP on main's loop. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct admin;
struct errors;
struct server;

/* Binds the address of bootstrap.admin (none configured: NULL without an error) and begins to
 * answer. Writes --admin-address-path. False: told in errors. */
bool admin_start(struct server *s, struct admin **out, struct errors *errors);
/* What admin_start would refuse of the configuration, without binding (--mode validate). False:
 * told. */
bool admin_check(struct server *s, struct errors *errors);
/* Days until the first certificate in use expires; UINT32_MAX without any, as Envoy shows it. */
uint64_t admin_days_until_expiry(struct server *s);
/* Closes the socket and all connections; leaves NULL. NULL is fine. */
void admin_stop(struct admin **a);
