/* SPDX-License-Identifier: Apache-2.0
 *
 * The two queues of invalidations and their threads. Handed items by changes.c and publish.c;
 * order.c waits for them.
 *
 * A queue is a hash table, which uthash keeps in the order of arrival: what already waits needs no
 * second item. Invariant 1: an item is in the table exactly while it waits for its first attempt;
 * the one being worked on is not, so that a newer change of the same thing makes a new item.
 * Invariant 2: items are numbered in the order in which they were given; numbers in the table
 * ascend.
 *
 * The kernel knows an inode only when the program that asked for it has woken up and taken our
 * answer. Until then it answers an invalidation with ENOENT and afterwards believes in attributes
 * that are old: so what is not found is tried again for a while. Answers wait only for the first of
 * these attempts: there may be no such program any more.
 */
#include "fs/mount/inval.h"

#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <utlist.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/logging.h"
#include "common/table.h"

/* Names that wait; above, the whole cache of names is declared old at once. */
#define NAMES_WAITING_MAX 4096u

/* Attempts for an inode that the kernel does not know: the n-th comes 2^n ms behind the one before.
 * All of them last 4 s, those that answers wait for 127 ms. */
#define TRIES_MAX  12u
#define TRIES_HELD 7u

#define NO_NUMBER UINT64_MAX

/* The key is nodeid and name, without gaps. */
struct item_key {
    uint64_t nodeid;
    char name[NAME_BYTES_MAX + 1];
};

struct item {
    UT_hash_handle hh;
    struct item *prev; /* in queue->again */
    struct item *next;
    uint64_t number; /* NO_NUMBER: nobody waits for it any more */
    unsigned tries;
    uint64_t due_ms; /* of the next attempt */
    bool attr_only;
    size_t name_len; /* 0: an inode */
    struct item_key key;
};

struct queue {
    struct inval *inval;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t arrived;
    struct item *items; /* guarded by mutex, as all below */
    struct item *again; /* not found by the kernel */
    uint64_t given;
    uint64_t working; /* number of the item that is worked on; NO_NUMBER: none */
    bool stop;
};

struct inval {
    struct fuse_session *session;
    struct queue inodes;
    struct queue names;
    uv_async_t async;
    void (*progress)(void *arg);
    void *arg;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* The item in `again` that is due first, or NULL. */
static struct item *again_first(const struct queue *queue)
{
    struct item *first = queue->again;
    struct item *item = NULL;
    DL_FOREACH(queue->again, item)
    {
        if (item->due_ms < first->due_ms) {
            first = item;
        }
    }
    return first;
}

/* Until something arrives or is due. */
static void queue_wait(struct queue *queue)
{
    const struct item *first = again_first(queue);
    if (first == NULL) {
        CHECK(pthread_cond_wait(&queue->arrived, &queue->mutex) == 0);
        return;
    }
    const struct timespec until = {.tv_sec = (time_t)(first->due_ms / 1000),
                                   .tv_nsec = (long)(first->due_ms % 1000) * 1000000};
    int result = pthread_cond_clockwait(&queue->arrived, &queue->mutex, CLOCK_MONOTONIC, &until);
    CHECK(result == 0 || result == ETIMEDOUT);
}

/* An item that may be worked on now, out of its list; NULL: none. */
static struct item *queue_next(struct queue *queue)
{
    struct item *item = again_first(queue);
    if (item != NULL && item->due_ms <= clock_monotonic_ms()) {
        DL_DELETE(queue->again, item);
        return item;
    }
    item = queue->items;
    if (item != NULL) {
        HASH_DEL(queue->items, item);
    }
    return item;
}

/* Waits for the next item; NULL: stop. */
static struct item *queue_take(struct queue *queue)
{
    struct item *item = NULL;
    CHECK(pthread_mutex_lock(&queue->mutex) == 0);
    while (!queue->stop && (item = queue_next(queue)) == NULL) {
        queue_wait(queue);
    }
    queue->working = item != NULL ? item->number : NO_NUMBER;
    CHECK(pthread_mutex_unlock(&queue->mutex) == 0);
    return item;
}

/* Behind the work on an item: frees it, or keeps it for another attempt. */
static void queue_finish(struct queue *queue, struct item *item, bool found)
{
    CHECK(pthread_mutex_lock(&queue->mutex) == 0);
    queue->working = NO_NUMBER;
    if (found || item->tries == TRIES_MAX) {
        free(item);
    } else {
        item->due_ms = clock_monotonic_ms() + (1u << item->tries);
        item->tries++;
        item->number = item->tries > TRIES_HELD ? NO_NUMBER : item->number;
        DL_APPEND(queue->again, item);
    }
    CHECK(pthread_mutex_unlock(&queue->mutex) == 0);
}

/* False: the kernel does not know this inode, or not yet. */
static bool notify(struct fuse_session *session, const struct item *item)
{
    int result = 0;
    if (item->name_len > 0) {
        result = fuse_lowlevel_notify_inval_entry(session, item->key.nodeid, item->key.name,
                                                  item->name_len);
    } else {
        /* Offset -1: the attributes only; 0 with length 0: all pages too. */
        result = fuse_lowlevel_notify_inval_inode(session, item->key.nodeid,
                                                  item->attr_only ? -1 : 0, 0);
        if (result == -ENOENT) {
            return false;
        }
    }
    /* ENOENT: who looks the name up holds the directory, and has been waited for. ENODEV, EBADF:
     * the mount is going. */
    if (result != 0 && result != -ENOENT && result != -ENODEV && result != -EBADF &&
        result != -ENOTCONN) {
        log_warn("inval", "notify_failed", "nodeid=%llu error=%d",
                 (unsigned long long)item->key.nodeid, -result);
    }
    return true;
}

static void *queue_run(void *arg)
{
    struct queue *queue = arg;
    struct item *item = NULL;
    while ((item = queue_take(queue)) != NULL) {
        queue_finish(queue, item, notify(queue->inval->session, item));
        CHECK(uv_async_send(&queue->inval->async) == 0);
    }
    return NULL;
}

static void queue_clear(struct queue *queue)
{
    struct item *item = NULL;
    struct item *next = NULL;
    HASH_ITER(hh, queue->items, item, next)
    {
        HASH_DEL(queue->items, item);
        free(item);
    }
    DL_FOREACH_SAFE(queue->again, item, next)
    {
        DL_DELETE(queue->again, item);
        free(item);
    }
}

static void queue_open(struct queue *queue, struct inval *inval)
{
    queue->inval = inval;
    queue->working = NO_NUMBER;
    CHECK(pthread_mutex_init(&queue->mutex, NULL) == 0);
    CHECK(pthread_cond_init(&queue->arrived, NULL) == 0);
    CHECK(pthread_create(&queue->thread, NULL, queue_run, queue) == 0);
}

static void queue_close(struct queue *queue)
{
    CHECK(pthread_mutex_lock(&queue->mutex) == 0);
    queue->stop = true;
    CHECK(pthread_cond_signal(&queue->arrived) == 0);
    CHECK(pthread_mutex_unlock(&queue->mutex) == 0);
    CHECK(pthread_join(queue->thread, NULL) == 0);
    queue_clear(queue);
    CHECK(pthread_cond_destroy(&queue->arrived) == 0);
    CHECK(pthread_mutex_destroy(&queue->mutex) == 0);
}

/* Adds an item or joins it to one that waits. */
static enum err queue_put(struct queue *queue, const struct item *like, size_t count_max)
{
    enum err err = ERR_OK;
    unsigned key_len = (unsigned)(sizeof like->key.nodeid + like->name_len);
    struct item *item = NULL;
    CHECK(pthread_mutex_lock(&queue->mutex) == 0);
    HASH_FIND(hh, queue->items, &like->key, key_len, item);
    if (item != NULL) {
        item->attr_only = item->attr_only && like->attr_only;
        goto out;
    }
    if (count_max != 0 && HASH_COUNT(queue->items) >= count_max) {
        err = ERR_LIMIT;
        goto out;
    }
    item = malloc(sizeof *item);
    if (item == NULL) {
        err = ERR_MEMORY;
        goto out;
    }
    *item = *like;
    item->number = queue->given + 1;
    HASH_ADD_KEYPTR(hh, queue->items, &item->key, key_len, item);
    if (item->hh.tbl == NULL) {
        free(item);
        err = ERR_MEMORY;
        goto out;
    }
    queue->given++;
    CHECK(pthread_cond_signal(&queue->arrived) == 0);
out:
    CHECK(pthread_mutex_unlock(&queue->mutex) == 0);
    return err;
}

/* All items up to this number have taken effect. */
static uint64_t queue_done(struct queue *queue)
{
    const struct item *item = NULL;
    CHECK(pthread_mutex_lock(&queue->mutex) == 0);
    uint64_t first = queue->given + 1;
    if (queue->items != NULL) {
        first = queue->items->number;
    }
    if (queue->working < first) {
        first = queue->working;
    }
    DL_FOREACH(queue->again, item)
    {
        first = item->number < first ? item->number : first;
    }
    CHECK(pthread_mutex_unlock(&queue->mutex) == 0);
    return first - 1;
}

static void on_async(uv_async_t *async)
{
    struct inval *inval = async->data;
    inval->progress(inval->arg);
}

enum err inval_new(uv_loop_t *loop, struct fuse_session *session, void (*progress)(void *arg),
                   void *arg, struct inval **out)
{
    struct inval *inval = calloc(1, sizeof *inval);
    if (inval == NULL) {
        return ERR_MEMORY;
    }
    inval->session = session;
    inval->progress = progress;
    inval->arg = arg;
    inval->async.data = inval;
    CHECK(uv_async_init(loop, &inval->async, on_async) == 0);
    queue_open(&inval->inodes, inval);
    queue_open(&inval->names, inval);
    *out = inval;
    return ERR_OK;
}

static void on_closed(uv_handle_t *handle)
{
    struct inval *inval = handle->data;
    void (*closed)(void *arg) = inval->closed;
    void *arg = inval->closed_arg;
    free(inval);
    closed(arg);
}

void inval_close(struct inval *inval, void (*closed)(void *arg), void *arg)
{
    queue_close(&inval->inodes);
    queue_close(&inval->names);
    inval->closed = closed;
    inval->closed_arg = arg;
    uv_close((uv_handle_t *)&inval->async, on_closed);
}

enum err inval_inode(struct inval *inval, uint64_t nodeid, bool attr_only)
{
    const struct item like = {.attr_only = attr_only, .key = {.nodeid = nodeid}};
    return queue_put(&inval->inodes, &like, 0 /* bounded by the nodes that the kernel holds */);
}

enum err inval_name(struct inval *inval, uint64_t parent_nodeid, const void *name, size_t len)
{
    struct item like = {.name_len = len, .key = {.nodeid = parent_nodeid}};
    CHECK(len > 0 && len <= NAME_BYTES_MAX);
    memcpy(like.key.name, name, len);
    return queue_put(&inval->names, &like, NAMES_WAITING_MAX);
}

void inval_inode_forget(struct inval *inval, uint64_t nodeid)
{
    struct queue *queue = &inval->inodes;
    struct item *item = NULL;
    struct item *next = NULL;
    CHECK(pthread_mutex_lock(&queue->mutex) == 0);
    DL_FOREACH_SAFE(queue->again, item, next)
    {
        if (item->key.nodeid == nodeid) {
            DL_DELETE(queue->again, item);
            free(item);
        }
    }
    CHECK(pthread_mutex_unlock(&queue->mutex) == 0);
}

uint64_t inval_inodes_given(const struct inval *inval)
{
    return inval->inodes.given; /* only this thread changes it */
}

uint64_t inval_inodes_done(struct inval *inval)
{
    return queue_done(&inval->inodes);
}

uint64_t inval_names_given(const struct inval *inval)
{
    return inval->names.given;
}

bool inval_names_wait(struct inval *inval)
{
    return queue_done(&inval->names) < inval->names.given;
}

void inval_names_drop(struct inval *inval)
{
    CHECK(pthread_mutex_lock(&inval->names.mutex) == 0);
    queue_clear(&inval->names);
    CHECK(pthread_mutex_unlock(&inval->names.mutex) == 0);
}
