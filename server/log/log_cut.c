/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking entries away from the log: the newest ones (truncate), the oldest ones (compact), or all
 * of them (reset). The log thread, the simulator or the start of a replica hands the index over;
 * what it takes goes on to the segments that log.c has made.
 *
 * Invariants:
 *   1. A segment leaves the table before its file goes: no reader opens a name that is gone.
 *   2. Of a log of several segments whole ones go from one end only, each durably before the next:
 *      what a crash leaves is a log without a hole.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "server/log/log_internal.h"

/* After the first step of a change a full disk is like any other failure. */
static enum err final(enum err err)
{
    return err == ERR_NO_SPACE ? ERR_IO : err;
}

/* Takes a segment out of the table and removes its file. */
static enum err remove_segment(struct log *log, size_t at)
{
    char name[LOG_NAME_BYTES];

    CHECK(at < log->segment_count && log->segment_count > 1);
    log_segment_name(name, log->segments[at].first_index);
    CHECK(pthread_mutex_lock(&log->read_lock) == 0);
    CHECK(pthread_mutex_lock(&log->lock) == 0);
    free(log->segments[at].marks);
    log->segment_count--;
    memmove(&log->segments[at], &log->segments[at + 1],
            (log->segment_count - at) * sizeof(*log->segments));
    log->before = log->segments[0].before;
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
    log_window_close(&log->window);
    CHECK(pthread_mutex_unlock(&log->read_lock) == 0);
    return final(log_disk_unlink(&log->disk, name));
}

/* ---- truncate ---- */

/* Removes the segments that begin behind `index`, newest first. */
static enum err remove_newest(struct log *log, uint64_t index)
{
    enum err err = ERR_OK;
    char name[LOG_NAME_BYTES];

    if (log_tail(log)->first_index <= index) {
        return ERR_OK;
    }
    log_disk_close(&log->disk, &log->tail_fd);
    while (err == ERR_OK && log_tail(log)->first_index > index) {
        err = remove_segment(log, log->segment_count - 1);
    }
    if (err == ERR_OK) {
        log_segment_name(name, log_tail(log)->first_index);
        err = final(log_disk_open(&log->disk, name, O_RDWR, &log->tail_fd));
    }
    return err;
}

/* Cuts what readers see, and whole segments. */
static enum err truncate_behind(struct log *log, const struct log_position *before)
{
    /* No reader may find what is about to go. */
    CHECK(pthread_mutex_lock(&log->lock) == 0);
    log->last_index = before->index;
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
    log->last = *before;
    log->truncation_due = true;
    return remove_newest(log, before->index + 1);
}

/* Writes that the entries behind log->last do not count any more. */
static enum err write_truncation(struct log *log)
{
    const struct log_segment *tail = log_tail(log);
    struct log_group group = {.kind = LOG_GROUP_TRUNCATION, .first_index = log->last.index + 1};
    enum err err = log_group_encode_truncation(&log->group, &log->last, tail->end, tail->chain);

    if (err != ERR_OK) {
        return err;
    }
    group.bytes = (uint32_t)log->group.len;
    group.checksum = log_group_checksum(&log->group);
    return log_write_group(log, &group);
}

enum err log_truncate(struct log *log, uint64_t index)
{
    struct log_position before = log->before;
    enum err err = ERR_OK;

    if (log->failed) {
        return ERR_IO;
    }
    CHECK_OP(index, >, log->before.index);
    CHECK(!log->truncation_due || index == log->last.index + 1);
    if (!log->truncation_due) {
        if (index > log->last.index) {
            return ERR_OK;
        }
        if (index - 1 > log->before.index) {
            err = final(log_position_of(log, index - 1, &before));
            log->disk.failure = err != ERR_OK ? log->window.disk.failure : log->disk.failure;
        }
        if (err == ERR_OK) {
            err = truncate_behind(log, &before);
        }
    }
    if (err == ERR_OK) {
        do {
            err = write_truncation(log);
        } while (log_make_room(log, &err));
    }
    log->truncation_due = err == ERR_NO_SPACE;
    log->failed = err != ERR_OK && err != ERR_NO_SPACE;
    return err;
}

/* ---- compact ---- */

/* Whether all entries of the only segment may go, and there are any. */
static bool all_may_go(struct log *log, uint64_t index)
{
    return log->segment_count == 1 && !log->truncation_due && index > log->last.index &&
           log->last.index >= log_tail(log)->first_index;
}

enum err log_compact(struct log *log, uint64_t index)
{
    enum err err = ERR_OK;

    if (log->failed) {
        return ERR_IO;
    }
    while (err == ERR_OK && log->segment_count > 1 && log->segments[1].first_index <= index) {
        err = remove_segment(log, 0);
    }
    if (err == ERR_OK && all_may_go(log, index)) {
        do {
            err = log_segment_create(log);
        } while (log_make_room(log, &err));
        if (err == ERR_OK) {
            err = remove_segment(log, 0);
        }
    }
    log->failed = err != ERR_OK && err != ERR_NO_SPACE;
    return err;
}

/* ---- reset ---- */

/* Removes the files of all segments but that of the name. They are of an older generation than
 * that one: should some stay, the next start removes them. */
static enum err remove_others(struct log *log, uint64_t first_index)
{
    enum err err = ERR_OK;

    for (size_t i = 0; i < log->segment_count && err == ERR_OK; i++) {
        char name[LOG_NAME_BYTES];
        log_segment_name(name, log->segments[i].first_index);
        if (log->segments[i].first_index != first_index) {
            err = final(log_disk_unlink(&log->disk, name));
        }
    }
    return err;
}

/* The segment becomes the only one in the table. */
static void begin_with(struct log *log, const struct log_header *header)
{
    CHECK(pthread_mutex_lock(&log->lock) == 0);
    for (size_t i = 0; i < log->segment_count; i++) {
        free(log->segments[i].marks);
    }
    log->segment_count = 0;
    log->before = header->before;
    log->last_index = header->before.index;
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
    log_segments_add(log, header);
    log->last = header->before;
    log->generation = header->generation;
    log->truncation_due = false;
}

enum err log_reset(struct log *log, uint64_t index, uint64_t term)
{
    struct log_header header = {.before = {.index = index, .term = term},
                                .generation = log->generation + 1};
    int fd = -1;
    enum err err = ERR_OK;

    CHECK(index < UINT64_MAX && (index > 0 || term == 0));
    if (log->failed) {
        return ERR_IO;
    }
    do {
        err = log_segment_make(log, &header, &fd);
    } while (log_make_room(log, &err));
    if (err == ERR_NO_SPACE) {
        return err;
    }
    if (err == ERR_OK) {
        CHECK(pthread_mutex_lock(&log->read_lock) == 0);
        log_window_close(&log->window);
        CHECK(pthread_mutex_unlock(&log->read_lock) == 0);
        log_disk_close(&log->disk, &log->tail_fd);
        log->tail_fd = fd;
        err = remove_others(log, index + 1);
        begin_with(log, &header);
    }
    log->failed = err != ERR_OK;
    return err;
}
