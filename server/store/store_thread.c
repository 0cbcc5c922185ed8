/* SPDX-License-Identifier: Apache-2.0
 *
 * The store thread. store.c gives it a frozen overlay; it hands that on to RocksDB and wakes the
 * loop, whose store_poll takes the overlay back.
 *
 *            give (loop)          written (thread)
 *     IDLE -------------> GIVEN -------------------> DONE
 *       ^                                             |
 *       +---------------------------------------------+
 *                      take_back (loop)
 *
 * IDLE: the thread looks at no map. GIVEN: it reads the map, which nobody may change. DONE: what
 * the map holds is in RocksDB, unless it was given up at the close.
 *
 * A full disk is waited for as long as it takes, with the same job: later results must not come to
 * RocksDB before these, and the log holds them all (CONSENSUS 31).
 *
 * Invariants:
 *   1. All below `lock` is read and written under it; `busy` belongs to the loop.
 *   2. At most one job is on its way, and at most one map waits to be freed.
 *   3. `wake` is called without the lock, after the job is DONE, and never after a close began.
 */
#include "server/store/store_thread.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/logging.h"

/* Without this a replica that refuses writes for lack of space would never see space again. */
#define DISK_SPACE_RENEW_S 1

/* A full disk is tried again after so long. RocksDB itself looks for space every 5 s. */
#define RETRY_MS 500
/* If there is space, but writes find none for this long, only a start helps. */
#define RETRIES_WITH_SPACE_MAX 120
#define ENOUGH_SPACE_BYTES     (256u * MIB) /* a flush of all that RocksDB has in memory, and more */

enum job_state {
    JOB_IDLE,
    JOB_GIVEN,
    JOB_DONE,
};

struct store_thread {
    struct database *database; /* not owned */
    void (*wake)(void *arg);
    void *wake_arg;
    int folder_fd; /* for the figures of its file system */
    _Atomic uint64_t disk_total;
    _Atomic uint64_t disk_free;
    bool busy;
    pthread_t thread;
    bool is_full;                /* of the thread: the last attempt found no space */
    unsigned retries_with_space; /* of the thread: in a row, though there seems to be space */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* any change below; at most one waits on each side */
    enum job_state state;
    struct store_job job;
    struct store_result result;
    struct omap *waste; /* owned; to be freed */
    bool closing;       /* no wakes, no waiting for space */
    bool ending;        /* the thread is to end */
};

static void lock(struct store_thread *thread)
{
    int code = pthread_mutex_lock(&thread->lock);
    CHECK_OP(code, ==, 0);
}

static void unlock(struct store_thread *thread)
{
    int code = pthread_mutex_unlock(&thread->lock);
    CHECK_OP(code, ==, 0);
}

/* The monotonic time in so many milliseconds. */
static struct timespec time_after(long ms)
{
    struct timespec time;

    CHECK_OP(clock_gettime(CLOCK_MONOTONIC, &time), ==, 0);
    time.tv_sec += (time.tv_nsec / 1000000 + ms) / 1000;
    time.tv_nsec = (time.tv_nsec / 1000000 + ms) % 1000 * 1000000 + time.tv_nsec % 1000000;
    return time;
}

static void renew_disk_space(struct store_thread *thread)
{
    struct statfs figures;

    if (fstatfs(thread->folder_fd, &figures) != 0) {
        return; /* the old figures are better than none */
    }
    atomic_store(&thread->disk_total, (uint64_t)figures.f_blocks * (uint64_t)figures.f_bsize);
    atomic_store(&thread->disk_free, (uint64_t)figures.f_bavail * (uint64_t)figures.f_bsize);
}

/* Under the lock: sleeps until something is to be done, or the figures of the disk are old. */
static void wait_for_work(struct store_thread *thread)
{
    struct timespec until = time_after(DISK_SPACE_RENEW_S * 1000);

    if (thread->state == JOB_GIVEN || thread->waste != NULL || thread->ending) {
        return;
    }
    int code = pthread_cond_timedwait(&thread->changed, &thread->lock, &until);
    CHECK(code == 0 || code == ETIMEDOUT);
}

/* Whether the step that ended with *err is to be tried again: after a wait, unless a close began. */
static bool try_again(struct store_thread *thread, enum err err)
{
    struct timespec until = time_after(RETRY_MS);
    int code = 0;

    if (err != ERR_NO_SPACE) {
        if (thread->is_full) {
            log_info("store", "disk_has_space", "action=\"goes on writing\"");
        }
        thread->is_full = false;
        thread->retries_with_space = 0;
        return false;
    }
    if (!thread->is_full) {
        log_warn("store", "disk_full", "action=retry retry_ms=%d", RETRY_MS);
    }
    thread->is_full = true;
    renew_disk_space(thread);
    thread->retries_with_space =
        atomic_load(&thread->disk_free) < ENOUGH_SPACE_BYTES ? 0 : thread->retries_with_space + 1;
    if (thread->retries_with_space > RETRIES_WITH_SPACE_MAX) {
        store_die("write_failed", "RocksDB finds no space, but there is");
    }
    lock(thread);
    while (!thread->closing && code == 0) {
        code = pthread_cond_timedwait(&thread->changed, &thread->lock, &until);
    }
    CHECK(code == 0 || code == ETIMEDOUT);
    bool go_on = !thread->closing;
    unlock(thread);
    return go_on;
}

/* Does the job. Called without the lock; the map stays as it is while the state is GIVEN. */
static struct store_result do_job(struct store_thread *thread, const struct store_job *job)
{
    /* A flush is not waited for: overlays go on into the next memtable meanwhile. */
    bool wait = job->checkpoint != NULL;
    struct store_result result = {.is_written = true};
    enum err err = ERR_OK;

    if (job->map != NULL && omap_count(job->map) > 0) {
        do {
            err = database_write(thread->database, job->map);
        } while (try_again(thread, err));
        result.is_written = err == ERR_OK;
    }
    if (err == ERR_OK && (job->flush || wait)) {
        do {
            err = database_flush(thread->database, wait);
        } while (try_again(thread, err));
    }
    if (err == ERR_OK && job->checkpoint != NULL) {
        err = database_checkpoint(thread->database, job->checkpoint);
    }
    result.checkpoint_err = err;
    return result;
}

/* Tells that the job is done. */
static void end_job(struct store_thread *thread, const struct store_result *result)
{
    lock(thread);
    CHECK_OP(thread->state, ==, JOB_GIVEN);
    thread->state = JOB_DONE;
    thread->result = *result;
    (void)pthread_cond_broadcast(&thread->changed);
    bool wake = thread->wake != NULL && !thread->closing;
    unlock(thread);
    if (wake) {
        thread->wake(thread->wake_arg);
    }
}

/* One turn. False: the thread ends. */
static bool run_once(struct store_thread *thread)
{
    lock(thread);
    wait_for_work(thread);
    bool has_job = thread->state == JOB_GIVEN;
    bool go_on = has_job || !thread->ending;
    struct store_job job = thread->job;
    struct omap *waste = thread->waste;
    thread->waste = NULL;
    unlock(thread);

    struct store_result result = {.is_written = false};
    if (has_job) {
        result = do_job(thread, &job);
    }
    renew_disk_space(thread);
    if (has_job) {
        end_job(thread, &result);
    }
    omap_free(waste);
    return go_on;
}

static void *run(void *arg)
{
    struct store_thread *thread = arg;

    (void)pthread_setname_np(pthread_self(), "store");
    while (run_once(thread)) {
    }
    return NULL;
}

/* A mutex and a condition that waits by the monotonic clock. */
static enum err init_locks(struct store_thread *thread)
{
    pthread_condattr_t attributes;

    if (pthread_condattr_init(&attributes) != 0) {
        return ERR_MEMORY;
    }
    CHECK_OP(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC), ==, 0);
    int code = pthread_cond_init(&thread->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    if (code != 0) {
        return ERR_MEMORY;
    }
    if (pthread_mutex_init(&thread->lock, NULL) != 0) {
        (void)pthread_cond_destroy(&thread->changed);
        return ERR_MEMORY;
    }
    return ERR_OK;
}

enum err store_thread_open(const struct store_options *options, struct database *database,
                           struct store_thread **out)
{
    struct store_thread *thread = calloc(1, sizeof(*thread));
    bool has_locks = false;
    enum err err = thread != NULL ? ERR_OK : ERR_MEMORY;

    *out = NULL;
    if (err != ERR_OK) {
        goto out;
    }
    thread->database = database;
    thread->wake = options->wake;
    thread->wake_arg = options->wake_arg;
    thread->folder_fd = open(options->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (thread->folder_fd < 0) {
        err = ERR_IO;
        goto out;
    }
    renew_disk_space(thread);
    err = init_locks(thread);
    has_locks = err == ERR_OK;
    if (err == ERR_OK && pthread_create(&thread->thread, NULL, run, thread) != 0) {
        err = ERR_MEMORY;
    }
out:
    if (err == ERR_OK) {
        *out = thread;
    } else if (thread != NULL) {
        if (has_locks) {
            (void)pthread_cond_destroy(&thread->changed);
            (void)pthread_mutex_destroy(&thread->lock);
        }
        if (thread->folder_fd >= 0) {
            (void)close(thread->folder_fd);
        }
        free(thread);
    }
    return err;
}

void store_thread_begin_close(struct store_thread *thread)
{
    lock(thread);
    thread->closing = true;
    (void)pthread_cond_broadcast(&thread->changed);
    unlock(thread);
}

void store_thread_close(struct store_thread *thread)
{
    if (thread == NULL) {
        return;
    }
    lock(thread);
    thread->closing = true;
    thread->ending = true;
    (void)pthread_cond_broadcast(&thread->changed);
    unlock(thread);
    CHECK_OP(pthread_join(thread->thread, NULL), ==, 0);
    (void)pthread_cond_destroy(&thread->changed);
    (void)pthread_mutex_destroy(&thread->lock);
    (void)close(thread->folder_fd);
    omap_free(thread->waste);
    free(thread);
}

void store_thread_give(struct store_thread *thread, const struct store_job *job)
{
    CHECK(!thread->busy);
    thread->busy = true;
    lock(thread);
    CHECK_OP(thread->state, ==, JOB_IDLE);
    thread->state = JOB_GIVEN;
    thread->job = *job;
    (void)pthread_cond_broadcast(&thread->changed);
    unlock(thread);
}

bool store_thread_is_busy(const struct store_thread *thread)
{
    return thread->busy;
}

bool store_thread_take_back(struct store_thread *thread, struct store_result *out)
{
    bool done = false;

    if (!thread->busy) {
        return false;
    }
    lock(thread);
    done = thread->state == JOB_DONE;
    if (done) {
        thread->state = JOB_IDLE;
        thread->job = (struct store_job){.map = NULL};
        *out = thread->result;
        thread->busy = false;
    }
    unlock(thread);
    return done;
}

void store_thread_wait(struct store_thread *thread)
{
    lock(thread);
    while (thread->state == JOB_GIVEN) {
        CHECK_OP(pthread_cond_wait(&thread->changed, &thread->lock), ==, 0);
    }
    unlock(thread);
}

void store_thread_dispose(struct store_thread *thread, struct omap *map)
{
    struct omap *left_over = NULL;

    if (map == NULL) {
        return;
    }
    lock(thread);
    /* Only while the thread has not yet come to the last one. */
    left_over = thread->waste;
    thread->waste = map;
    (void)pthread_cond_broadcast(&thread->changed);
    unlock(thread);
    omap_free(left_over);
}

void store_thread_disk_space(const struct store_thread *thread, uint64_t *out_total,
                             uint64_t *out_free)
{
    *out_total = atomic_load(&thread->disk_total);
    *out_free = atomic_load(&thread->disk_free);
}
