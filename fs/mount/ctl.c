/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines that are carried out, one after the other, and their answers. Hands on to the client of the
 * mount: every change is a transaction, of one part or of those between `multi` and `commit`.
 *
 * Invariant: one write at a time is under way on an open file (ctl->task).
 */
#include "fs/mount/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/text.h"
#include "fs/mount/ctl_line.h"
#include "fs/mount/device.h"
#include "fs/mount/ops.h"
#include "fs/mount/order.h"
#include "fs/mount/process.h"
#include "fs/mount/task.h"

#define LINES_MIN 8u

struct ctl {
    struct mount *mount;
    struct buffer answer;
    size_t read; /* of the answer */

    struct task *task; /* the write that is under way, or NULL */
    struct buffer text;
    size_t at; /* in text: the next line */
    const char *reason;
    size_t failed_part; /* 1 ..; 0: none */

    /* A transaction, or the one line that is being carried out. */
    bool multi;
    bool refused; /* one of its lines was: it will not be committed */
    struct ctl_line *lines;
    size_t line_count;
    size_t line_capacity;
    size_t line_bytes;
};

static struct ctl *ctl_of(const struct fuse_file_info *fi)
{
    return (struct ctl *)(uintptr_t)fi->fh;
}

static void lines_clear(struct ctl *ctl)
{
    for (size_t i = 0; i < ctl->line_count; i++) {
        ctl_line_done(&ctl->lines[i]);
    }
    ctl->line_count = 0;
    ctl->line_bytes = 0;
    ctl->multi = false;
    ctl->refused = false;
}

/* Takes over the line. ERR_TOO_BIG: more than one entry holds. */
static enum err lines_add(struct ctl *ctl, struct ctl_line *line)
{
    size_t bytes = line->path.len + line->data.len;
    enum err err = ERR_OK;
    if (ctl->line_count == MULTI_PARTS_MAX || bytes > FILE_BYTES_MAX - ctl->line_bytes) {
        err = ERR_TOO_BIG;
    } else if (ctl->line_count == ctl->line_capacity) {
        size_t capacity = ctl->line_capacity != 0 ? ctl->line_capacity * 2 : LINES_MIN;
        struct ctl_line *lines = realloc(ctl->lines, capacity * sizeof *lines);
        err = lines != NULL ? ERR_OK : ERR_MEMORY;
        ctl->lines = lines != NULL ? lines : ctl->lines;
        ctl->line_capacity = lines != NULL ? capacity : ctl->line_capacity;
    }
    if (err != ERR_OK) {
        ctl_line_done(line);
        return err;
    }
    ctl->lines[ctl->line_count++] = *line;
    ctl->line_bytes += bytes;
    return ERR_OK;
}

/* ---- answers ---- */

/* Where all tasks of writes end: an error is told here. */
static void write_ended(struct task *task)
{
    struct ctl *ctl = ctl_of(&task->fi);
    enum err err = task->err;
    ctl->task = NULL;
    if (err == ERR_OK) {
        return;
    }
    const char *name = strerrorname_np(task_errno(err));
    const char *text = ctl->reason != NULL ? ctl->reason : err_text(err);
    /* Without memory the errno of the write has to do. */
    if (ctl->failed_part != 0) {
        (void)buffer_printf(&ctl->answer, "error %s line %zu: %s\n", name, ctl->failed_part, text);
    } else {
        (void)buffer_printf(&ctl->answer, "error %s %s\n", name, text);
    }
}

static void reply_write(struct task *task)
{
    (void)fuse_reply_write(task->req, task->size);
    task_end(task);
}

/* The path of a node that was created: as it was asked for, with the name that it got. */
static enum err append_created(struct ctl *ctl, const struct ctl_line *line,
                               const Wire__PartResult *result)
{
    const char *root = ctl->mount->options->subtree;
    size_t root_len = strcmp(root, "/") == 0 ? 0 : strlen(root);
    const uint8_t *path = line->path.data;
    const uint8_t *slash = memrchr(path, '/', line->path.len);
    size_t parent_len = slash != NULL ? (size_t)(slash - path) + 1 : 0;
    CHECK_OP(parent_len, >=, root_len);
    enum err err = text_escape(&ctl->answer, path + root_len, parent_len - root_len, true);
    return err == ERR_OK ? text_escape(&ctl->answer, result->name.data, result->name.len, true)
                         : err;
}

/* ` RESULT` of a line that was carried out. */
static enum err append_result(struct ctl *ctl, const struct ctl_line *line,
                              const Wire__PartResult *result)
{
    enum err err = ERR_OK;
    switch (line->verb) {
    case CTL_CREATE:
        err = buffer_append(&ctl->answer, " ", 1);
        return err == ERR_OK ? append_created(ctl, line, result) : err;
    case CTL_SET:
    case CTL_CHECK:
        /* An answer that was given again does not know a node that has gone since. */
        if (result->attr != NULL) {
            return buffer_printf(&ctl->answer, " %u", result->attr->version);
        }
        break;
    case CTL_DELETE:
    case CTL_SYNC:
    case CTL_MULTI:
    case CTL_COMMIT:
    case CTL_ABORT:
        break;
    }
    return ctl->multi ? buffer_append(&ctl->answer, " -", 2) : ERR_OK;
}

static enum err append_results(struct ctl *ctl, const Wire__Answer *answer)
{
    if (answer->n_parts != ctl->line_count) {
        return ERR_MALFORMED;
    }
    enum err err = buffer_append(&ctl->answer, "ok", 2);
    for (size_t i = 0; i < ctl->line_count && err == ERR_OK; i++) {
        err = append_result(ctl, &ctl->lines[i], answer->parts[i]);
    }
    return err == ERR_OK ? buffer_append(&ctl->answer, "\n", 1) : err;
}

/* Which of the parts is the reason. */
static size_t failed_part(const Wire__Answer *answer)
{
    for (size_t i = 0; i < answer->n_parts; i++) {
        int32_t err = answer->parts[i]->err;
        if (err != ERR_OK && err != ERR_ROLLED_BACK && err != ERR_NOT_TRIED) {
            return i + 1;
        }
    }
    return 0;
}

/* ---- calls ---- */

static void go_on(struct ctl *ctl);

static void changed(struct task *task, enum err err, const Wire__Answer *answer)
{
    struct ctl *ctl = ctl_of(&task->fi);
    if (err == ERR_OK) {
        err = append_results(ctl, answer);
    } else if (answer != NULL && ctl->multi) {
        ctl->failed_part = failed_part(answer);
    }
    lines_clear(ctl);
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
    } else {
        go_on(ctl);
    }
}

/* The caller as the replicas judge him: only root is spared. */
static void identify(fuse_req_t req, Wire__Identity *out)
{
    static gid_t groups[GROUPS_MAX];
    const struct fuse_ctx *caller = fuse_req_ctx(req);
    int count = fuse_req_getgroups(req, GROUPS_MAX, groups);
    out->trusted = caller->uid == 0;
    out->uid = caller->uid;
    out->gid = caller->gid;
    out->groups = groups;
    out->n_groups = count < 0 ? 0 : count < (int)GROUPS_MAX ? (size_t)count : GROUPS_MAX;
}

/* Sends what stands in ctl->lines as one transaction. */
static void change(struct ctl *ctl)
{
    struct task *task = ctl->task;
    const struct fuse_ctx *caller = fuse_req_ctx(task->req);
    char holder[PROCESS_TEXT_BYTES];
    struct ctl_maker maker = {.uid = caller->uid, .gid = caller->gid, .holder = holder};
    struct ctl_part *parts = calloc(ctl->line_count, sizeof *parts);
    Wire__Part **pointers = calloc(ctl->line_count, sizeof(Wire__Part *));
    Wire__Identity identity = WIRE__IDENTITY__INIT;
    Wire__MultiOp multi = WIRE__MULTI_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    if (parts == NULL || pointers == NULL) {
        lines_clear(ctl);
        task_fail(task, ERR_MEMORY);
        goto out;
    }
    identify(task->req, &identity);
    process_describe(caller->pid, ctl->mount->options->name, holder, sizeof holder);
    for (size_t i = 0; i < ctl->line_count; i++) {
        ctl_line_part(&ctl->lines[i], &maker, &parts[i]);
        pointers[i] = &parts[i].part;
    }
    multi.parts = pointers;
    multi.n_parts = ctl->line_count;
    op.body_case = WIRE__OP__BODY_MULTI;
    op.multi = &multi;
    request.identity = &identity;
    request.tell_me = true; /* The kernel has not done it: it learns of it as of others' changes. */
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    task_call(task, &request, changed);
out:
    free(pointers);
    free(parts);
}

static void synced(struct task *task, enum err err, const Wire__Answer *answer)
{
    struct ctl *ctl = ctl_of(&task->fi);
    if (err == ERR_OK) {
        err = buffer_printf(&ctl->answer, "ok %llu\n", (unsigned long long)answer->zxid);
    } else if (err == ERR_NO_LEADER) {
        err = ERR_TIMEOUT; /* It changes nothing: it is late, not refused. */
    }
    if (err != ERR_OK) {
        task_fail_in_order(task, err);
    } else {
        go_on(ctl);
    }
}

static void synchronize(struct ctl *ctl)
{
    Wire__SyncRead sync = WIRE__SYNC_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    request.body_case = WIRE__REQUEST__BODY_SYNC;
    request.sync = &sync;
    task_call(ctl->task, &request, synced);
}

/* ---- lines ---- */

static enum err refuse(struct ctl *ctl, const char *reason)
{
    ctl->reason = reason;
    return ERR_INVALID;
}

/* A line that changes or checks something. *out_waits: it is on its way. */
static enum err take_change(struct ctl *ctl, struct ctl_line *line, bool *out_waits)
{
    if (ctl->mount->options->read_only && line->verb != CTL_CHECK) {
        ctl_line_done(line);
        ctl->reason = "the mount is read-only";
        return ERR_NO_LEADER; /* EROFS */
    }
    enum err err = lines_add(ctl, line);
    if (err != ERR_OK) {
        return err;
    }
    if (ctl->multi) {
        return buffer_printf(&ctl->answer, "ok queued\n");
    }
    *out_waits = true;
    change(ctl);
    return ERR_OK;
}

static enum err take_commit(struct ctl *ctl, bool *out_waits)
{
    if (!ctl->multi) {
        return refuse(ctl, "there is no transaction: begin one with multi");
    }
    if (ctl->refused) {
        lines_clear(ctl);
        return refuse(ctl, "a line of the transaction was refused: nothing was done");
    }
    if (ctl->line_count == 0) {
        lines_clear(ctl);
        return buffer_printf(&ctl->answer, "ok\n");
    }
    *out_waits = true;
    change(ctl);
    return ERR_OK;
}

static enum err take_line(struct ctl *ctl, struct ctl_line *line, bool *out_waits)
{
    if (ctl_line_has_part(line)) {
        return take_change(ctl, line, out_waits);
    }
    if (line->verb == CTL_COMMIT) {
        return take_commit(ctl, out_waits);
    }
    if (line->verb == CTL_SYNC) {
        *out_waits = true;
        synchronize(ctl);
        return ERR_OK;
    }
    if (line->verb == CTL_MULTI && ctl->multi) {
        return refuse(ctl, "a transaction has begun already");
    }
    lines_clear(ctl);
    ctl->multi = line->verb == CTL_MULTI;
    return buffer_printf(&ctl->answer, "ok\n");
}

/* Takes the next line of the text; empty ones are passed over. False: there is none. */
static bool next_line(struct ctl *ctl, const char **out, size_t *out_len)
{
    while (ctl->at < ctl->text.len) {
        const char *from = (const char *)ctl->text.data + ctl->at;
        const char *end = memchr(from, '\n', ctl->text.len - ctl->at);
        size_t len = end != NULL ? (size_t)(end - from) : ctl->text.len - ctl->at;
        ctl->at += len + 1;
        if (len > 0) {
            *out = from;
            *out_len = len;
            return true;
        }
    }
    return false;
}

/* Carries out lines until one has to wait, or fails, or all are done. */
static void go_on(struct ctl *ctl)
{
    const char *text = NULL;
    size_t len = 0;
    while (next_line(ctl, &text, &len)) {
        struct ctl_line line;
        bool waits = false;
        enum err err = ctl_line_parse(text, len, ctl->mount->options->subtree, &line, &ctl->reason);
        if (err == ERR_OK) {
            ctl->reason = NULL;
            err = take_line(ctl, &line, &waits);
        } else {
            ctl_line_done(&line);
        }
        if (waits) {
            return;
        }
        if (err != ERR_OK) {
            ctl->refused = ctl->multi;
            task_fail(ctl->task, err);
            return;
        }
    }
    order_reply(ctl->task, reply_write);
}

/* ---- operations ---- */

void ctl_open(fuse_req_t req, struct fuse_file_info *fi)
{
    struct ctl *ctl = calloc(1, sizeof *ctl);
    if (ctl == NULL) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    ctl->mount = ops_mount(req);
    fi->fh = (uint64_t)(uintptr_t)ctl;
    fi->direct_io = 1;
    fi->nonseekable = 1;
    fi->noflush = 1;
    device_mark_stream(ctl->mount->device);
    if (fuse_reply_open(req, fi) != 0) {
        free(ctl);
    }
}

void ctl_read(fuse_req_t req, size_t size, const struct fuse_file_info *fi)
{
    struct ctl *ctl = ctl_of(fi);
    size_t rest = ctl->task == NULL ? ctl->answer.len - ctl->read : 0;
    size_t len = rest < size ? rest : size;
    if (fuse_reply_buf(req, (const char *)ctl->answer.data + ctl->read, len) == 0) {
        ctl->read += len;
    }
}

void ctl_write(fuse_req_t req, const char *text, size_t len, const struct fuse_file_info *fi)
{
    struct ctl *ctl = ctl_of(fi);
    if (ctl->task != NULL) {
        (void)fuse_reply_err(req, EAGAIN);
        return;
    }
    struct task *task = task_new(ctl->mount, req, NULL);
    if (task == NULL) {
        return;
    }
    task->fi = *fi;
    task->size = len;
    task->ended = write_ended;
    ctl->task = task;
    ctl->at = 0;
    ctl->reason = NULL;
    ctl->failed_part = 0;
    ctl->read = 0;
    buffer_clear(&ctl->answer);
    buffer_clear(&ctl->text);
    enum err err = buffer_append(&ctl->text, text, len);
    if (err != ERR_OK) {
        task_fail(task, err);
    } else {
        go_on(ctl);
    }
}

void ctl_release(fuse_req_t req, const struct fuse_file_info *fi)
{
    struct ctl *ctl = ctl_of(fi);
    CHECK(ctl->task == NULL);
    lines_clear(ctl);
    free(ctl->lines);
    buffer_done(&ctl->text);
    buffer_done(&ctl->answer);
    free(ctl);
    (void)fuse_reply_err(req, 0);
}
