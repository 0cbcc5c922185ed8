/* SPDX-License-Identifier: Apache-2.0
 *
 * The writing side of the log: open and append. The log thread (or the simulator) hands entries
 * over; they go on to the tail segment with one fdatasync a group. log_cut.c takes entries away.
 *
 * Any failure of a write or sync leaves the log failed: what is on the disk is then unknown, and
 * the process must end (CONSENSUS 6). Nothing more is written through this struct. Only a full disk
 * is told before it has taken anything: then the same work may be tried again (CONSENSUS 31).
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

void log_segments_add(struct log *log, const struct log_header *header)
{
    uint64_t first_index = header->before.index + 1;

    CHECK(log->segment_count < log->segment_capacity);
    CHECK(log->segment_count == 0 || log_tail(log)->first_index < first_index);
    CHECK(pthread_mutex_lock(&log->lock) == 0);
    log->segments[log->segment_count] = (struct log_segment){.first_index = first_index,
                                                             .before = header->before,
                                                             .end = LOG_SECTOR_BYTES,
                                                             .chain = header->checksum};
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
    if (err != ERR_OK && *out_fd >= 0 && (err == ERR_NO_SPACE || err == ERR_UNSUPPORTED)) {
        err = ERR_OK; /* it grows with each write */
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

enum err log_segment_give_up(struct log *log, enum err err, int *fd)
{
    if (err == ERR_NO_SPACE && *fd >= 0 &&
        log_disk_cut(&log->disk, *fd, LOG_SEGMENT_TMP_NAME, 0) != ERR_OK) {
        err = ERR_IO;
    }
    log_disk_close(&log->disk, fd);
    return err;
}

enum err log_segment_make(struct log *log, struct log_header *header, int *out_fd)
{
    uint8_t sector[LOG_SECTOR_BYTES];
    enum err err = log_segments_reserve(log);

    log_header_encode(sector, header);
    if (err == ERR_OK) {
        err = log_segment_begin(log, sizeof(sector), out_fd);
    }
    if (err == ERR_OK) {
        err = log_disk_write(&log->disk, *out_fd, LOG_SEGMENT_TMP_NAME, sector, sizeof(sector), 0);
    }
    if (err == ERR_OK) {
        err = log_segment_publish(log, header->before.index + 1, *out_fd);
    }
    return err == ERR_OK ? err : log_segment_give_up(log, err, out_fd);
}

enum err log_segment_create(struct log *log)
{
    struct log_header header = {.before = log->last, .generation = log->generation};
    int fd = -1;
    enum err err = log_segment_make(log, &header, &fd);

    if (err != ERR_OK) {
        return err;
    }
    log_disk_close(&log->disk, &log->tail_fd);
    log->tail_fd = fd;
    log_segments_add(log, &header);
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
    bool is_low = false;
    enum err err = log_new(options, &log);

    *state = (struct log_state){0};
    if (err != ERR_OK) {
        goto out;
    }
    err = log_space_open(log);
    if (err == ERR_OK) {
        err = log_vote_open(log, state, error);
    }
    if (err == ERR_OK) {
        err = log_recover(log, &state->torn_bytes, error);
    }
    if (err == ERR_OK) {
        err = log_check_space(log, &is_low);
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
    state->before_term = log->before.term;
    *out = log;
    log = NULL;
out:
    log_close(log);
    return err;
}

/* ---- append ---- */

enum err log_write_group(struct log *log, const struct log_group *group)
{
    struct log_segment *tail = log_tail(log);
    char name[LOG_NAME_BYTES];
    enum err err = ERR_OK;

    CHECK_OP(group->bytes, ==, log->group.len);
    log_segment_name(name, tail->first_index);
    err =
        log_disk_write(&log->disk, log->tail_fd, name, log->group.data, log->group.len, tail->end);
    if (err == ERR_NO_SPACE) {
        /* What did fit goes: another group in its place may be shorter. */
        return log_disk_cut(&log->disk, log->tail_fd, name, tail->end) == ERR_OK ? err : ERR_IO;
    }
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
    const struct log_position before = log->last;
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
    err = log_write_group(log, &group);
    if (err == ERR_NO_SPACE) {
        log->last = before;
    }
    return err;
}

enum err log_append(struct log *log, struct raft_entry *const *entries, size_t count)
{
    size_t done = 0;

    if (log->failed) {
        return ERR_IO;
    }
    CHECK(!log->truncation_due);
    for (size_t i = 0; i < count; i++) {
        CHECK_OP(entries[i]->index, ==, log->last.index + 1 + i);
        CHECK_OP(entries[i]->term, >=, i > 0 ? entries[i - 1]->term : log->last.term);
    }
    while (done < count) {
        size_t fit = log_group_fit(entries + done, count - done);
        enum err err = ERR_OK;
        do {
            err = append_group(log, entries + done, fit);
        } while (log_make_room(log, &err));
        if (err != ERR_OK) {
            log->failed = err != ERR_NO_SPACE;
            return err;
        }
        done += fit;
    }
    return ERR_OK;
}
