/* SPDX-License-Identifier: Apache-2.0
 *
 * From patches to log entries. Handed changes by ops_file.c and ops_attr.c, which also say when;
 * hands a WriteOp to the client and its outcome to all who wait.
 *
 *            change                publish_now
 *   (none) ---------> pending ------------------> under way --answer--> (none)
 *                        ^                            | change
 *                        +----- answer ------- under way + pending
 *
 * Invariant 1: inode->publish exists exactly while there is something pending or under way.
 * Invariant 2: at most one patch of an inode is under way, so that they are applied in order.
 */
#include "fs/mount/publish.h"

#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/logging.h"
#include "fs/mount/changes.h"
#include "fs/mount/handle.h"
#include "fs/mount/order.h"
#include "fs/mount/send.h"

/* Bytes in the patches of all inodes; above, writes are refused. */
#define PATCHES_BYTES_MAX (256u * MIB)

/* Appended lines of a program that keeps its log open are published after this time. */
#define APPEND_DELAY_MS 100u

struct publish {
    struct mount *mount;
    struct inode *inode; /* one reference */
    struct publish *previous;
    struct publish *next;

    struct patch pending;
    uint64_t pending_bytes;
    struct publish_waiter *pending_waiters;
    bool wanted; /* pending is to be published as soon as possible */

    bool under_way;
    struct patch patch; /* under way */
    bool if_version;    /* it was sent on condition of this version */
    uint32_t version_wanted;
    uint64_t patch_bytes;
    struct publish_waiter *waiters;

    uint64_t progress_ms;   /* loop time of the last part that arrived */
    int64_t changed_ns;     /* time of the last local change */
    uint64_t append_due_ms; /* 0: no */
    struct content *view;   /* cache of publish_content, or NULL */
};

static void publish_start(struct publish *publish);

/* ---- the local view ---- */

bool publish_is_pending(const struct inode *inode)
{
    return inode->publish != NULL && !patch_is_empty(&inode->publish->pending);
}

bool publish_is_under_way(const struct inode *inode)
{
    return inode->publish != NULL && inode->publish->under_way;
}

/* The length under the pending patch. */
static uint64_t length_below(const struct inode *inode)
{
    const struct publish *publish = inode->publish;
    uint64_t bytes = inode->attr.data_bytes;
    return publish != NULL && publish->under_way ? patch_length(&publish->patch, bytes) : bytes;
}

uint64_t publish_length(const struct inode *inode)
{
    uint64_t bytes = length_below(inode);
    return inode->publish != NULL ? patch_length(&inode->publish->pending, bytes) : bytes;
}

void publish_view(const struct inode *inode, struct publish_view *view)
{
    const struct publish *publish = inode->publish;
    if (publish == NULL) {
        return;
    }
    const struct patch *newest = publish_is_pending(inode) ? &publish->pending : &publish->patch;
    view->bytes = publish_length(inode);
    view->mtime_ns = newest->set_mtime ? newest->mtime_ns : publish->changed_ns;
    view->atime_ns = newest->set_atime ? newest->atime_ns : view->atime_ns;
    view->ctime_ns = publish->changed_ns;
    view->kills_suid_sgid = publish->pending.kill_suid_sgid || publish->patch.kill_suid_sgid;
}

bool publish_needs_base(const struct inode *inode)
{
    const struct publish *publish = inode->publish;
    if (publish == NULL) {
        return true;
    }
    return patch_needs_base(&publish->pending) &&
           (!publish->under_way || patch_needs_base(&publish->patch));
}

/* The data under the pending patch, in *out. */
static enum err data_below(const struct publish *publish, struct buffer *out)
{
    const struct content *base = publish->inode->content;
    const void *data = base != NULL ? base->data : NULL;
    size_t len = base != NULL ? base->len : 0;
    if (publish->under_way) {
        return patch_apply(&publish->patch, data, len, out);
    }
    return buffer_append(out, data, len);
}

struct content *publish_content(struct inode *inode)
{
    struct publish *publish = inode->publish;
    if (publish == NULL) {
        return content_ref(inode->content);
    }
    if (publish->view != NULL) {
        return content_ref(publish->view);
    }
    struct buffer below = {0};
    struct buffer whole = {0};
    enum err err = data_below(publish, &below);
    if (err == ERR_OK) {
        err = patch_apply(&publish->pending, below.data, below.len, &whole);
    }
    if (err == ERR_OK) {
        publish->view = content_new(whole.data, whole.len, 0 /* not committed */);
    }
    buffer_done(&below);
    buffer_done(&whole);
    return publish->view != NULL ? content_ref(publish->view) : NULL;
}

static void view_drop(struct publish *publish)
{
    content_unref(publish->view);
    publish->view = NULL;
}

void publish_base_changed(struct inode *inode)
{
    if (inode->publish != NULL) {
        view_drop(inode->publish);
    }
}

enum err publish_read(const struct inode *inode, uint64_t offset, size_t size, struct buffer *out)
{
    const struct publish *publish = inode->publish;
    const struct content *base = inode->content;
    uint64_t base_bytes = base != NULL ? base->len : 0;
    uint64_t below = publish->under_way ? patch_length(&publish->patch, base_bytes) : base_bytes;
    uint64_t length = patch_length(&publish->pending, below);
    buffer_clear(out);
    if (offset >= length) {
        return ERR_OK;
    }
    size_t len = size < length - offset ? size : (size_t)(length - offset);
    uint8_t *bytes = buffer_reserve(out, len);
    if (bytes == NULL) {
        return ERR_MEMORY;
    }
    size_t from_base = offset < base_bytes ? (size_t)(base_bytes - offset) : 0;
    from_base = from_base < len ? from_base : len;
    if (from_base > 0) {
        memcpy(bytes, base->data + offset, from_base);
    }
    memset(bytes + from_base, 0, len - from_base);
    if (publish->under_way) {
        patch_apply_part(&publish->patch, base_bytes, offset, bytes, len);
    }
    patch_apply_part(&publish->pending, below, offset, bytes, len);
    out->len = len;
    return ERR_OK;
}

uint64_t publish_progress_ms(const struct inode *inode)
{
    return inode->publish != NULL ? inode->publish->progress_ms : 0;
}

/* ---- changes ---- */

static struct publish *publish_make(struct mount *mount, struct inode *inode)
{
    if (inode->publish != NULL) {
        return inode->publish;
    }
    struct publish *publish = calloc(1, sizeof *publish);
    if (publish == NULL) {
        return NULL;
    }
    publish->mount = mount;
    publish->inode = inode;
    inode_ref(inode);
    inode->publish = publish;
    DL_APPEND2(mount->publishes, publish, previous, next);
    return publish;
}

/* Keeps invariant 1. The inode may be gone afterwards. */
static void free_if_done(struct publish *publish)
{
    if (publish->under_way || !patch_is_empty(&publish->pending)) {
        return;
    }
    struct mount *mount = publish->mount;
    struct inode *inode = publish->inode;
    CHECK(publish->waiters == NULL && publish->pending_waiters == NULL);
    DL_DELETE2(mount->publishes, publish, previous, next);
    mount->patch_bytes -= publish->pending_bytes;
    patch_done(&publish->pending);
    view_drop(publish);
    inode->publish = NULL;
    free(publish);
    inode_unref(mount, inode);
}

/* Behind each change of the pending patch, also one that failed. `length`: of the file before. */
static enum err changed(struct publish *publish, uint64_t length, enum err err)
{
    struct inode *inode = publish->inode;
    if ((length > 0) != (publish_length(inode) > 0)) {
        changes_data_name(publish->mount, inode);
    }
    uint64_t bytes = patch_bytes(&publish->pending);
    publish->mount->patch_bytes += bytes - publish->pending_bytes;
    publish->pending_bytes = bytes;
    if (err == ERR_OK) {
        publish->changed_ns = clock_realtime_ns();
        view_drop(publish);
    }
    free_if_done(publish);
    return err;
}

static struct patch_place place_of(const struct mount *mount, const struct inode *inode)
{
    return (struct patch_place){.base_bytes = length_below(inode),
                                .bytes_max = mount_file_bytes_max(mount)};
}

static bool is_full(const struct mount *mount, size_t len)
{
    return mount->patch_bytes + len > PATCHES_BYTES_MAX;
}

enum err publish_truncate(struct mount *mount, struct inode *inode, uint64_t bytes)
{
    struct publish *publish = publish_make(mount, inode);
    if (publish == NULL) {
        return ERR_MEMORY;
    }
    uint64_t length = publish_length(inode);
    return changed(publish, length,
                   patch_truncate(&publish->pending, place_of(mount, inode), bytes));
}

/* Too many ranges: with the base at hand they become one. */
static enum err collapse(struct publish *publish)
{
    if (publish_needs_base(publish->inode) && content_current(publish->inode) == NULL) {
        return ERR_LIMIT;
    }
    struct buffer below = {0};
    enum err err = data_below(publish, &below);
    if (err == ERR_OK) {
        err = patch_collapse(&publish->pending, below.data, below.len);
    }
    buffer_done(&below);
    return err;
}

enum err publish_write(struct mount *mount, struct inode *inode, uint64_t offset, const void *bytes,
                       size_t len)
{
    struct publish *publish = is_full(mount, len) ? NULL : publish_make(mount, inode);
    if (publish == NULL) {
        return ERR_MEMORY;
    }
    uint64_t length = publish_length(inode);
    struct patch_place place = place_of(mount, inode);
    enum err err = patch_write(&publish->pending, place, offset, bytes, len);
    if (err == ERR_LIMIT) {
        err = collapse(publish);
        if (err == ERR_OK) {
            err = patch_write(&publish->pending, place, offset, bytes, len);
        }
    }
    return changed(publish, length, err);
}

enum err publish_append(struct mount *mount, struct inode *inode, const void *bytes, size_t len)
{
    struct publish *publish = is_full(mount, len) ? NULL : publish_make(mount, inode);
    if (publish == NULL) {
        return ERR_MEMORY;
    }
    uint64_t length = publish_length(inode);
    enum err err = patch_append(&publish->pending, place_of(mount, inode), bytes, len);
    if (err == ERR_OK && publish->append_due_ms == 0 && patch_is_append_only(&publish->pending)) {
        publish->append_due_ms = uv_now(mount->loop) + APPEND_DELAY_MS;
        if (!uv_is_active((uv_handle_t *)&mount->append_timer)) {
            uv_timer_again(&mount->append_timer);
        }
    }
    return changed(publish, length, err);
}

void publish_kill_suid_sgid(struct inode *inode)
{
    if (publish_is_pending(inode)) {
        inode->publish->pending.kill_suid_sgid = true;
    }
}

void publish_set_mtime(struct inode *inode, int64_t mtime_ns)
{
    inode->publish->pending.set_mtime = true;
    inode->publish->pending.mtime_ns = mtime_ns;
}

void publish_set_mtime_now(struct inode *inode)
{
    inode->publish->pending.set_mtime = false;
    inode->publish->changed_ns = clock_realtime_ns();
}

void publish_set_atime(struct inode *inode, int64_t atime_ns)
{
    inode->publish->pending.set_atime = true;
    inode->publish->pending.atime_ns = atime_ns;
}

enum err publish_take_error(struct inode *inode)
{
    enum err err = (enum err)inode->publish_error;
    inode->publish_error = ERR_OK;
    return err;
}

/* ---- under way ---- */

/* What the file holds after the patch under way, if that can be known; else NULL. */
static struct content *content_after(const struct publish *publish, const Wire__Answer *answer)
{
    struct inode *inode = publish->inode;
    struct content *base = content_current(inode);
    if (answer->attr->mzxid != answer->zxid) {
        return NULL;
    }
    if (!patch_needs_base(&publish->patch)) {
        base = NULL;
    } else if (base == NULL || answer->attr->version != inode->attr.version + 1) {
        return NULL; /* Somebody else's change came between. */
    } else if (base->refs == 1 && base->len == answer->attr->data_bytes &&
               patch_length(&publish->patch, base->len) == base->len) {
        /* Nobody else reads it and it stays as long: a few bytes of a large file. */
        patch_apply_part(&publish->patch, base->len, 0, base->data, base->len);
        base->mzxid = answer->attr->mzxid;
        return content_ref(base);
    }
    struct buffer after = {0};
    struct content *content = NULL;
    if (patch_apply(&publish->patch, base != NULL ? base->data : NULL, base != NULL ? base->len : 0,
                    &after) == ERR_OK &&
        after.len == answer->attr->data_bytes) {
        content = content_new(after.data, after.len, answer->attr->mzxid);
    }
    buffer_done(&after);
    return content;
}

static void take_success(struct publish *publish, const Wire__Answer *answer)
{
    struct mount *mount = publish->mount;
    struct inode *inode = publish->inode;
    struct content *content = content_after(publish, answer);
    bool had_data = inode->attr.data_bytes > 0;
    (void)inode_take(mount, answer->attr, answer->grant, false /* make */);
    changes_own_face(mount, inode, FACE_FILE, had_data);
    if (content != NULL && content->mzxid == inode->attr.mzxid) {
        content_set(mount, inode, content);
    } else {
        content_unref(content);
    }
    if (inode->pages) {
        inode->pages = false;
        order_inode(mount, inode_nodeid(mount, inode->ino, FACE_FILE), false /* attr_only */);
    }
}

/* The file was removed meanwhile: as on a local disk, its data lives on for those who have it
 * open. */
static void take_gone(struct publish *publish)
{
    struct inode *inode = publish->inode;
    inode->gone = true;
    if (publish_needs_base(inode) && inode->content == NULL) {
        return;
    }
    struct buffer after = {0};
    struct content *content = NULL;
    if (data_below(publish, &after) == ERR_OK) {
        content = content_new(after.data, after.len, inode->attr.mzxid);
    }
    if (content != NULL) {
        inode->attr.data_bytes = content->len;
        content_set(publish->mount, inode, content);
    }
    buffer_done(&after);
}

static void take_failure(struct publish *publish, enum err err)
{
    struct mount *mount = publish->mount;
    struct inode *inode = publish->inode;
    if (publish->waiters == NULL) {
        if (inode->handles == NULL) {
            mount->lost_closes++;
        }
        inode->publish_error = (int)err;
        log_error("publish", "lost_write", "ino=%llu error=%s lost_closes=%llu",
                  (unsigned long long)inode->ino, err_name(err),
                  (unsigned long long)mount->lost_closes);
    }
    inode->pages = false;
    order_inode(mount, inode_nodeid(mount, inode->ino, FACE_FILE), false /* attr_only */);
}

static void tell(struct publish_waiter *waiters, enum err err)
{
    while (waiters != NULL) {
        struct publish_waiter *waiter = waiters;
        LL_DELETE(waiters, waiter);
        waiter->publish = NULL;
        waiter->done(waiter, err);
    }
}

static void publish_finish(struct publish *publish, enum err err, const Wire__Answer *answer)
{
    struct publish_waiter *waiters = publish->waiters;
    CHECK(publish->under_way);
    if (err == ERR_OK && (answer == NULL || answer->attr == NULL)) {
        err = ERR_MALFORMED;
    }
    if (err == ERR_OK) {
        take_success(publish, answer);
    } else if (err == ERR_STALE || err == ERR_NO_NODE) {
        take_gone(publish);
        err = ERR_OK;
    } else {
        take_failure(publish, err);
    }
    publish->under_way = false;
    publish->waiters = NULL;
    publish->mount->patch_bytes -= publish->patch_bytes;
    publish->patch_bytes = 0;
    patch_done(&publish->patch);
    view_drop(publish);
    if (!patch_is_empty(&publish->pending) && publish->wanted) {
        publish_start(publish);
    } else {
        free_if_done(publish);
    }
    tell(waiters, err);
}

void publish_drop_pending(struct mount *mount, struct inode *inode)
{
    struct publish *publish = inode->publish;
    if (publish == NULL || patch_is_empty(&publish->pending)) {
        return;
    }
    struct publish_waiter *waiters = publish->pending_waiters;
    log_error("publish", "lost_write", "ino=%llu error=%s", (unsigned long long)inode->ino,
              err_name(ERR_SESSION_EXPIRED));
    mount->patch_bytes -= publish->pending_bytes;
    publish->pending_bytes = 0;
    publish->pending_waiters = NULL;
    publish->wanted = false;
    publish->append_due_ms = 0;
    patch_done(&publish->pending);
    publish->pending = (struct patch){0};
    view_drop(publish);
    inode->publish_error = ERR_SESSION_EXPIRED;
    handle_all_published(inode);
    inode->pages = false;
    order_inode(mount, inode_nodeid(mount, inode->ino, FACE_FILE), false /* attr_only */);
    inode_ref(inode);
    free_if_done(publish);
    tell(waiters, ERR_SESSION_EXPIRED);
    inode_unref(mount, inode);
}

static void publish_answered(void *arg, enum err err, const Wire__Answer *answer)
{
    struct publish *publish = arg;
    mount_note_outage(publish->mount, err);
    publish_finish(publish, err, answer);
}

static void publish_progressed(void *arg)
{
    struct publish *publish = arg;
    publish->progress_ms = uv_now(publish->mount->loop);
}

static enum err publish_send(struct publish *publish)
{
    struct mount *mount = publish->mount;
    const struct sending sending = {
        .ino = publish->inode->ino,
        .patch = &publish->patch,
        .if_version = publish->if_version,
        .version = publish->version_wanted,
        /* Nobody to tell of a failure: go on trying as long as the session lives. */
        .timeout_ms = publish->waiters == NULL ? 0 : mount_call_timeout_ms(mount),
        .done = publish_answered,
        .progress = publish_progressed,
        .arg = publish,
    };
    publish_progressed(publish);
    return send_patch(mount, &sending);
}

static void publish_start(struct publish *publish)
{
    CHECK(!publish->under_way && publish->waiters == NULL);
    CHECK(!patch_is_empty(&publish->pending));
    publish->patch = publish->pending;
    publish->patch_bytes = publish->pending_bytes;
    publish->waiters = publish->pending_waiters;
    publish->pending = (struct patch){0};
    publish->pending_bytes = 0;
    publish->pending_waiters = NULL;
    publish->append_due_ms = 0;
    publish->wanted = false;
    publish->under_way = true;
    publish->if_version = publish->inode->if_version;
    publish->version_wanted = publish->inode->version_wanted;
    publish->inode->if_version = false;
    handle_all_published(publish->inode);
    enum err err = publish_send(publish);
    if (err != ERR_OK) {
        publish_finish(publish, err, NULL);
    }
}

bool publish_now(struct mount *mount, struct inode *inode, struct publish_waiter *waiter)
{
    struct publish *publish = inode->publish;
    (void)mount;
    if (publish == NULL) {
        return false;
    }
    bool pending = !patch_is_empty(&publish->pending);
    if (waiter != NULL) {
        waiter->publish = publish;
        if (pending) {
            LL_APPEND(publish->pending_waiters, waiter);
        } else {
            LL_APPEND(publish->waiters, waiter);
        }
    }
    if (pending) {
        publish->wanted = true;
        if (!publish->under_way) {
            publish_start(publish);
        }
    }
    return true;
}

/* Out of the list, if it is in it; LL_DELETE cannot bear an empty list. */
static void waiter_remove(struct publish_waiter **list, const struct publish_waiter *waiter)
{
    for (struct publish_waiter **at = list; *at != NULL; at = &(*at)->next) {
        if (*at == waiter) {
            *at = waiter->next;
            return;
        }
    }
}

void publish_cancel(struct publish_waiter *waiter)
{
    if (waiter->publish != NULL) {
        waiter_remove(&waiter->publish->waiters, waiter);
        waiter_remove(&waiter->publish->pending_waiters, waiter);
        waiter->publish = NULL;
    }
}

bool publish_all(struct mount *mount)
{
    struct publish *publish = NULL;
    struct publish *next = NULL;
    DL_FOREACH_SAFE2(mount->publishes, publish, next, next)
    {
        (void)publish_now(mount, publish->inode, NULL);
    }
    return mount->publishes != NULL;
}

/* ---- appended lines of files that stay open ---- */

static void on_append_timer(uv_timer_t *timer)
{
    struct mount *mount = timer->data;
    struct publish *publish = NULL;
    struct publish *next = NULL;
    bool more = false;
    DL_FOREACH_SAFE2(mount->publishes, publish, next, next)
    {
        if (publish->append_due_ms == 0) {
            continue;
        }
        if (!patch_is_append_only(&publish->pending)) {
            publish->append_due_ms = 0;
        } else if (publish->append_due_ms <= uv_now(mount->loop)) {
            (void)publish_now(mount, publish->inode, NULL);
        } else {
            more = true;
        }
    }
    if (!more) {
        CHECK(uv_timer_stop(timer) == 0);
    }
}

void publish_init(struct mount *mount)
{
    CHECK(uv_timer_init(mount->loop, &mount->append_timer) == 0);
    mount->append_timer.data = mount;
    /* Started and stopped at once: from here on uv_timer_again starts it. */
    CHECK(uv_timer_start(&mount->append_timer, on_append_timer, APPEND_DELAY_MS / 2,
                         APPEND_DELAY_MS / 2) == 0);
    CHECK(uv_timer_stop(&mount->append_timer) == 0);
}

void publish_done(struct mount *mount)
{
    struct publish *publish = NULL;
    struct publish *next = NULL;
    DL_FOREACH_SAFE2(mount->publishes, publish, next, next)
    {
        mount->lost_closes++;
        log_error("publish", "lost_write", "ino=%llu error=%s lost_closes=%llu",
                  (unsigned long long)publish->inode->ino, err_name(ERR_CLOSED),
                  (unsigned long long)mount->lost_closes);
        patch_done(&publish->pending);
        patch_done(&publish->patch);
        publish->under_way = false;
        free_if_done(publish);
    }
}
