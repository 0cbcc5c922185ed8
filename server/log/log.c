/* SPDX-License-Identifier: Apache-2.0
 *
 * The writing side of the log: open, append, truncate. The log thread (or the simulator) hands
 * entries over; they go on to the tail segment with one fdatasync a group.
 *
 * Any failure of a write or sync leaves the log failed: what is on the disk is then unknown, and
 * the process must end (CONSENSUS 6). Nothing more is written through this struct.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "server/log/log_internal.h"

struct log_segment *log_tail(struct log *log)
{
    CHECK(log->segment_count > 0);
    return &log->segments[log->segment_count - 1];
}

/* ---- segments ---- */

enum err log_segments_reserve(struct log *log)
{
    size_t capacity = log->segment_capacity == 0 ? 16 : log->segment_capacity * 2;
    struct log_segment *segments = NULL;

    if (log->segment_count < log->segment_capacity) {
        return ERR_OK;
    }
    CHECK(pthread_mutex_lock(&log->lock) == 0);
    segments = realloc(log->segments, capacity * sizeof(*segments));
    if (segments != NULL) {
        log->segments = segments;
        log->segment_capacity = capacity;
    }
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
    return segments != NULL ? ERR_OK : ERR_MEMORY;
}

void log_segments_add(struct log *log, uint64_t first_index, uint64_t checksum)
{
    CHECK(log->segment_count < log->segment_capacity);
    CHECK(log->segment_count == 0 || log_tail(log)->first_index < first_index);
    CHECK(pthread_mutex_lock(&log->lock) == 0);
    log->segments[log->segment_count] = (struct log_segment){
        .first_index = first_index, .end = LOG_SECTOR_BYTES, .chain = checksum};
    log->segment_count++;
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
}

enum err log_segment_begin(struct log *log, uint64_t bytes, int *out_fd)
{
    uint64_t reserve = bytes > log->segment_bytes ? bytes : log->segment_bytes;
    enum err err =
        log_disk_open(&log->disk, LOG_SEGMENT_TMP_NAME, O_RDWR | O_CREAT | O_TRUNC, out_fd);

    if (err == ERR_OK) {
        err = log_disk_reserve(&log->disk, *out_fd, LOG_SEGMENT_TMP_NAME, reserve);
    }
    return err;
}

enum err log_segment_publish(struct log *log, uint64_t first_index, int fd)
{
    char name[LOG_NAME_BYTES];
    enum err err = log_disk_sync(&log->disk, fd, LOG_SEGMENT_TMP_NAME);

    log_segment_name(name, first_index);
    return err == ERR_OK ? log_disk_rename(&log->disk, LOG_SEGMENT_TMP_NAME, name) : err;
}

enum err log_segment_create(struct log *log)
{
    uint8_t header[LOG_SECTOR_BYTES];
    uint64_t checksum = log_header_encode(header, &log->last);
    int fd = -1;
    enum err err = log_segments_reserve(log);

    if (err == ERR_OK) {
        err = log_segment_begin(log, sizeof(header), &fd);
    }
    if (err == ERR_OK) {
        err = log_disk_write(&log->disk, fd, LOG_SEGMENT_TMP_NAME, header, sizeof(header), 0);
    }
    if (err == ERR_OK) {
        err = log_segment_publish(log, log->last.index + 1, fd);
    }
    if (err != ERR_OK) {
        log_disk_close(&log->disk, &fd);
        return err;
    }
    log_disk_close(&log->disk, &log->tail_fd);
    log->tail_fd = fd;
    log_segments_add(log, log->last.index + 1, checksum);
    return ERR_OK;
}

/* ---- open and close ---- */

static enum err log_new(const struct log_options *options, struct log **out)
{
    struct log *log = calloc(1, sizeof(*log));

    if (log == NULL) {
        return ERR_MEMORY;
    }
    CHECK(pthread_mutex_init(&log->lock, /* attributes */ NULL) == 0);
    CHECK(pthread_mutex_init(&log->read_lock, /* attributes */ NULL) == 0);
    log->tail_fd = -1;
    log->vote_fd = -1;
    log->group.max = LOG_GROUP_BYTES_MAX;
    log->segment_bytes = options->segment_bytes != 0 ? options->segment_bytes : LOG_SEGMENT_BYTES;
    log->folder = strdup(options->folder);
    log->disk = (struct log_disk){.io = options->io, .folder = log->folder};
    log_window_init(&log->window, &log->disk);
    *out = log;
    return log->folder != NULL ? ERR_OK : ERR_MEMORY;
}

void log_close(struct log *log)
{
    if (log == NULL) {
        return;
    }
    log_disk_close(&log->disk, &log->tail_fd);
    log_disk_close(&log->disk, &log->vote_fd);
    log_window_done(&log->window);
    for (size_t i = 0; i < log->segment_count; i++) {
        free(log->segments[i].marks);
    }
    free(log->segments);
    buffer_done(&log->group);
    CHECK(pthread_mutex_destroy(&log->lock) == 0);
    CHECK(pthread_mutex_destroy(&log->read_lock) == 0);
    free(log->folder);
    free(log);
}

/* Gives `error` the call that failed, if nothing more precise stands there. */
static void describe(const struct log *log, enum err err, struct buffer *error)
{
    const struct log_failure *failure = &log->disk.failure;
    char text[LOG_TEXT_BYTES];

    if (error == NULL || error->len > 0) {
        return;
    }
    if (failure->call == NULL) {
        failure = &log->window.disk.failure;
    }
    if (failure->call == NULL) {
        (void)buffer_printf(error, "%s: %s", log->folder, err_text(err));
        return;
    }
    log_failure_text(failure, text);
    (void)buffer_printf(error, "%s: %s", log->folder, text);
}

enum err log_open(const struct log_options *options, struct log **out, struct log_state *state,
                  struct buffer *error)
{
    struct log *log = NULL;
    enum err err = log_new(options, &log);

    *state = (struct log_state){0};
    if (err != ERR_OK) {
        goto out;
    }
    err = log_vote_open(log, state, error);
    if (err == ERR_OK) {
        err = log_recover(log, &state->torn_bytes, error);
    }
    if (err != ERR_OK) {
        describe(log, err, error);
        goto out;
    }
    log->last_index = log->last.index;
    state->first_index = log->before.index + 1;
    state->last_index = log->last.index;
    state->last_term = log->last.term;
    state->last_time_ns = log->last.time_ns;
    *out = log;
    log = NULL;
out:
    log_close(log);
    return err;
}

/* ---- append and truncate ---- */

/* Writes the group in log->group behind the tail, syncs it, and lets readers see it. */
static enum err write_group(struct log *log, const struct log_group *group)
{
    struct log_segment *tail = log_tail(log);
    char name[LOG_NAME_BYTES];
    enum err err = ERR_OK;

    CHECK_OP(group->bytes, ==, log->group.len);
    log_segment_name(name, tail->first_index);
    err =
        log_disk_write(&log->disk, log->tail_fd, name, log->group.data, log->group.len, tail->end);
    if (err == ERR_OK) {
        err = log_disk_sync(&log->disk, log->tail_fd, name);
    }
    if (err != ERR_OK) {
        return err;
    }
    CHECK(pthread_mutex_lock(&log->lock) == 0);
    err = log_segment_reserve(tail);
    if (err == ERR_OK) {
        log_segment_add(tail, group);
        log->last_index = log->last.index;
    }
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
    return err;
}

/* Encodes the entries for their place behind the tail. */
static enum err encode_entries(struct log *log, struct raft_entry *const *entries, size_t count)
{
    const struct log_segment *tail = log_tail(log);

    return log_group_encode(&log->group, entries, count, tail->end, tail->chain);
}

/* Whether the group belongs into a new segment. One without living entries (new, or all of it
 * truncated) is never left behind: the next one would get the same name. */
static bool is_full(struct log *log, size_t len)
{
    const struct log_segment *tail = log_tail(log);

    return log->last.index >= tail->first_index && tail->end + len > log->segment_bytes;
}

static enum err append_group(struct log *log, struct raft_entry *const *entries, size_t count)
{
    const struct raft_entry *last = entries[count - 1];
    struct log_group group = {.kind = LOG_GROUP_ENTRIES, .count = (uint32_t)count};
    enum err err = encode_entries(log, entries, count);

    if (err != ERR_OK) {
        return err;
    }
    if (is_full(log, log->group.len)) {
        err = log_segment_create(log);
        if (err == ERR_OK) {
            /* Its place is part of its checksum. */
            err = encode_entries(log, entries, count);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    group.bytes = (uint32_t)log->group.len;
    group.first_index = entries[0]->index;
    group.checksum = log_group_checksum(&log->group);
    log->last = (struct log_position){last->index, last->term, last->time_ns};
    return write_group(log, &group);
}

enum err log_append(struct log *log, struct raft_entry *const *entries, size_t count)
{
    size_t done = 0;

    if (log->failed) {
        return ERR_IO;
    }
    for (size_t i = 0; i < count; i++) {
        CHECK_OP(entries[i]->index, ==, log->last.index + 1 + i);
        CHECK_OP(entries[i]->term, >=, i > 0 ? entries[i - 1]->term : log->last.term);
    }
    while (done < count) {
        size_t fit = log_group_fit(entries + done, count - done);
        enum err err = append_group(log, entries + done, fit);
        if (err != ERR_OK) {
            log->failed = true;
            return err;
        }
        done += fit;
    }
    return ERR_OK;
}

/* Removes the segments that begin behind `index`, newest first: whatever a crash leaves is a log
 * without a hole. Each removal is durable before the next, as folders may be written in any order.
 */
static enum err remove_segments(struct log *log, uint64_t index)
{
    enum err err = ERR_OK;
    char name[LOG_NAME_BYTES];

    if (log_tail(log)->first_index <= index) {
        return ERR_OK;
    }
    log_disk_close(&log->disk, &log->tail_fd);
    while (err == ERR_OK && log_tail(log)->first_index > index) {
        CHECK(pthread_mutex_lock(&log->read_lock) == 0);
        CHECK(pthread_mutex_lock(&log->lock) == 0);
        log_segment_name(name, log_tail(log)->first_index);
        free(log_tail(log)->marks);
        log->segment_count--;
        CHECK(pthread_mutex_unlock(&log->lock) == 0);
        log_window_close(&log->window);
        CHECK(pthread_mutex_unlock(&log->read_lock) == 0);
        err = log_disk_unlink(&log->disk, name);
    }
    if (err == ERR_OK) {
        log_segment_name(name, log_tail(log)->first_index);
        err = log_disk_open(&log->disk, name, O_RDWR, &log->tail_fd);
    }
    return err;
}

static enum err truncate_behind(struct log *log, const struct log_position *before)
{
    struct log_group group = {.kind = LOG_GROUP_TRUNCATION, .first_index = before->index + 1};
    const struct log_segment *tail = NULL;
    enum err err = ERR_OK;

    /* No reader may find what is about to go. */
    CHECK(pthread_mutex_lock(&log->lock) == 0);
    log->last_index = before->index;
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
    log->last = *before;
    err = remove_segments(log, before->index + 1);
    if (err != ERR_OK) {
        return err;
    }
    tail = log_tail(log);
    err = log_group_encode_truncation(&log->group, before, tail->end, tail->chain);
    if (err != ERR_OK) {
        return err;
    }
    group.bytes = (uint32_t)log->group.len;
    group.checksum = log_group_checksum(&log->group);
    return write_group(log, &group);
}

enum err log_truncate(struct log *log, uint64_t index)
{
    struct log_position before = log->before;
    enum err err = ERR_OK;

    if (log->failed) {
        return ERR_IO;
    }
    CHECK_OP(index, >, log->before.index);
    if (index > log->last.index) {
        return ERR_OK;
    }
    if (index - 1 > log->before.index) {
        err = log_position_of(log, index - 1, &before);
        if (err != ERR_OK) {
            log->disk.failure = log->window.disk.failure;
        }
    }
    if (err == ERR_OK) {
        err = truncate_behind(log, &before);
    }
    log->failed = err != ERR_OK;
    return err;
}
