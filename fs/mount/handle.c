/* SPDX-License-Identifier: Apache-2.0
 *
 * Made by ops_file.c at OPEN and CREATE, ended at RELEASE. Knows what publish_when.c needs.
 */
#include "fs/mount/handle.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/check.h"

struct handle *handle_open(struct mount *mount, struct inode *inode, int flags, pid_t tid)
{
    struct handle *handle = calloc(1, sizeof *handle);
    if (handle == NULL) {
        return NULL;
    }
    handle->inode = inode;
    handle->flags = flags;
    handle->opener.pidfd = -1;
    if (handle_is_writer(handle)) {
        handle->opener = process_open(tid);
    }
    DL_APPEND2(inode->handles, handle, previous, next);
    DL_APPEND2(mount->handles, handle, all_previous, all_next);
    inode_ref(inode);
    return handle;
}

void handle_close(struct mount *mount, struct handle *handle)
{
    DL_DELETE2(handle->inode->handles, handle, previous, next);
    DL_DELETE2(mount->handles, handle, all_previous, all_next);
    process_close(&handle->opener);
    for (size_t i = 0; i < handle->writer_count; i++) {
        process_close(&handle->writers[i]);
    }
    content_unref(handle->pin);
    inode_unref(mount, handle->inode);
    free(handle);
}

bool handle_is_writer(const struct handle *handle)
{
    return (handle->flags & O_ACCMODE) != O_RDONLY;
}

/* Forgets writers that have exited. */
static void drop_gone_writers(struct handle *handle)
{
    size_t kept = 0;
    for (size_t i = 0; i < handle->writer_count; i++) {
        if (process_is_gone(&handle->writers[i])) {
            process_close(&handle->writers[i]);
        } else {
            handle->writers[kept++] = handle->writers[i];
        }
    }
    handle->writer_count = kept;
}

void handle_note_write(struct handle *handle, pid_t tid)
{
    handle->written = true;
    if (tid == 0) {
        return;
    }
    /* Most callers are the leader of their thread group: its id needs no look into /proc. */
    for (size_t i = 0; i < handle->writer_count; i++) {
        if (handle->writers[i].tgid == tid) {
            return;
        }
    }
    if (handle->writer_count == HANDLE_WRITERS_MAX) {
        drop_gone_writers(handle);
    }
    if (handle->writer_count == HANDLE_WRITERS_MAX) {
        handle->writers_unknown = true;
        return;
    }
    struct process writer = process_open(tid);
    if (writer.pidfd < 0) {
        handle->writers_unknown = true;
        return;
    }
    for (size_t i = 0; i < handle->writer_count; i++) {
        if (handle->writers[i].tgid == writer.tgid) {
            process_close(&writer);
            return;
        }
    }
    handle->writers[handle->writer_count++] = writer;
}

struct publish_question handle_question(struct handle *handle, pid_t tid)
{
    struct publish_question question = {.written = handle->written, .opener = handle->opener.tgid};
    if (!question.written) {
        return question;
    }
    question.flusher = tid != 0 && tid == handle->opener.tgid ? tid : process_tgid(tid);
    question.opener_gone = handle->opener.tgid != 0 && process_is_gone(&handle->opener);
    drop_gone_writers(handle);
    question.writers_alive = handle->writers_unknown ? 1 : 0;
    for (size_t i = 0; i < handle->writer_count; i++) {
        if (handle->writers[i].tgid == question.flusher) {
            question.flusher_wrote = true;
        } else {
            question.writers_alive++;
        }
    }
    return question;
}

void handle_pin(struct handle *handle, struct content *content)
{
    content_unref(handle->pin);
    handle->pin = content;
}

void handle_note_removed(struct mount *mount, uint64_t parent, const char *name, size_t name_len)
{
    struct handle *handle = NULL;
    DL_FOREACH2(mount->handles, handle, all_next)
    {
        struct inode *inode = handle->inode;
        if (inode->attr.parent == parent && inode->name != NULL &&
            strlen(inode->name) == name_len && memcmp(inode->name, name, name_len) == 0) {
            inode->gone = true;
        }
    }
}

void handle_all_published(struct inode *inode)
{
    struct handle *handle = NULL;
    DL_FOREACH2(inode->handles, handle, next)
    {
        handle->written = false;
        handle->truncated = false;
    }
}
