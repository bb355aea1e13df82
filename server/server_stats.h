/* Statistics of the process (server.*), the flush timer, and stats_config of the bootstrap. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "proto/notes.h"

struct server;
struct errors;

void server_stats_start(struct server *s);
void server_stats_stop(struct server *s);
/* stats_config (tags, matcher, histogram buckets) and stats_flush_interval of the bootstrap. False:
 * told. */
bool server_stats_configure(struct server *s, struct errors *errors);
/* The first configuration is complete. */
void server_stats_live(struct server *s);
/* Brings the gauges that are computed on demand up to date (uptime, memory, connections): before
 * they are shown. */
void server_stats_refresh(struct server *s);
/* Before a page shows statistics: refreshes, and turns the histograms' period when
 * stats_flush_interval has passed. No timer runs for that, so that an idle process sleeps. */
void server_stats_show(struct server *s);
/* Bytes of the process in memory. */
uint64_t server_stats_resident(void);
/* A field was ignored, deprecated or unknown. */
void server_stats_note(struct server *s, enum proto_note_kind kind);
