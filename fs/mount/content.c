/* SPDX-License-Identifier: Apache-2.0
 *
 * Contents and their cache. Asked by ops_file.c and publish.c; asks the replica by client_call.
 *
 * Invariant: mount->contents_bytes is the sum of the lengths of all inode->content; those of closed
 * files are at most CONTENT_CACHE_BYTES_MAX.
 */
#include "fs/mount/content.h"

#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/logging.h"
#include "fs/mount/publish.h"

/* One DataRead under way. */
struct fetch {
    struct mount *mount;
    struct inode *inode;
    struct fetch_waiter *waiters;
};

struct content *content_new(const void *data, size_t len, uint64_t mzxid)
{
    struct content *content = malloc(sizeof *content + len);
    if (content == NULL) {
        return NULL;
    }
    content->refs = 1;
    content->mzxid = mzxid;
    content->len = len;
    if (len > 0) {
        memcpy(content->data, data, len);
    }
    return content;
}

struct content *content_ref(struct content *content)
{
    CHECK(content->refs > 0);
    content->refs++;
    return content;
}

void content_unref(struct content *content)
{
    if (content != NULL) {
        CHECK(content->refs > 0);
        if (--content->refs == 0) {
            free(content);
        }
    }
}

void content_drop(struct mount *mount, struct inode *inode)
{
    if (inode->content == NULL) {
        return;
    }
    CHECK_OP(mount->contents_bytes, >=, inode->content->len);
    mount->contents_bytes -= inode->content->len;
    DL_DELETE2(mount->contents, inode, content_previous, content_next);
    content_unref(inode->content);
    inode->content = NULL;
    publish_base_changed(inode);
}

/* Keeps the bound. What programs have open stays: if it is removed, it cannot be read again. */
static void drop_oldest(struct mount *mount)
{
    struct inode *inode = NULL;
    struct inode *next = NULL;
    DL_FOREACH_SAFE2(mount->contents, inode, next, content_next)
    {
        if (mount->contents_bytes <= CONTENT_CACHE_BYTES_MAX) {
            return;
        }
        if (inode->handles == NULL && inode->publish == NULL) {
            content_drop(mount, inode);
        }
    }
}

void content_set(struct mount *mount, struct inode *inode, struct content *content)
{
    content_drop(mount, inode);
    publish_base_changed(inode);
    inode->content = content;
    mount->contents_bytes += content->len;
    DL_APPEND2(mount->contents, inode, content_previous, content_next);
    drop_oldest(mount);
}

struct content *content_current(struct inode *inode)
{
    struct content *content = inode->content;
    if (content == NULL || (!inode->promised && !inode->gone)) {
        return NULL;
    }
    return content->mzxid == inode->attr.mzxid || inode->gone ? content : NULL;
}

/* ---- fetch ---- */

static void fetch_end(struct fetch *fetch, enum err err)
{
    struct mount *mount = fetch->mount;
    struct inode *inode = fetch->inode;
    /* What `done` of one does may cancel another, or begin a new fetch of the same inode. */
    inode->fetch = NULL;
    while (fetch->waiters != NULL) {
        struct fetch_waiter *waiter = fetch->waiters;
        LL_DELETE(fetch->waiters, waiter);
        waiter->fetch = NULL;
        waiter->done(waiter, err);
    }
    free(fetch);
    inode_unref(mount, inode);
}

/* Takes the answer over into the inode. */
static enum err fetch_take(struct fetch *fetch, const Wire__Answer *answer)
{
    if (answer == NULL || answer->attr == NULL || answer->attr->ino != fetch->inode->ino ||
        answer->data.len != answer->attr->data_bytes) {
        log_warn("content", "bad_answer", "ino=%llu", (unsigned long long)fetch->inode->ino);
        return ERR_MALFORMED;
    }
    struct content *content = content_new(answer->data.data, answer->data.len, answer->attr->mzxid);
    if (content == NULL) {
        return ERR_MEMORY;
    }
    (void)inode_take(fetch->mount, answer->attr, answer->grant, false /* make */);
    content_set(fetch->mount, fetch->inode, content);
    return ERR_OK;
}

static void fetch_done(void *arg, enum err err, const Wire__Answer *answer)
{
    struct fetch *fetch = arg;
    mount_note_outage(fetch->mount, err);
    if (err == ERR_OK) {
        err = fetch_take(fetch, answer);
    }
    if (err == ERR_STALE || err == ERR_NO_NODE) {
        fetch->inode->gone = true;
        err = ERR_STALE;
    }
    fetch_end(fetch, err);
}

enum err content_fetch(struct mount *mount, struct inode *inode, struct fetch_waiter *waiter)
{
    struct fetch *fetch = inode->fetch;
    if (fetch == NULL) {
        fetch = calloc(1, sizeof *fetch);
        if (fetch == NULL) {
            return ERR_MEMORY;
        }
        fetch->mount = mount;
        fetch->inode = inode;

        Wire__Address at = WIRE__ADDRESS__INIT;
        Wire__DataRead read = WIRE__DATA_READ__INIT;
        Wire__Request request = WIRE__REQUEST__INIT;
        at.ino = inode->ino;
        read.at = &at;
        read.bytes_max = mount_file_bytes_max(mount);
        request.body_case = WIRE__REQUEST__BODY_DATA;
        request.data = &read;
        struct call_options options = {
            .timeout_ms = mount_call_timeout_ms(mount), .done = fetch_done, .arg = fetch};
        enum err err = ERR_OK;
        if (client_call(mount->client, &request, &options, &err) == NULL) {
            free(fetch);
            return err;
        }
        inode->fetch = fetch;
        inode_ref(inode);
    }
    waiter->fetch = fetch;
    LL_APPEND(fetch->waiters, waiter);
    return ERR_OK;
}

void content_fetch_cancel(struct fetch_waiter *waiter)
{
    if (waiter->fetch != NULL) {
        LL_DELETE(waiter->fetch->waiters, waiter);
        waiter->fetch = NULL;
    }
}
