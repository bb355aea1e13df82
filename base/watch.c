/* Watched files over inotify. The directory is watched, not the file, so that a file that is
 * replaced by rename is seen; any other event in the directory makes us compare what the path leads
 * to, so that a symbolic link that is swapped somewhere on the way (as Kubernetes does with ..data)
 * is seen, too. */
#include "base/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/must.h"

enum { WATCH_SETTLE_US = 10000, FILE_CHUNK = 65536, WATCH_EVENTS_BYTES = 4096 };
static const uint32_t WATCH_MASK =
    IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ONLYDIR;

struct watch_set {
    struct loop *loop;
    struct loop_io io;
    struct list watches;
};

struct watch {
    struct watch_set *set;
    struct list link;
    struct loop_timer settle; /* several events of one change become one call */
    void (*fire)(void *arg);
    void *arg;
    char *path;
    struct str name; /* last part of path; empty: the directory itself is watched */
    struct stat seen;
    int wd;
};

/* True when the path leads to something else than before. */
static bool watch_changed(struct watch *w)
{
    struct stat now = {0};
    if (stat(w->path, &now) != 0) now = (struct stat){0};
    bool same = now.st_dev == w->seen.st_dev && now.st_ino == w->seen.st_ino &&
                now.st_size == w->seen.st_size && now.st_mtim.tv_sec == w->seen.st_mtim.tv_sec &&
                now.st_mtim.tv_nsec == w->seen.st_mtim.tv_nsec;
    w->seen = now;
    return !same && now.st_ino;
}

static void watch_settled(struct loop_timer *t)
{
    struct watch *w = CONTAINER_OF(t, struct watch, settle);
    (void)watch_changed(w); /* remembers what is served from now on */
    w->fire(w->arg);
}

static void watch_event(struct watch_set *s, const struct inotify_event *ev)
{
    struct str name = ev->len ? str_of(ev->name) : STR_NONE;
    bool arrived = ev->mask & (IN_CLOSE_WRITE | IN_MOVED_TO);
    LIST_FOREACH (&s->watches, it) {
        struct watch *w = CONTAINER_OF(it, struct watch, link);
        if (w->wd != ev->wd) continue;
        bool named = w->name.len == 0 || str_eq(w->name, name);
        if (!(named && arrived) && !watch_changed(w)) continue;
        if (!loop_timer_running(&w->settle)) {
            loop_timer_start(s->loop, &w->settle, WATCH_SETTLE_US, watch_settled);
        }
    }
}

static void watch_ready(struct loop_io *io, int ready)
{
    struct watch_set *s = CONTAINER_OF(io, struct watch_set, io);
    _Alignas(struct inotify_event) char bytes[WATCH_EVENTS_BYTES];
    (void)ready;
    for (;;) {
        ssize_t got = read(io->fd, bytes, sizeof(bytes));
        if (got <= 0) return;
        for (ssize_t at = 0; at < got;) {
            const struct inotify_event *ev =
                (const struct inotify_event *)(const void *)(bytes + at);
            watch_event(s, ev);
            at += (ssize_t)(sizeof(*ev) + ev->len);
        }
    }
}

struct watch_set *watch_set_new(struct loop *l)
{
    struct watch_set *s = mem_alloc(sizeof(*s));
    s->loop = l;
    list_init(&s->watches);
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    /* Without inotify (a limit of the system) watch_path fails with the reason; nothing else needs
     * it. */
    loop_io_init(&s->io, l, fd >= 0 ? fd : -errno, watch_ready);
    if (fd >= 0) loop_io_want(&s->io, LOOP_READ);
    return s;
}

void watch_set_free(struct watch_set **sp)
{
    struct watch_set *s = *sp;
    *sp = NULL;
    if (!s) return;
    while (!list_empty(&s->watches)) {
        struct watch *w = CONTAINER_OF(s->watches.next, struct watch, link);
        watch_free(&w);
    }
    loop_io_want(&s->io, 0);
    if (s->io.fd >= 0) (void)close(s->io.fd); /* nothing to do about a failure */
    mem_free(s);
}

/* The path's directory as inotify wants it; a path that is a directory is watched itself. */
static int watch_directory(struct watch *w)
{
    struct stat st;
    struct str path = str_of(w->path);
    size_t cut = str_rfind_char(path, '/');
    if (stat(w->path, &st) == 0 && S_ISDIR(st.st_mode)) {
        w->name = STR_NONE;
        return inotify_add_watch(w->set->io.fd, w->path, WATCH_MASK);
    }
    if (cut == SIZE_MAX) {
        w->name = path;
        return inotify_add_watch(w->set->io.fd, ".", WATCH_MASK);
    }
    w->name = str_sub(path, cut + 1, SIZE_MAX);
    if (cut == 0) return inotify_add_watch(w->set->io.fd, "/", WATCH_MASK);
    w->path[cut] = '\0';
    int wd = inotify_add_watch(w->set->io.fd, w->path, WATCH_MASK);
    int error = errno;
    w->path[cut] = '/';
    errno = error;
    return wd;
}

struct watch *watch_path(struct watch_set *s, struct str path, void (*fire)(void *arg), void *arg,
                         int *err)
{
    *err = s->io.fd < 0 ? s->io.fd : 0;
    if (*err == 0 && (path.len == 0 || str_find_char(path, '\0') != SIZE_MAX)) *err = -EINVAL;
    if (*err) return NULL;
    struct watch *w = mem_alloc(sizeof(*w));
    *w = (struct watch){.set = s, .fire = fire, .arg = arg};
    w->path = mem_alloc(path.len + 1);
    memcpy(w->path, path.ptr, path.len);
    w->wd = watch_directory(w);
    if (w->wd < 0) {
        *err = -errno;
        mem_free(w->path);
        mem_free(w);
        return NULL;
    }
    (void)watch_changed(w);
    list_push_back(&s->watches, &w->link);
    return w;
}

void watch_free(struct watch **wp)
{
    struct watch *w = *wp;
    *wp = NULL;
    if (!w) return;
    bool shared = false;
    loop_timer_stop(&w->settle);
    list_remove(&w->link);
    LIST_FOREACH (&w->set->watches, it) {
        if (CONTAINER_OF(it, struct watch, link)->wd == w->wd) shared = true;
    }
    /* Fails when the directory is gone and the kernel has dropped the watch already: as wanted. */
    if (!shared) (void)inotify_rm_watch(w->set->io.fd, w->wd);
    mem_free(w->path);
    mem_free(w);
}

int file_read(struct arena *a, const char *path, size_t most, struct str *out)
{
    struct sb b = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    char *chunk = mem_alloc(FILE_CHUNK);
    int result = 0;
    for (;;) {
        ssize_t got = read(fd, chunk, FILE_CHUNK);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) result = -errno;
        if (got <= 0) break;
        sb_add(&b, (struct str){chunk, (size_t)got});
        if (b.len > most) result = -EFBIG;
        if (result) break;
    }
    if (result == 0) *out = str_dup(a, sb_str(&b));
    (void)close(fd); /* only read from */
    mem_free(chunk);
    sb_release(&b);
    return result;
}
