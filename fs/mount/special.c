/* SPDX-License-Identifier: Apache-2.0
 *
 * `.quorumfs/status`, answered from memory whatever the ensemble does, `.quorumfs/members`, asked of
 * the replica, and the ways to `.quorumfs/events` (stream.c) and `.quorumfs/ctl` (ctl.c). Handed requests
 * by the ops, which know these nodeids from others.
 */
#include "fs/mount/special.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/limits.h"
#include "common/parse.h"
#include "fs/mount/ctl.h"
#include "fs/mount/ops.h"
#include "fs/mount/replay.h"
#include "fs/mount/stream.h"

#define SPECIAL_BIT SPECIAL_FOLDER_NODEID

/* A stream from a zxid on: this and the number. */
#define SINCE_NAME "events?since="

enum special {
    SPECIAL_FOLDER,
    SPECIAL_STATUS,
    SPECIAL_MEMBERS,
    SPECIAL_EVENTS,
    SPECIAL_EVENTS_SINCE, /* by name only: its nodeid carries the zxid */
    SPECIAL_CTL,          /* each lookup finds another: its nodeid carries a number */
};

#define KIND_BITS  4
#define KIND_MASK  ((1u << KIND_BITS) - 1)
#define NUMBER_MAX ((1ull << (62 - KIND_BITS)) - 1)

static const struct special_file {
    enum special special;
    const char *name;
} special_files[] = {
    {SPECIAL_STATUS, "status"},
    {SPECIAL_MEMBERS, "members"},
    {SPECIAL_EVENTS, "events"},
    {SPECIAL_CTL, "ctl"},
};

#define FILE_COUNT (sizeof special_files / sizeof special_files[0])

bool special_is(fuse_ino_t nodeid)
{
    return (nodeid & SPECIAL_BIT) != 0;
}

static enum special kind_of(fuse_ino_t nodeid)
{
    return (enum special)(nodeid & KIND_MASK);
}

static fuse_ino_t nodeid_of(enum special special)
{
    return SPECIAL_BIT | (fuse_ino_t)special;
}

static mode_t mode_of(enum special special)
{
    switch (special) {
    case SPECIAL_FOLDER:
        return S_IFDIR | 0555;
    case SPECIAL_STATUS:
    case SPECIAL_MEMBERS:
        return S_IFREG | 0444;
    case SPECIAL_CTL:
        return S_IFREG | 0666; /* what is done with it, everybody must be allowed to do */
    case SPECIAL_EVENTS:
    case SPECIAL_EVENTS_SINCE:
        break;
    }
    return S_IFREG | 0600; /* what others do is not everybody's to know */
}

static void fill_stat(fuse_ino_t nodeid, struct stat *out)
{
    enum special special = kind_of(nodeid);
    *out = (struct stat){0};
    out->st_ino = nodeid;
    out->st_mode = mode_of(special);
    out->st_nlink = special == SPECIAL_FOLDER ? 2 : 1;
    out->st_blksize = 4096;
}

/* The nodeid is for this lookup alone. */
static bool has_number(fuse_ino_t nodeid)
{
    return kind_of(nodeid) == SPECIAL_EVENTS_SINCE || kind_of(nodeid) == SPECIAL_CTL;
}

static void reply_entry(fuse_req_t req, fuse_ino_t nodeid)
{
    struct fuse_entry_param entry = {.ino = nodeid, .attr_timeout = CACHE_SECONDS};
    entry.entry_timeout = has_number(nodeid) ? 0.0 : CACHE_SECONDS;
    fill_stat(nodeid, &entry.attr);
    (void)fuse_reply_entry(req, &entry);
}

void special_lookup_folder(fuse_req_t req)
{
    reply_entry(req, SPECIAL_FOLDER_NODEID);
}

/* A write to `ctl` lasts as long as what it asks for, and the kernel locks the inode meanwhile: each
 * open file has one of its own. */
static fuse_ino_t next_ctl(struct mount *mount)
{
    mount->ctl_number = (mount->ctl_number + 1) & NUMBER_MAX;
    return nodeid_of(SPECIAL_CTL) | mount->ctl_number << KIND_BITS;
}

void special_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    uint64_t since = 0;
    for (size_t i = 0; i < FILE_COUNT; i++) {
        enum special special = special_files[i].special;
        if (parent == (SPECIAL_BIT | SPECIAL_FOLDER) && strcmp(special_files[i].name, name) == 0) {
            reply_entry(req,
                        special == SPECIAL_CTL ? next_ctl(ops_mount(req)) : nodeid_of(special));
            return;
        }
    }
    if (parent == SPECIAL_FOLDER_NODEID && strncmp(name, SINCE_NAME, sizeof SINCE_NAME - 1) == 0 &&
        parse_u64(name + sizeof SINCE_NAME - 1, 0, NUMBER_MAX, &since) == ERR_OK) {
        reply_entry(req, nodeid_of(SPECIAL_EVENTS_SINCE) | since << KIND_BITS);
        return;
    }
    (void)fuse_reply_err(req, ENOENT);
}

void special_getattr(fuse_req_t req, fuse_ino_t nodeid)
{
    struct stat stat_buffer;
    fill_stat(nodeid, &stat_buffer);
    (void)fuse_reply_attr(req, &stat_buffer, CACHE_SECONDS);
}

/* The n-th entry has the cookie n + 1: ".", "..", the files. With `plus` they stand there without a
 * nodeid, so that they count as no lookup. */
void special_readdir(fuse_req_t req, size_t size, off_t offset, bool plus)
{
    static const char *const dots[] = {".", ".."};
    char bytes[2048];
    size_t len = 0;
    size = size < sizeof bytes ? size : sizeof bytes;
    for (size_t i = (size_t)offset; i < 2 + FILE_COUNT; i++) {
        const struct special_file *file = i < 2 ? NULL : &special_files[i - 2];
        const char *name = file != NULL ? file->name : dots[i];
        struct fuse_entry_param entry = {.ino = 0};
        fill_stat(nodeid_of(file != NULL ? file->special : SPECIAL_FOLDER), &entry.attr);
        off_t cookie = (off_t)(i + 1);
        size_t need =
            plus ? fuse_add_direntry_plus(req, bytes + len, size - len, name, &entry, cookie)
                 : fuse_add_direntry(req, bytes + len, size - len, name, &entry.attr, cookie);
        if (need > size - len) {
            break;
        }
        len += need;
    }
    (void)fuse_reply_buf(req, bytes, len);
}

static bool is_stream(fuse_ino_t nodeid)
{
    return kind_of(nodeid) == SPECIAL_EVENTS || kind_of(nodeid) == SPECIAL_EVENTS_SINCE;
}

/* ---- what stands in the files ---- */

static const char *state_of(const struct mount *mount, const struct client_status *status)
{
    if (status->state == CLIENT_LOST) {
        return "session lost";
    }
    if (status->replica == 0) {
        return "no replica";
    }
    if (status->leader == 0) {
        return "no leader";
    }
    return mount->events_missing ? "catching up" : "ok";
}

static uint64_t count_unpublished(const struct mount *mount)
{
    uint64_t count = 0;
    for (const struct inode *inode = mount->inodes; inode != NULL; inode = inode->hh.next) {
        count += inode->publish != NULL;
    }
    return count;
}

static enum err write_status(const struct mount *mount, struct buffer *out)
{
    struct client_status status;
    struct replay_figures replay = replay_figures(mount);
    client_status(mount->client, &status);
    uint64_t stale_ms =
        status.stale_since_ms == 0 ? 0 : clock_boottime_ms() - status.stale_since_ms;
    uint64_t lag =
        status.zxid_seen > status.replica_zxid ? status.zxid_seen - status.replica_zxid : 0;
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"session", status.session},
        {"replica", status.replica},
        {"leader", status.leader},
        {"zxid", status.zxid_seen},
        {"lag", lag},
        {"stale_ms", stale_ms},
        {"reconnects", status.reconnects},
        {"lost_closes", mount->lost_closes},
        {"lost_locks", mount->lost_locks},
        {"unpublished", count_unpublished(mount)},
        {"nodes", HASH_COUNT(mount->inodes)},
        {"content_bytes", mount->contents_bytes},
        {"file_bytes_max", mount_file_bytes_max(mount)},
        {"replayed", replay.done},
        {"replay_waiting", replay.waiting},
        {"replay_dropped", replay.dropped},
        {"requests", mount->requests},
    };
    enum err err = buffer_printf(out, "state %s\nserver %s\n", state_of(mount, &status),
                                 status.server[0] != '\0' ? status.server : "-");
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0] && err == ERR_OK; i++) {
        err =
            buffer_printf(out, "%s %llu\n", numbers[i].name, (unsigned long long)numbers[i].value);
    }
    return err;
}

static enum err write_members(const Wire__Answer *answer, struct buffer *out)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < answer->n_members && err == ERR_OK; i++) {
        const Wire__Member *member = answer->members[i];
        err = buffer_printf(out, "%llu %.*s %s %s\n", (unsigned long long)member->id,
                            (int)member->address.len, (const char *)member->address.data,
                            member->voter ? "voter" : "learner",
                            member->connected ? "connected" : "-");
    }
    return err;
}

/* ---- open, read, release ---- */

/* Gives the text to the reader, who owns it then; or an error. */
static void reply_open(struct task *task, struct buffer *text, enum err err)
{
    struct buffer *kept = NULL;
    if (err == ERR_OK) {
        kept = malloc(sizeof *kept);
        err = kept == NULL ? ERR_MEMORY : ERR_OK;
    }
    if (err != ERR_OK) {
        buffer_done(text);
        task_fail(task, err);
        return;
    }
    *kept = *text;
    task->fi.fh = (uint64_t)(uintptr_t)kept;
    task->fi.direct_io = 1;
    task->fi.noflush = 1;
    if (fuse_reply_open(task->req, &task->fi) != 0) {
        buffer_done(kept);
        free(kept);
    }
    task_end(task);
}

static void members_answered(struct task *task, enum err err, const Wire__Answer *answer)
{
    struct buffer text = {0};
    if (err == ERR_OK) {
        err = write_members(answer, &text);
    }
    reply_open(task, &text, err);
}

static void ask_members(struct task *task)
{
    Wire__MembersRead members = WIRE__MEMBERS_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    request.body_case = WIRE__REQUEST__BODY_MEMBERS;
    request.members = &members;
    task_call(task, &request, members_answered);
}

void special_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    struct buffer text = {0};
    if (is_stream(nodeid)) {
        bool named = kind_of(nodeid) == SPECIAL_EVENTS_SINCE;
        stream_open(req, named ? (nodeid & ~SPECIAL_BIT) >> KIND_BITS : STREAM_FROM_NOW, fi);
        return;
    }
    if (kind_of(nodeid) == SPECIAL_CTL) {
        ctl_open(req, fi);
        return;
    }
    if ((fi->flags & O_ACCMODE) != O_RDONLY) {
        (void)fuse_reply_err(req, EACCES);
        return;
    }
    struct task *task = task_new(ops_mount(req), req, NULL);
    if (task == NULL) {
        return;
    }
    task->fi = *fi;
    switch (kind_of(nodeid)) {
    case SPECIAL_MEMBERS:
        ask_members(task);
        return;
    case SPECIAL_STATUS:
        reply_open(task, &text, write_status(task->mount, &text));
        return;
    case SPECIAL_FOLDER:
    case SPECIAL_EVENTS:
    case SPECIAL_EVENTS_SINCE:
    case SPECIAL_CTL:
        break;
    }
    task_fail(task, ERR_IS_DIR);
}

void special_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset,
                  const struct fuse_file_info *fi)
{
    if (is_stream(nodeid)) {
        stream_read(req, size, fi);
        return;
    }
    if (kind_of(nodeid) == SPECIAL_CTL) {
        ctl_read(req, size, fi);
        return;
    }
    const struct buffer *text = (const struct buffer *)(uintptr_t)fi->fh;
    size_t from = (size_t)offset < text->len ? (size_t)offset : text->len;
    size_t rest = text->len - from;
    (void)fuse_reply_buf(req, (const char *)text->data + from, rest < size ? rest : size);
}

void special_write(fuse_req_t req, fuse_ino_t nodeid, const char *bytes, size_t size,
                   const struct fuse_file_info *fi)
{
    if (is_stream(nodeid)) {
        stream_write(req, bytes, size, fi);
    } else if (kind_of(nodeid) == SPECIAL_CTL) {
        ctl_write(req, bytes, size, fi);
    } else {
        (void)fuse_reply_err(req, EACCES);
    }
}

void special_poll(fuse_req_t req, fuse_ino_t nodeid, const struct fuse_file_info *fi,
                  struct fuse_pollhandle *handle)
{
    if (is_stream(nodeid)) {
        stream_poll(req, fi, handle);
        return;
    }
    if (handle != NULL) {
        fuse_pollhandle_destroy(handle);
    }
    (void)fuse_reply_poll(req, POLLIN | POLLRDNORM);
}

void special_release(fuse_req_t req, fuse_ino_t nodeid, const struct fuse_file_info *fi)
{
    if (is_stream(nodeid)) {
        stream_release(req, fi);
        return;
    }
    if (kind_of(nodeid) == SPECIAL_CTL) {
        ctl_release(req, fi);
        return;
    }
    struct buffer *text = (struct buffer *)(uintptr_t)fi->fh;
    buffer_done(text);
    free(text);
    (void)fuse_reply_err(req, 0);
}
