/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams of changes for programs that read. Handed batches by fs/client/watch.c, and asks for the
 * next one when all lines have been read.
 */
#include "fs/mount/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/check.h"
#include "common/parse.h"
#include "fs/client/watch.h"
#include "fs/client/watch_text.h"
#include "fs/mount/device.h"
#include "fs/mount/ops.h"

#define SINCE_WORD "since "

struct stream {
    struct mount *mount;
    struct stream *prev; /* in mount->streams */
    struct stream *next;
    struct client_watch *watch; /* NULL: ended, or not begun */
    uint64_t since;
    bool read; /* where to begin has been settled */
    struct buffer text;
    size_t at; /* in text: what has been read */
    enum err err;
    struct task *reader; /* waits for a line, or NULL */
    struct fuse_pollhandle *poll;
};

static struct stream *stream_of(const struct fuse_file_info *fi)
{
    return (struct stream *)(uintptr_t)fi->fh;
}

/* ---- lines ---- */

/* Gives the reader whole lines, as many as fit, or a part of one that is longer. */
static void reply_lines(struct stream *stream, fuse_req_t req, size_t size)
{
    const char *text = (const char *)stream->text.data + stream->at;
    size_t len = stream->text.len - stream->at;
    if (len > size) {
        const char *end = memrchr(text, '\n', size);
        len = end != NULL ? (size_t)(end - text) + 1 : size;
    }
    if (fuse_reply_buf(req, text, len) == 0) {
        stream->at += len;
    }
    if (stream->at == stream->text.len) {
        buffer_clear(&stream->text);
        stream->at = 0;
        if (stream->watch != NULL) {
            client_watch_more(stream->watch);
        }
    }
}

static bool has_lines(const struct stream *stream)
{
    return stream->at < stream->text.len;
}

/* Something has come, or the watch has ended. */
static void wake(struct stream *stream)
{
    struct task *reader = stream->reader;
    if (reader != NULL && (has_lines(stream) || stream->err != ERR_OK)) {
        stream->reader = NULL;
        if (has_lines(stream)) {
            reply_lines(stream, reader->req, reader->size);
            task_end(reader);
        } else {
            task_fail(reader, stream->err);
        }
    }
    if (stream->poll != NULL) {
        (void)fuse_lowlevel_notify_poll(stream->poll);
        fuse_pollhandle_destroy(stream->poll);
        stream->poll = NULL;
    }
}

static void on_changes(void *arg, Wire__Change *const *changes, size_t count)
{
    struct stream *stream = arg;
    const char *root = stream->mount->options->subtree;
    for (size_t i = 0; i < count && stream->err == ERR_OK; i++) {
        stream->err = watch_text_change(changes[i], root, &stream->text);
    }
    wake(stream);
}

static void on_gap(void *arg, uint64_t from, uint64_t to)
{
    struct stream *stream = arg;
    stream->err = watch_text_gap(from, to, &stream->text);
    wake(stream);
}

static void on_failed(void *arg, enum err err)
{
    struct stream *stream = arg;
    stream->err = err;
    wake(stream);
}

static enum err begin(struct stream *stream)
{
    const char *root = stream->mount->options->subtree;
    const struct client_watch_options options = {.path = root,
                                                 .path_len = strlen(root),
                                                 .recursive = true,
                                                 .has_since = true,
                                                 .since_zxid = stream->since,
                                                 .changes = on_changes,
                                                 .gap = on_gap,
                                                 .failed = on_failed,
                                                 .arg = stream};
    enum err err = client_watch(stream->mount->client, &options, &stream->watch);
    if (err == ERR_OK) {
        client_watch_more(stream->watch);
    }
    return err;
}

/* From here on the start is settled. */
static void settle(struct stream *stream)
{
    if (!stream->read) {
        stream->read = true;
        stream->err = begin(stream);
    }
}

/* ---- operations ---- */

void stream_open(fuse_req_t req, uint64_t since, struct fuse_file_info *fi)
{
    struct mount *mount = ops_mount(req);
    struct client_status status;
    struct stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    client_status(mount->client, &status);
    stream->mount = mount;
    stream->since = since == STREAM_FROM_NOW ? status.zxid_seen : since;
    DL_APPEND(mount->streams, stream);
    fi->fh = (uint64_t)(uintptr_t)stream;
    fi->direct_io = 1;
    fi->nonseekable = 1;
    fi->noflush = 1;
    device_mark_stream(mount->device);
    if (fuse_reply_open(req, fi) != 0) {
        DL_DELETE(mount->streams, stream);
        free(stream);
    }
}

static void reader_ended(struct task *task)
{
    struct stream *stream = NULL;
    DL_FOREACH(task->mount->streams, stream)
    {
        if (stream->reader == task) {
            stream->reader = NULL;
        }
    }
}

void stream_read(fuse_req_t req, size_t size, const struct fuse_file_info *fi)
{
    struct stream *stream = stream_of(fi);
    settle(stream);
    if (has_lines(stream)) {
        reply_lines(stream, req, size);
        return;
    }
    if (stream->err != ERR_OK) {
        (void)fuse_reply_err(req, task_errno(stream->err));
        return;
    }
    if ((fi->flags & O_NONBLOCK) != 0 || stream->reader != NULL) {
        (void)fuse_reply_err(req, EAGAIN);
        return;
    }
    struct task *task = task_new(stream->mount, req, NULL);
    if (task != NULL) {
        task->size = size;
        task->ended = reader_ended;
        stream->reader = task;
    }
}

void stream_write(fuse_req_t req, const char *text, size_t len, const struct fuse_file_info *fi)
{
    struct stream *stream = stream_of(fi);
    char line[64];
    size_t word = sizeof SINCE_WORD - 1;
    if (stream->read || len >= sizeof line) {
        (void)fuse_reply_err(req, EINVAL);
        return;
    }
    memcpy(line, text, len);
    line[len] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, SINCE_WORD, word) != 0 ||
        parse_u64(line + word, 0, UINT64_MAX - 1, &stream->since) != ERR_OK) {
        (void)fuse_reply_err(req, EINVAL);
        return;
    }
    settle(stream);
    (void)fuse_reply_write(req, len);
}

void stream_poll(fuse_req_t req, const struct fuse_file_info *fi, struct fuse_pollhandle *handle)
{
    struct stream *stream = stream_of(fi);
    settle(stream);
    if (handle != NULL) {
        if (stream->poll != NULL) {
            fuse_pollhandle_destroy(stream->poll);
        }
        stream->poll = handle;
    }
    bool ready = has_lines(stream) || stream->err != ERR_OK;
    (void)fuse_reply_poll(req, ready ? POLLIN | POLLRDNORM : 0);
}

static void stop(struct stream *stream)
{
    if (stream->watch != NULL) {
        client_watch_end(stream->watch);
        stream->watch = NULL;
    }
    stream->err = stream->err == ERR_OK ? ERR_CLOSED : stream->err;
}

void stream_release(fuse_req_t req, const struct fuse_file_info *fi)
{
    struct stream *stream = stream_of(fi);
    CHECK(stream->reader == NULL);
    stop(stream);
    DL_DELETE(stream->mount->streams, stream);
    if (stream->poll != NULL) {
        fuse_pollhandle_destroy(stream->poll);
    }
    buffer_done(&stream->text);
    free(stream);
    (void)fuse_reply_err(req, 0);
}

void stream_end_all(struct mount *mount)
{
    struct stream *stream = NULL;
    DL_FOREACH(mount->streams, stream)
    {
        stop(stream);
    }
}
