/* SPDX-License-Identifier: Apache-2.0
 *
 * Contents and their cache. Asked by ops_file.c and publish.c; asks the replica by client_call.
 *
 * Invariant: mount->contents_bytes is the sum of the lengths of all inode->content; those of closed
 * files are at most options->cache_bytes.
 */
#include "fs/mount/content.h"

#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/logging.h"
#include "fs/mount/publish.h"

/* A large file that changes all the time cannot be read as one version. */
#define RESTARTS_MAX 100u

/* The reading of one inode's data, part by part. */
struct fetch {
    struct mount *mount;
    struct inode *inode;
    struct content *content; /* one version; NULL: no part has come */
    uint64_t bytes;          /* of it that are there */
    unsigned restarts;       /* because the file changed meanwhile */
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
    if (data != NULL && len > 0) {
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
        if (mount->contents_bytes <= mount->options->cache_bytes) {
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
    content_unref(fetch->content);
    free(fetch);
    inode_unref(mount, inode);
}

/* The answer belongs to what was asked and to the version that was begun with; else, if that one is
 * gone, the fetch begins anew. */
static enum err fetch_check(struct fetch *fetch, const Wire__Answer *answer)
{
    if (answer == NULL || answer->attr == NULL || answer->attr->ino != fetch->inode->ino) {
        return ERR_MALFORMED;
    }
    const Wire__Attr *attr = answer->attr;
    if (fetch->content != NULL && fetch->content->mzxid != attr->mzxid) {
        content_unref(fetch->content);
        fetch->content = NULL;
        fetch->bytes = 0;
        /* This part is of no use. */
        return ++fetch->restarts < RESTARTS_MAX ? ERR_OK : ERR_BUSY;
    }
    uint64_t rest = attr->data_bytes - fetch->bytes;
    if (attr->data_bytes > FILE_BYTES_LIMIT || fetch->bytes > attr->data_bytes ||
        answer->data.len > rest || (answer->data.len == 0 && rest > 0)) {
        return ERR_MALFORMED;
    }
    if (fetch->content == NULL) {
        fetch->content = content_new(NULL, (size_t)attr->data_bytes, attr->mzxid);
        if (fetch->content == NULL) {
            return ERR_MEMORY;
        }
    }
    if (answer->data.len > 0) {
        memcpy(fetch->content->data + fetch->bytes, answer->data.data, answer->data.len);
        fetch->bytes += answer->data.len;
    }
    return ERR_OK;
}

/* Takes the answer over; *out_more: something is missing still. */
static enum err fetch_take(struct fetch *fetch, const Wire__Answer *answer, bool *out_more)
{
    enum err err = fetch_check(fetch, answer);
    if (err != ERR_OK) {
        log_warn("content", "bad_answer", "ino=%llu error=%s",
                 (unsigned long long)fetch->inode->ino, err_name(err));
        return err;
    }
    *out_more = fetch->content == NULL || fetch->bytes < fetch->content->len;
    if (!*out_more) {
        (void)inode_take(fetch->mount, answer->attr, answer->grant, false /* make */);
        content_set(fetch->mount, fetch->inode, fetch->content);
        fetch->content = NULL;
    }
    return ERR_OK;
}

static enum err fetch_ask(struct fetch *fetch);

static void fetch_done(void *arg, enum err err, const Wire__Answer *answer)
{
    struct fetch *fetch = arg;
    bool more = false;
    mount_note_outage(fetch->mount, err);
    if (err == ERR_OK) {
        err = fetch_take(fetch, answer, &more);
    }
    if (err == ERR_STALE || err == ERR_NO_NODE) {
        fetch->inode->gone = true;
        err = ERR_STALE;
    }
    if (err == ERR_OK && more) {
        err = fetch_ask(fetch);
        if (err == ERR_OK) {
            return;
        }
    }
    fetch_end(fetch, err);
}

/* Asks for what is missing; the replica gives as much as one answer holds. */
static enum err fetch_ask(struct fetch *fetch)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__DataRead read = WIRE__DATA_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    at.ino = fetch->inode->ino;
    read.at = &at;
    read.offset = fetch->bytes;
    read.bytes_max = FILE_BYTES_MAX;
    request.body_case = WIRE__REQUEST__BODY_DATA;
    request.data = &read;
    struct call_options options = {
        .timeout_ms = mount_call_timeout_ms(fetch->mount), .done = fetch_done, .arg = fetch};
    enum err err = ERR_OK;
    (void)client_call(fetch->mount->client, &request, &options, &err);
    return err;
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
        enum err err = fetch_ask(fetch);
        if (err != ERR_OK) {
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
