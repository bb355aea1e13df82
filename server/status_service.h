/* The client status API (CSDS) as a gRPC service, on the address of --client-status-address. Main
 * thread. */
#pragma once
#include <stdbool.h>

struct errors;
struct server;
struct status_service;

/* Binds the address of the options (none given: NULL without an error) and begins to answer. False:
 * told in errors. */
bool status_service_start(struct server *s, struct status_service **out, struct errors *errors);
/* Ends all calls, closes the socket; leaves NULL. NULL is fine. Before xds is freed. */
void status_service_stop(struct status_service **service);
