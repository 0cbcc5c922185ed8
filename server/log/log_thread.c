/* SPDX-License-Identifier: Apache-2.0
 *
 * The log on a thread of its own, so that the loop never waits for a disk. The loop submits work
 * and polls for what became durable; the thread takes all work that waits as one batch, which is
 * mostly one group and one fdatasync: while one batch is being synced the next one gathers.
 *
 *     loop: submit -> waiting -> (thread: takes a batch, writes, syncs) -> done -> poll: loop
 *
 * Invariants:
 *   1. Work is done and reported in the order of submission.
 *   2. References to entries are taken and given back on the loop only: their counts are not
 *      atomic. The thread reads entries between the two.
 *   3. A batch is reported as a whole, after all of it is durable. In a batch the newest
 *      {term, vote} is written first, then at most one truncation, then the entries: should the
 *      process die in between, no message that any of it allows has been sent.
 *   4. After a failed write nothing is reported; the process ends. A full disk holds the batch up,
 *      and all behind it; only the removal of old segments goes on, as it makes room.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/logging.h"
#include "server/log/log_internal.h"

/* How often a full disk is tried again, and how often free space is looked at without work. */
#define RETRY_MS 200
#define LOOK_MS  1000

struct job {
    struct job *next;
    struct log_save save;
    size_t bytes;
    struct raft_entry *entries[];
};

struct job_queue {
    struct job *first;
    struct job **end; /* where the next one goes */
};

struct log_thread {
    struct log *log;
    void (*wake)(void *arg);
    void *arg;
    pthread_t thread;
    struct raft_entry **batch; /* of the thread: entries of the batch */
    size_t batch_capacity;

    pthread_mutex_t lock; /* of the following */
    pthread_cond_t news;  /* waiting is not empty, compact_index is set, or stop */
    struct job_queue waiting;
    struct job_queue done;
    struct job_queue dropped; /* held up by a full disk when it had to stop */
    bool stop;
    uint64_t compact_index;   /* 0: nothing to do */
    struct log_saved figures; /* of the next poll: all that no job says */
    bool has_figures;         /* some of them are news */
    uint64_t busy_since_us;   /* 0: no batch is under way */
};

static uint64_t now_us(void)
{
    struct timespec now;

    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void queue_init(struct job_queue *queue)
{
    *queue = (struct job_queue){.end = &queue->first};
}

/* Moves all of `from` behind `to`. */
static void queue_move(struct job_queue *to, struct job_queue *from)
{
    if (from->first != NULL) {
        *to->end = from->first;
        to->end = from->end;
        queue_init(from);
    }
}

static void queue_add(struct job_queue *queue, struct job *job)
{
    *queue->end = job;
    queue->end = &job->next;
}

static void queue_free(struct job_queue *queue)
{
    while (queue->first != NULL) {
        struct job *job = queue->first;
        queue->first = job->next;
        for (size_t i = 0; i < job->save.entry_count; i++) {
            raft_entry_unref(job->entries[i]);
        }
        free(job);
    }
    queue_init(queue);
}

/* ---- on the log thread ---- */

/* What a batch comes to. */
struct batch {
    struct job_queue jobs;
    struct log_save save;
};

/* The process ends: what is on the disk is not known, and another attempt could succeed falsely
 * (CONSENSUS 6). */
static _Noreturn void give_up(struct log_thread *thread, const struct log_save *save,
                              const char *doing, enum err err)
{
    char text[LOG_TEXT_BYTES];

    log_failure_text(&thread->log->disk.failure, text);
    log_error("log", "write_failed",
              "folder=\"%s\" doing=\"%s\" err=%s reason=\"%s\" term=%" PRIu64
              " truncate_index=%" PRIu64 " entries=%zu action=exit",
              thread->log->folder, doing, err_name(err), text, save->term, save->truncate_index,
              save->entry_count);
    _exit(1);
}

/* Whether the job can be done with the batch: a truncation comes before entries, and all entries
 * fit one group. A larger job is a batch of its own. */
static bool fits(const struct batch *batch, size_t batch_bytes, const struct job *job)
{
    if (batch->jobs.first == NULL) {
        return true;
    }
    if (job->save.truncate && (batch->save.truncate || batch->save.entry_count > 0)) {
        return false;
    }
    return job->bytes <= LOG_GROUP_BYTES_MAX && batch_bytes <= LOG_GROUP_BYTES_MAX - job->bytes;
}

/* Takes as many jobs as go together. Called with the lock. */
static void take_batch(struct log_thread *thread, struct batch *out)
{
    size_t bytes = LOG_GROUP_HEADER_BYTES;

    *out = (struct batch){.save = {.save_term = false}};
    queue_init(&out->jobs);
    while (thread->waiting.first != NULL && fits(out, bytes, thread->waiting.first)) {
        struct job *job = thread->waiting.first;
        thread->waiting.first = job->next;
        if (job->next == NULL) {
            queue_init(&thread->waiting);
        }
        job->next = NULL;
        queue_add(&out->jobs, job);
        bytes += job->bytes;
        out->save.entry_count += job->save.entry_count;
        if (job->save.save_term) {
            out->save.save_term = true;
            out->save.term = job->save.term;
            out->save.vote = job->save.vote;
        }
        if (job->save.truncate) {
            out->save.truncate = true;
            out->save.truncate_index = job->save.truncate_index;
        }
    }
}

/* Lays the entries of all jobs side by side. */
static enum err gather(struct log_thread *thread, struct batch *batch)
{
    size_t count = 0;

    if (batch->save.entry_count > thread->batch_capacity) {
        size_t capacity = batch->save.entry_count * 2;
        struct raft_entry **more = realloc(thread->batch, capacity * sizeof(struct raft_entry *));
        if (more == NULL) {
            return ERR_MEMORY;
        }
        thread->batch = more;
        thread->batch_capacity = capacity;
    }
    for (const struct job *job = batch->jobs.first; job != NULL; job = job->next) {
        if (job->save.entry_count > 0) {
            memcpy(thread->batch + count, job->entries,
                   job->save.entry_count * sizeof(struct raft_entry *));
            count += job->save.entry_count;
        }
    }
    CHECK_OP(count, ==, batch->save.entry_count);
    batch->save.entries = thread->batch;
    return ERR_OK;
}

/* Waits for work until the time; with the lock. */
static void wait_until(struct log_thread *thread, uint64_t until_us)
{
    struct timespec until = {.tv_sec = (time_t)(until_us / 1000000),
                             .tv_nsec = (long)(until_us % 1000000 * 1000)};
    int code = pthread_cond_timedwait(&thread->news, &thread->lock, &until);

    CHECK(code == 0 || code == ETIMEDOUT);
}

static void tell_low_space(struct log_thread *thread, bool low)
{
    bool is_news = false;

    CHECK(pthread_mutex_lock(&thread->lock) == 0);
    is_news = thread->figures.low_space != low;
    thread->figures.low_space = low;
    thread->has_figures = thread->has_figures || is_news;
    CHECK(pthread_mutex_unlock(&thread->lock) == 0);
    if (is_news) {
        logging_write(low ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "log",
                      low ? "space_is_low" : "space_is_enough", "folder=\"%s\"",
                      thread->log->folder);
        thread->wake(thread->arg);
    }
}

static void look_for_space(struct log_thread *thread)
{
    static const struct log_save nothing;
    bool low = false;
    enum err err = log_check_space(thread->log, &low);

    if (err != ERR_OK) {
        give_up(thread, &nothing, "looking for space", err);
    }
    tell_low_space(thread, low);
}

/* Removes old segments, if that was asked for. */
static void compact(struct log_thread *thread)
{
    static const struct log_save nothing;
    struct log *log = thread->log;
    uint64_t index = 0;
    enum err err = ERR_OK;

    CHECK(pthread_mutex_lock(&thread->lock) == 0);
    index = thread->compact_index;
    thread->compact_index = 0;
    CHECK(pthread_mutex_unlock(&thread->lock) == 0);
    if (index <= log->before.index + 1) {
        return;
    }
    err = log_compact(log, index);
    if (err != ERR_OK && err != ERR_NO_SPACE) {
        give_up(thread, &nothing, "removing old segments", err);
    }
    CHECK(pthread_mutex_lock(&thread->lock) == 0);
    thread->figures.compacted = true;
    thread->figures.first_index = log->before.index + 1;
    thread->figures.before_term = log->before.term;
    thread->has_figures = true;
    CHECK(pthread_mutex_unlock(&thread->lock) == 0);
    thread->wake(thread->arg);
}

/* The disk is full: waits a while. False: the thread is to stop. */
static bool wait_for_space(struct log_thread *thread)
{
    uint64_t until_us = now_us() + RETRY_MS * 1000;
    bool go_on = true;

    tell_low_space(thread, true);
    CHECK(pthread_mutex_lock(&thread->lock) == 0);
    while (!thread->stop && thread->compact_index == 0 && now_us() < until_us) {
        wait_until(thread, until_us);
    }
    go_on = !thread->stop;
    CHECK(pthread_mutex_unlock(&thread->lock) == 0);
    compact(thread);
    return go_on;
}

static enum err append_rest(struct log *log, const struct log_save *save)
{
    uint64_t done = log->last.index + 1 - save->entries[0]->index;

    CHECK_OP(done, <, save->entry_count);
    return log_append(log, save->entries + done, save->entry_count - (size_t)done);
}

/* False: a full disk holds it up, and the thread is to stop. */
static bool write_batch(struct log_thread *thread, struct batch *batch)
{
    const struct log_save *save = &batch->save;
    enum err err = gather(thread, batch);

    if (err != ERR_OK) {
        give_up(thread, save, "gathering entries", err);
    }
    if (save->save_term) {
        do {
            err = log_save_term(thread->log, save->term, save->vote);
        } while (err == ERR_NO_SPACE && wait_for_space(thread));
        if (err != ERR_OK && err != ERR_NO_SPACE) {
            give_up(thread, save, "saving term and vote", err);
        }
    }
    if (err == ERR_OK && save->truncate) {
        do {
            err = log_truncate(thread->log, save->truncate_index);
        } while (err == ERR_NO_SPACE && wait_for_space(thread));
        if (err != ERR_OK && err != ERR_NO_SPACE) {
            give_up(thread, save, "truncating", err);
        }
    }
    if (err == ERR_OK && save->entry_count > 0) {
        do {
            err = append_rest(thread->log, save);
        } while (err == ERR_NO_SPACE && wait_for_space(thread));
        if (err != ERR_OK && err != ERR_NO_SPACE) {
            give_up(thread, save, "appending", err);
        }
    }
    return err == ERR_OK;
}

/* Sleeps until there is something to do, at most LOOK_MS; with the lock. */
static void wait_for_work(struct log_thread *thread)
{
    uint64_t until_us = now_us() + LOOK_MS * 1000;

    while (thread->waiting.first == NULL && !thread->stop && thread->compact_index == 0 &&
           now_us() < until_us) {
        wait_until(thread, until_us);
    }
}

/* Does the work of one batch. False: a full disk holds it up, and the thread is to stop. */
static bool do_batch(struct log_thread *thread, struct batch *batch)
{
    bool is_done = write_batch(thread, batch);
    uint64_t us = 0;

    CHECK(pthread_mutex_lock(&thread->lock) == 0);
    us = now_us() - thread->busy_since_us;
    thread->busy_since_us = 0;
    if (us > thread->figures.sync_us_max) {
        thread->figures.sync_us_max = us;
    }
    queue_move(is_done ? &thread->done : &thread->dropped, &batch->jobs);
    CHECK(pthread_mutex_unlock(&thread->lock) == 0);
    if (is_done) {
        thread->wake(thread->arg);
    }
    return is_done;
}

static void *run(void *arg)
{
    struct log_thread *thread = arg;
    bool go_on = true;

    while (go_on) {
        struct batch batch;
        bool has_batch = false;

        look_for_space(thread);
        CHECK(pthread_mutex_lock(&thread->lock) == 0);
        wait_for_work(thread);
        take_batch(thread, &batch);
        has_batch = batch.jobs.first != NULL;
        thread->busy_since_us = has_batch ? now_us() : 0;
        go_on = has_batch || !thread->stop;
        CHECK(pthread_mutex_unlock(&thread->lock) == 0);
        if (has_batch) {
            go_on = do_batch(thread, &batch);
        }
        compact(thread);
    }
    return NULL;
}

/* ---- on the loop ---- */

static void thread_free(struct log_thread *thread)
{
    queue_free(&thread->waiting);
    queue_free(&thread->done);
    queue_free(&thread->dropped);
    CHECK(pthread_cond_destroy(&thread->news) == 0);
    CHECK(pthread_mutex_destroy(&thread->lock) == 0);
    free(thread->batch);
    free(thread);
}

enum err log_thread_start(struct log *log, void (*wake)(void *arg), void *arg,
                          struct log_thread **out)
{
    struct log_thread *thread = calloc(1, sizeof(*thread));
    pthread_condattr_t attributes;

    if (thread == NULL) {
        return ERR_MEMORY;
    }
    thread->log = log;
    thread->wake = wake;
    thread->arg = arg;
    queue_init(&thread->waiting);
    queue_init(&thread->done);
    queue_init(&thread->dropped);
    CHECK(pthread_mutex_init(&thread->lock, /* attributes */ NULL) == 0);
    CHECK(pthread_condattr_init(&attributes) == 0);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(&thread->news, &attributes) == 0);
    CHECK(pthread_condattr_destroy(&attributes) == 0);
    if (pthread_create(&thread->thread, /* attributes */ NULL, run, thread) != 0) {
        thread_free(thread);
        return ERR_MEMORY;
    }
    *out = thread;
    return ERR_OK;
}

enum err log_thread_submit(struct log_thread *thread, const struct log_save *save)
{
    size_t bytes = sizeof(struct job) + save->entry_count * sizeof(struct raft_entry *);
    struct job *job = malloc(bytes);

    if (job == NULL) {
        return ERR_MEMORY;
    }
    *job = (struct job){.save = *save};
    for (size_t i = 0; i < save->entry_count; i++) {
        job->entries[i] = raft_entry_ref(save->entries[i]);
        job->bytes += LOG_ENTRY_HEADER_BYTES + save->entries[i]->len;
    }
    job->save.entries = job->entries;
    CHECK(pthread_mutex_lock(&thread->lock) == 0);
    CHECK(!thread->stop);
    queue_add(&thread->waiting, job);
    CHECK(pthread_cond_signal(&thread->news) == 0);
    CHECK(pthread_mutex_unlock(&thread->lock) == 0);
    return ERR_OK;
}

void log_thread_compact(struct log_thread *thread, uint64_t index)
{
    CHECK(pthread_mutex_lock(&thread->lock) == 0);
    if (index > thread->compact_index) {
        thread->compact_index = index;
    }
    CHECK(pthread_cond_signal(&thread->news) == 0);
    CHECK(pthread_mutex_unlock(&thread->lock) == 0);
}

bool log_thread_poll(struct log_thread *thread, struct log_saved *out)
{
    struct job_queue done;
    bool is_news = false;

    queue_init(&done);
    CHECK(pthread_mutex_lock(&thread->lock) == 0);
    queue_move(&done, &thread->done);
    *out = thread->figures;
    is_news = thread->has_figures;
    if (thread->busy_since_us != 0 && now_us() - thread->busy_since_us > out->sync_us_max) {
        out->sync_us_max = now_us() - thread->busy_since_us;
    }
    thread->figures = (struct log_saved){.low_space = out->low_space};
    thread->has_figures = false;
    CHECK(pthread_mutex_unlock(&thread->lock) == 0);
    for (const struct job *job = done.first; job != NULL; job = job->next) {
        if (job->save.save_term) {
            out->term_saved = true;
            out->term = job->save.term;
        }
        if (job->save.entry_count > 0) {
            out->log_saved = true;
            out->index = job->entries[job->save.entry_count - 1]->index;
            out->entry_term = job->entries[job->save.entry_count - 1]->term;
        }
    }
    queue_free(&done);
    return is_news || out->term_saved || out->log_saved;
}

void log_thread_stop(struct log_thread *thread)
{
    CHECK(pthread_mutex_lock(&thread->lock) == 0);
    thread->stop = true;
    CHECK(pthread_cond_signal(&thread->news) == 0);
    CHECK(pthread_mutex_unlock(&thread->lock) == 0);
    CHECK(pthread_join(thread->thread, /* result */ NULL) == 0);
    thread_free(thread);
}
