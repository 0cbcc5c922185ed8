/* SPDX-License-Identifier: Apache-2.0
 *
 * The two queues of invalidations and their threads. Handed items by changes.c and publish.c;
 * order.c waits for them.
 *
 * A queue is a hash table, which uthash keeps in the order of arrival: what already waits needs no
 * second item. Invariant 1: an item is in the table exactly while it waits; the one being worked on
 * is not, so that a newer change of the same thing makes a new item.
 * Invariant 2: `done` grows by one for each item taken out and finished, in the order of `given`.
 */
#include "fs/mount/inval.h"

#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/logging.h"
#include "common/table.h"

/* Names that wait; above, the whole cache of names is declared old at once. */
#define NAMES_WAITING_MAX 4096u

/* The key is nodeid and name, without gaps. */
struct item_key {
    uint64_t nodeid;
    char name[NAME_BYTES_MAX + 1];
};

struct item {
    UT_hash_handle hh;
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
    uint64_t given;
    uint64_t done;
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

/* The next item, out of the table; NULL: stop. */
static struct item *queue_take(struct queue *queue)
{
    struct item *item = NULL;
    CHECK(pthread_mutex_lock(&queue->mutex) == 0);
    while (queue->items == NULL && !queue->stop) {
        CHECK(pthread_cond_wait(&queue->arrived, &queue->mutex) == 0);
    }
    if (!queue->stop) {
        item = queue->items;
        HASH_DEL(queue->items, item);
    }
    CHECK(pthread_mutex_unlock(&queue->mutex) == 0);
    return item;
}

static void notify(struct fuse_session *session, const struct item *item)
{
    int result = 0;
    if (item->name_len > 0) {
        result = fuse_lowlevel_notify_inval_entry(session, item->key.nodeid, item->key.name,
                                                  item->name_len);
    } else {
        /* Offset -1: the attributes only; 0 with length 0: all pages too. */
        result = fuse_lowlevel_notify_inval_inode(session, item->key.nodeid,
                                                  item->attr_only ? -1 : 0, 0);
    }
    /* ENOENT: the kernel does not hold it. ENODEV, EBADF: the mount is going. */
    if (result != 0 && result != -ENOENT && result != -ENODEV && result != -EBADF &&
        result != -ENOTCONN) {
        log_warn("inval", "notify_failed", "nodeid=%llu error=%d",
                 (unsigned long long)item->key.nodeid, -result);
    }
}

static void *queue_run(void *arg)
{
    struct queue *queue = arg;
    struct item *item = NULL;
    while ((item = queue_take(queue)) != NULL) {
        notify(queue->inval->session, item);
        free(item);
        CHECK(pthread_mutex_lock(&queue->mutex) == 0);
        queue->done++;
        CHECK(pthread_mutex_unlock(&queue->mutex) == 0);
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
        queue->done++;
    }
}

static void queue_open(struct queue *queue, struct inval *inval)
{
    queue->inval = inval;
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
    memset(&item->hh, 0, sizeof item->hh);
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

static uint64_t queue_done(struct queue *queue)
{
    CHECK(pthread_mutex_lock(&queue->mutex) == 0);
    uint64_t done = queue->done;
    CHECK(pthread_mutex_unlock(&queue->mutex) == 0);
    return done;
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
