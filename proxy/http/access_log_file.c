/* Log files. A worker appends entries to a buffer of its own per file; when enough has gathered, or
 * some time after the first entry, the buffer travels as a chunk on a lock-free stack to the one
 * log thread, which alone opens and writes. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "proxy/api/conf.h"
#include "proxy/api/log_file.h"
#include "proxy/http/access_log.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

enum { WAITING_MOST = 16 << 20 }; /* bytes of one worker that the log thread has not written yet */
enum log_stat {
    LOG_BUFFERED,
    LOG_COMPLETED,
    LOG_BY_TIMER,
    LOG_REOPEN_FAILED,
    LOG_FAILED,
    LOG_DROPPED,
    LOG_TOTAL_BUFFERED,
    LOG_STATS
};
static const struct stat_def log_stats[LOG_STATS] = {
    [LOG_BUFFERED] = {"write_buffered", STAT_COUNTER, 0},
    [LOG_COMPLETED] = {"write_completed", STAT_COUNTER, 0},
    [LOG_BY_TIMER] = {"flushed_by_timer", STAT_COUNTER, 0},
    [LOG_REOPEN_FAILED] = {"reopen_failed", STAT_COUNTER, 0},
    [LOG_FAILED] = {"write_failed", STAT_COUNTER, 0},
    [LOG_DROPPED] = {"write_dropped", STAT_COUNTER, STAT_LAZY},
    [LOG_TOTAL_BUFFERED] = {"write_total_buffered", STAT_GAUGE, 0},
};

struct log_file {
    struct log_files *all;
    struct log_file *next;
    struct str path;
    size_t index;  /* in the buffers of workers */
    int fd;        /* log thread's once it runs */
    bool standard; /* stdout, stderr: never opened again */
    atomic_bool reopen;
};
/* Text on its way from a worker to the log thread. Heap; whoever has it owns it. */
struct log_chunk {
    struct log_chunk *next;
    struct log_file *file;
    atomic_size_t *waiting; /* of the worker that made it */
    size_t len;
    bool by_timer;
    char bytes[];
};
/* A worker's text for one file. */
struct log_buffer {
    struct log_file *file; /* NULL: not used yet */
    struct sb text;
};
/* Per worker: slot WORKER_LOG. */
struct log_worker {
    struct log_files *all;
    atomic_size_t *waiting;
    struct log_buffer *buffers; /* by file index */
    size_t count;
    struct loop_timer timer; /* runs while some buffer holds text */
};
struct log_files {
    struct runtime *rt;
    uint64_t flush_us;
    size_t min_bytes;
    struct stat_group *stats;
    struct log_file *first; /* main */
    size_t count;
    atomic_size_t *waiting; /* bytes with the log thread, per worker, then main */
    struct log_worker main; /* for entries that main logs */
    _Atomic(struct log_chunk *) head;
    atomic_bool stop;
    bool running;
    pthread_t thread;
    int wake;
};

/* --- any thread: handing over
 * --------------------------------------------------------------------- */

static void wake(struct log_files *all)
{
    uint64_t one = 1;
    ssize_t n = write(all->wake, &one, sizeof one);
    (void)n; /* EAGAIN: it is awake already */
}

static void hand_over(struct log_worker *lw, struct log_buffer *b, bool by_timer)
{
    if (!b->text.len) return;
    struct log_files *all = lw->all;
    struct log_chunk *c = mem_alloc(sizeof *c + b->text.len);
    c->file = b->file;
    c->waiting = lw->waiting;
    c->len = b->text.len;
    c->by_timer = by_timer;
    memcpy(c->bytes, b->text.ptr, b->text.len);
    (void)atomic_fetch_add_explicit(lw->waiting, c->len, memory_order_relaxed);
    if (b->text.cap > 2 * all->min_bytes)
        sb_release(&b->text);
    else
        sb_clear(&b->text);
    stat_add(all->stats, LOG_TOTAL_BUFFERED, c->len);
    struct log_chunk *before = atomic_load_explicit(&all->head, memory_order_relaxed);
    do {
        c->next = before;
    } while (!atomic_compare_exchange_weak_explicit(&all->head, &before, c, memory_order_release,
                                                    memory_order_relaxed));
    if (!before) wake(all); /* c may be gone by now */
}

/* --- worker
 * ----------------------------------------------------------------------------------------- */

static void flush_all(struct log_worker *lw, bool by_timer)
{
    for (size_t i = 0; i < lw->count; i++)
        hand_over(lw, &lw->buffers[i], by_timer);
}

static void on_timer(struct loop_timer *t)
{
    flush_all(CONTAINER_OF(t, struct log_worker, timer), true);
}

static struct log_buffer *buffer_of(struct log_worker *lw, struct log_file *f)
{
    if (f->index >= lw->count) {
        size_t count = f->index + 1;
        lw->buffers = mem_realloc(lw->buffers, count * sizeof *lw->buffers);
        memset(lw->buffers + lw->count, 0, (count - lw->count) * sizeof *lw->buffers);
        lw->count = count;
    }
    lw->buffers[f->index].file = f;
    return &lw->buffers[f->index];
}

static struct log_worker *log_worker_of(struct worker *w, struct log_file *f)
{
    return w ? w->slot[WORKER_LOG] : &f->all->main;
}

struct sb *log_file_begin(struct worker *w, struct log_file *f)
{
    struct log_worker *lw = log_worker_of(w, f);
    if (atomic_load_explicit(lw->waiting, memory_order_relaxed) > WAITING_MOST) {
        stat_inc(f->all->stats, LOG_DROPPED);
        return NULL;
    }
    return &buffer_of(lw, f)->text;
}

void log_file_end(struct worker *w, struct log_file *f)
{
    struct log_worker *lw = log_worker_of(w, f);
    struct log_buffer *b = buffer_of(lw, f);
    stat_inc(f->all->stats, LOG_BUFFERED);
    if (!w || b->text.len >= f->all->min_bytes)
        hand_over(lw, b, false);
    else if (!loop_timer_running(&lw->timer))
        loop_timer_start(w->loop, &lw->timer, f->all->flush_us, on_timer);
}

static void log_worker_start(struct worker *w)
{
    struct log_files *all = w->rt->access_logs;
    struct log_worker *lw = mem_alloc(sizeof *lw);
    lw->all = all;
    lw->waiting = &all->waiting[w->index];
    w->slot[WORKER_LOG] = lw;
}

static void log_worker_stop(struct worker *w)
{
    struct log_worker *lw = w->slot[WORKER_LOG];
    if (!lw) return;
    loop_timer_stop(&lw->timer);
    flush_all(lw, false);
    for (size_t i = 0; i < lw->count; i++)
        sb_release(&lw->buffers[i].text);
    mem_free(lw->buffers);
    mem_free(lw);
    w->slot[WORKER_LOG] = NULL;
}

static const struct worker_hooks hooks = {.start = log_worker_start, .stop = log_worker_stop};

/* --- log thread
 * --------------------------------------------------------------------------------------- */

static int file_open(struct str path)
{
    int fd = open(path.ptr, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd >= 0) return fd;
    int why = errno;
    /* standard output may be a socket, which cannot be opened by its name */
    if (str_eq(path, STR("/dev/stdout"))) fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    if (str_eq(path, STR("/dev/stderr"))) fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    return fd >= 0 ? fd : -why;
}

static void file_reopen(struct log_file *f)
{
    if (f->standard) return;
    int fd = file_open(f->path);
    if (fd < 0) { /* the old file is written on: better there than nowhere */
        stat_inc(f->all->stats, LOG_REOPEN_FAILED);
        return;
    }
    (void)close(f->fd);
    f->fd = fd;
}

/* False: some of it could not be written. */
static bool write_all(int fd, const char *p, size_t len)
{
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static void chunk_write(struct log_files *all, struct log_chunk *c)
{
    if (atomic_exchange(&c->file->reopen, false)) file_reopen(c->file);
    if (c->by_timer) stat_inc(all->stats, LOG_BY_TIMER);
    stat_inc(all->stats, write_all(c->file->fd, c->bytes, c->len) ? LOG_COMPLETED : LOG_FAILED);
    stat_sub(all->stats, LOG_TOTAL_BUFFERED, c->len);
    (void)atomic_fetch_sub_explicit(c->waiting, c->len, memory_order_relaxed);
    mem_free(c);
}

/* Takes all chunks, oldest first. */
static void write_waiting(struct log_files *all)
{
    struct log_chunk *c = atomic_exchange_explicit(&all->head, NULL, memory_order_acquire),
                     *order = NULL;
    while (c) {
        struct log_chunk *next = c->next;
        c->next = order;
        order = c;
        c = next;
    }
    while (order) {
        struct log_chunk *next = order->next;
        chunk_write(all, order);
        order = next;
    }
}

static void *log_thread(void *arg)
{
    struct log_files *all = arg;
    stats_thread_enter(all->rt->stats, all->rt->concurrency + 1);
    for (;;) {
        uint64_t count;
        ssize_t n = read(all->wake, &count, sizeof count);
        bool stop = atomic_load(&all->stop);
        write_waiting(all);
        if (stop) return NULL;
        if (n < 0 && errno != EINTR)
            return NULL; /* cannot happen: the descriptor is ours and blocking */
    }
}

/* Signals are the main thread's. */
static bool thread_start(struct log_files *all)
{
    sigset_t every, before;
    (void)sigfillset(&every);
    (void)pthread_sigmask(SIG_SETMASK, &every, &before);
    all->running = pthread_create(&all->thread, NULL, log_thread, all) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return all->running;
}

/* --- main
 * --------------------------------------------------------------------------------------------- */

static struct log_file *file_add(struct log_files *all, struct str path, int fd, bool standard)
{
    struct log_file *f = mem_alloc(sizeof *f);
    char *copy = mem_alloc(path.len + 1);
    memcpy(copy, path.ptr, path.len);
    f->all = all;
    f->path = str_make(copy, path.len);
    f->fd = fd;
    f->standard = standard;
    f->index = all->count++;
    f->next = all->first;
    all->first = f;
    return f;
}

static struct log_file *file_find(struct log_files *all, struct str path, bool standard)
{
    for (struct log_file *f = all->first; f; f = f->next) {
        if (f->standard == standard && str_eq(f->path, path)) return f;
    }
    return NULL;
}

static struct log_files *files_of(const struct conf_at *at)
{
    struct log_files *all = at->cx->rt ? at->cx->rt->access_logs : NULL;
    if (!all) (void)conf_fail(at, "log files are not available here");
    return all;
}

static bool ready(const struct conf_at *at, struct log_files *all)
{
    if (all->running || at->cx->validate_only || thread_start(all)) return true;
    return conf_fail(at, "the log thread cannot be started");
}

struct log_file *log_file_open(const struct conf_at *at, struct str path)
{
    struct log_files *all = files_of(at);
    if (!all || !ready(at, all)) return NULL;
    struct log_file *f = file_find(all, path, false);
    if (f) return f;
    int fd = file_open(str_dup(at->cx->arena, path));
    if (fd >= 0) return file_add(all, path, fd, false);
    (void)conf_fail(at, "unable to open file '%.*s': %s", STR_ARG(path), strerror(-fd));
    return NULL;
}

struct log_file *log_file_standard(const struct conf_at *at, int fd)
{
    struct log_files *all = files_of(at);
    struct str name = fd == STDOUT_FILENO ? STR("stdout") : STR("stderr");
    if (!all || !ready(at, all)) return NULL;
    struct log_file *f = file_find(all, name, true);
    return f ? f : file_add(all, name, fd, true);
}

void access_log_start(struct runtime *rt, uint64_t flush_us, size_t min_bytes)
{
    struct log_files *all = mem_alloc(sizeof *all);
    all->rt = rt;
    all->flush_us = flush_us;
    all->min_bytes = min_bytes ? min_bytes : 1;
    all->stats = stat_group_get(rt->stats, STR("filesystem."), log_stats, LOG_STATS);
    all->waiting = mem_array(rt->concurrency + 1, sizeof *all->waiting);
    all->main.all = all;
    all->main.waiting = &all->waiting[rt->concurrency];
    all->wake = eventfd(0, EFD_CLOEXEC);
    must(all->wake >= 0);
    rt->access_logs = all;
    runtime_add_hooks(rt, &hooks);
}

void access_log_reopen(struct runtime *rt)
{
    struct log_files *all = rt->access_logs;
    for (struct log_file *f = all ? all->first : NULL; f; f = f->next)
        atomic_store(&f->reopen, true);
}

void access_log_stop(struct runtime *rt)
{
    struct log_files *all = rt->access_logs;
    if (!all) return;
    rt->access_logs = NULL;
    flush_all(&all->main, false);
    if (all->running) {
        atomic_store(&all->stop, true);
        wake(all);
        (void)pthread_join(all->thread, NULL);
    }
    while (all->first) {
        struct log_file *f = all->first;
        all->first = f->next;
        if (!f->standard) (void)close(f->fd);
        mem_free((char *)(uintptr_t)f->path.ptr);
        mem_free(f);
    }
    for (size_t i = 0; i < all->main.count; i++)
        sb_release(&all->main.buffers[i].text);
    mem_free(all->main.buffers);
    stat_group_unref(&all->stats);
    (void)close(all->wake);
    mem_free(all->waiting);
    mem_free(all);
}
