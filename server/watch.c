/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of promises. Handed answers by request.c (grants) and changes by replica.c; hands on
 * nothing: it only tells who is interested.
 *
 * Invariants:
 *   1. A promise stands in exactly two lists: its node's and its watcher's.
 *   2. A node is in the table exactly while its list is not empty.
 *   3. A watcher's list is ordered by grant number, oldest first.
 */
#include "server/watch.h"

#include <stdlib.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/plant.h"
#include "common/table.h"

struct watched {
    uint64_t ino;
    struct promise *first;
    UT_hash_handle hh;
};

struct promise {
    struct watched *node;
    struct watcher *watcher;
    uint64_t grant;
    struct promise *node_previous;
    struct promise *node_next;
    struct promise *older;
    struct promise *newer;
};

struct watches {
    struct watched *nodes;
    size_t count;
    uint64_t stamp;
};

struct watches *watches_new(void)
{
    return calloc(1, sizeof(struct watches));
}

void watches_free(struct watches *watches)
{
    if (watches == NULL) {
        return;
    }
    CHECK(watches->count == 0);
    free(watches);
}

static struct watched *watched_find(struct watches *watches, uint64_t ino)
{
    struct watched *node = NULL;
    HASH_FIND(hh, watches->nodes, &ino, sizeof ino, node);
    return node;
}

static struct watched *watched_add(struct watches *watches, uint64_t ino)
{
    struct watched *node = calloc(1, sizeof *node);
    if (node == NULL) {
        return NULL;
    }
    node->ino = ino;
    HASH_ADD(hh, watches->nodes, ino, sizeof node->ino, node);
    if (node->hh.tbl == NULL) {
        free(node);
        return NULL;
    }
    return node;
}

static struct promise *promise_find(const struct watched *node, const struct watcher *watcher)
{
    struct promise *promise = node->first;
    while (promise != NULL && promise->watcher != watcher) {
        promise = promise->node_next;
    }
    return promise;
}

static void age_unlink(struct promise *promise)
{
    struct watcher *watcher = promise->watcher;
    if (promise->older != NULL) {
        promise->older->newer = promise->newer;
    } else {
        watcher->oldest = promise->newer;
    }
    if (promise->newer != NULL) {
        promise->newer->older = promise->older;
    } else {
        watcher->newest = promise->older;
    }
}

static void age_append(struct promise *promise)
{
    struct watcher *watcher = promise->watcher;
    promise->older = watcher->newest;
    promise->newer = NULL;
    if (watcher->newest != NULL) {
        watcher->newest->newer = promise;
    } else {
        watcher->oldest = promise;
    }
    watcher->newest = promise;
}

static void promise_free(struct watches *watches, struct promise *promise)
{
    struct watched *node = promise->node;
    age_unlink(promise);
    if (promise->node_previous != NULL) {
        promise->node_previous->node_next = promise->node_next;
    } else {
        node->first = promise->node_next;
    }
    if (promise->node_next != NULL) {
        promise->node_next->node_previous = promise->node_previous;
    }
    if (node->first == NULL) {
        HASH_DEL(watches->nodes, node); // NOLINT(clang-analyzer-core.NullDereference): uthash
        free(node);
    }
    CHECK(promise->watcher->count > 0);
    promise->watcher->count--;
    watches->count--;
    free(promise);
}

static struct promise *promise_new(struct watches *watches, struct watched *node,
                                   struct watcher *watcher)
{
    struct promise *promise = calloc(1, sizeof *promise);
    if (promise == NULL) {
        return NULL;
    }
    promise->node = node;
    promise->watcher = watcher;
    promise->node_next = node->first;
    if (node->first != NULL) {
        node->first->node_previous = promise;
    }
    node->first = promise;
    age_append(promise);
    watcher->count++;
    watches->count++;
    return promise;
}

enum err watch_grant(struct watches *watches, struct watcher *watcher, uint64_t ino, uint64_t grant,
                     uint64_t *out_revoked)
{
    *out_revoked = UINT64_MAX;
    CHECK(watcher->newest == NULL || grant >= watcher->newest->grant);
    struct watched *node = watched_find(watches, ino);
    struct promise *promise = node != NULL ? promise_find(node, watcher) : NULL;
    if (promise != NULL) {
        promise->grant = grant;
        age_unlink(promise);
        age_append(promise);
        return ERR_OK;
    }
    if (watcher->count >= PROMISES_PER_SESSION_MAX) {
        *out_revoked = watcher->oldest->node->ino;
        promise_free(watches, watcher->oldest);
        node = watched_find(watches, ino);
    }
    if (node == NULL) {
        node = watched_add(watches, ino);
        if (node == NULL) {
            return ERR_MEMORY;
        }
    }
    promise = promise_new(watches, node, watcher);
    if (promise == NULL) {
        if (node->first == NULL) {
            HASH_DEL(watches->nodes, node);
            free(node);
        }
        return ERR_MEMORY;
    }
    promise->grant = grant;
    return ERR_OK;
}

void watch_forget(struct watches *watches, struct watcher *watcher, uint64_t ino, uint64_t grant)
{
    struct watched *node = watched_find(watches, ino);
    struct promise *promise = node != NULL ? promise_find(node, watcher) : NULL;
    if (promise != NULL && PLANT(FORGET_CROSSES, true, promise->grant <= grant)) {
        promise_free(watches, promise);
    }
}

void watch_drop(struct watches *watches, struct watcher *watcher)
{
    while (watcher->oldest != NULL) {
        promise_free(watches, watcher->oldest);
    }
    CHECK(watcher->count == 0);
}

void watch_each(struct watches *watches, const uint64_t *inos, size_t count,
                void (*each)(void *arg, struct watcher *watcher), void *arg)
{
    uint64_t stamp = ++watches->stamp;
    for (size_t i = 0; i < count; i++) {
        struct watched *node = watched_find(watches, inos[i]);
        struct promise *promise = node != NULL ? node->first : NULL;
        for (; promise != NULL; promise = promise->node_next) {
            if (promise->watcher->stamp != stamp) {
                promise->watcher->stamp = stamp;
                each(arg, promise->watcher);
            }
        }
    }
}

size_t watches_count(const struct watches *watches)
{
    return watches->count;
}
