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
 *   4. After a failed write nothing is reported; the process ends.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/logging.h"
#include "server/log/log_internal.h"

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
    pthread_cond_t news;  /* waiting is not empty, or stop */
    struct job_queue waiting;
    struct job_queue done;
    bool stop;
};

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
static _Noreturn void give_up(struct log_thread *thread, const struct batch *batch,
                              const char *doing, enum err err)
{
    const struct log_save *save = &batch->save;
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

static void write_batch(struct log_thread *thread, struct batch *batch)
{
    const struct log_save *save = &batch->save;
    enum err err = gather(thread, batch);

    if (err != ERR_OK) {
        give_up(thread, batch, "gathering entries", err);
    }
    if (save->save_term) {
        err = log_save_term(thread->log, save->term, save->vote);
        if (err != ERR_OK) {
            give_up(thread, batch, "saving term and vote", err);
        }
    }
    if (save->truncate) {
        err = log_truncate(thread->log, save->truncate_index);
        if (err != ERR_OK) {
            give_up(thread, batch, "truncating", err);
        }
    }
    if (save->entry_count > 0) {
        err = log_append(thread->log, save->entries, save->entry_count);
        if (err != ERR_OK) {
            give_up(thread, batch, "appending", err);
        }
    }
}

static void *run(void *arg)
{
    struct log_thread *thread = arg;

    CHECK(pthread_mutex_lock(&thread->lock) == 0);
    for (;;) {
        struct batch batch;
        while (thread->waiting.first == NULL && !thread->stop) {
            CHECK(pthread_cond_wait(&thread->news, &thread->lock) == 0);
        }
        if (thread->waiting.first == NULL) {
            break;
        }
        take_batch(thread, &batch);
        CHECK(pthread_mutex_unlock(&thread->lock) == 0);
        write_batch(thread, &batch);
        CHECK(pthread_mutex_lock(&thread->lock) == 0);
        queue_move(&thread->done, &batch.jobs);
        CHECK(pthread_mutex_unlock(&thread->lock) == 0);
        thread->wake(thread->arg);
        CHECK(pthread_mutex_lock(&thread->lock) == 0);
    }
    CHECK(pthread_mutex_unlock(&thread->lock) == 0);
    return NULL;
}

/* ---- on the loop ---- */

static void thread_free(struct log_thread *thread)
{
    queue_free(&thread->waiting);
    queue_free(&thread->done);
    CHECK(pthread_cond_destroy(&thread->news) == 0);
    CHECK(pthread_mutex_destroy(&thread->lock) == 0);
    free(thread->batch);
    free(thread);
}

enum err log_thread_start(struct log *log, void (*wake)(void *arg), void *arg,
                          struct log_thread **out)
{
    struct log_thread *thread = calloc(1, sizeof(*thread));

    if (thread == NULL) {
        return ERR_MEMORY;
    }
    thread->log = log;
    thread->wake = wake;
    thread->arg = arg;
    queue_init(&thread->waiting);
    queue_init(&thread->done);
    CHECK(pthread_mutex_init(&thread->lock, /* attributes */ NULL) == 0);
    CHECK(pthread_cond_init(&thread->news, /* attributes */ NULL) == 0);
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

bool log_thread_poll(struct log_thread *thread, struct log_saved *out)
{
    struct job_queue done;

    queue_init(&done);
    CHECK(pthread_mutex_lock(&thread->lock) == 0);
    queue_move(&done, &thread->done);
    CHECK(pthread_mutex_unlock(&thread->lock) == 0);
    *out = (struct log_saved){0};
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
    return out->term_saved || out->log_saved;
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
