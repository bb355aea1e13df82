/* Files that access logs write to: shared by path, written by one thread of their own, so that no
 * worker ever waits for a disk. */
#pragma once
#include <stdbool.h>
#include "base/str.h"

struct log_file; /* lives as long as the process */
struct runtime;
struct worker;
struct conf_at;

/* Main. The file at `path`, made and opened for appending when it is new; NULL: told at `at`. */
struct log_file *log_file_open(const struct conf_at *at, struct str path);
/* The process's own output: 1 or 2. */
struct log_file *log_file_standard(const struct conf_at *at, int fd);
/* Worker (or main: w NULL). Where the next entry is to be appended, until log_file_end. NULL: there
 * is no room, the entry is dropped and counted. */
struct sb *log_file_begin(struct worker *w, struct log_file *f);
void log_file_end(struct worker *w, struct log_file *f);
