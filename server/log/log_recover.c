/* SPDX-License-Identifier: Apache-2.0
 *
 * What a start makes of the segment files: every group is checked, a torn last one is dropped,
 * anything else that is damaged is refused. Called by log_open; hands on to log.c.
 *
 *     whole group                      -> taken into the index
 *     only zeros to the end of file    -> the end
 *     bad, last segment, nothing whole behind it -> torn: dropped
 *     bad, anything else               -> ERR_CORRUPT: it was durable once, and others count on it
 *     a gap between two segments       -> ERR_CORRUPT
 *     segments of an older generation  -> removed: the log was reset
 *
 * At most one group is ever unsynced (CONSENSUS 9), and a segment is begun only when all before it
 * is synced, so a torn group is the last. A changed bit in the last group looks the same.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "server/log/log_internal.h"

#define COPY_BYTES (256u * KIB)

struct recovery {
    struct log *log;
    struct buffer *error;
    uint64_t size; /* of the file at hand */
    bool is_last;
    uint64_t torn_bytes;
};

/* One sentence about the segment at hand. */
static enum err corrupt(struct recovery *recovery, uint64_t offset, const char *what,
                        uint64_t found, uint64_t expected)
{
    const struct log *log = recovery->log;
    char name[LOG_NAME_BYTES];

    log_segment_name(name, log->window.segment);
    if (recovery->error != NULL) {
        (void)buffer_printf(recovery->error,
                            "%s/%s: %s at offset %" PRIu64 " (found %" PRIu64 ", expected %" PRIu64
                            "): the log is damaged, this replica must be rebuilt from its peers",
                            log->folder, name, what, offset, found, expected);
    }
    return ERR_CORRUPT;
}

/* ---- groups ---- */

/* Reads the group at `offset` if a whole one is there. */
static enum err group_at(struct recovery *recovery, uint64_t offset, struct log_group *out,
                         const uint8_t **out_bytes, bool *out_whole)
{
    struct log_window *window = &recovery->log->window;
    enum err err = ERR_OK;

    *out_whole = false;
    if (recovery->size - offset < LOG_SECTOR_BYTES) {
        return ERR_OK;
    }
    err = log_window_get(window, offset, LOG_SECTOR_BYTES, recovery->size, out_bytes);
    if (err != ERR_OK || !log_group_peek(*out_bytes, offset, recovery->size, out)) {
        return err;
    }
    err = log_window_get(window, offset, out->bytes, recovery->size, out_bytes);
    if (err == ERR_OK) {
        *out_whole = log_group_is_whole(*out_bytes, out);
    }
    return err;
}

/* Checks that the entries follow the last one, and makes the last of them the last. */
static enum err take_entries(struct recovery *recovery, const struct log_group *group,
                             const uint8_t *bytes)
{
    struct log_position *last = &recovery->log->last;
    uint64_t offset = log_tail(recovery->log)->end;
    struct log_entry_view entry;
    size_t position = 0;

    if (group->first_index != last->index + 1 || group->count == 0) {
        return corrupt(recovery, offset, "a group out of sequence", group->first_index,
                       last->index + 1);
    }
    for (uint32_t i = 0; i < group->count; i++) {
        if (!log_entry_next(bytes, group, &position, &entry)) {
            return corrupt(recovery, offset, "a group with too few entries", i, group->count);
        }
        if (entry.at.index != last->index + 1) {
            return corrupt(recovery, offset, "an entry out of sequence", entry.at.index,
                           last->index + 1);
        }
        if (entry.at.term < last->term) {
            return corrupt(recovery, offset, "an entry of an older term", entry.at.term,
                           last->term);
        }
        *last = entry.at;
    }
    return ERR_OK;
}

static enum err take_truncation(struct recovery *recovery, const struct log_group *group,
                                const uint8_t *bytes)
{
    struct log_position *last = &recovery->log->last;
    const struct log_segment *tail = log_tail(recovery->log);
    struct log_entry_view before;
    size_t position = 0;

    if (group->first_index < tail->first_index || group->first_index > last->index) {
        return corrupt(recovery, tail->end, "a truncation out of range", group->first_index,
                       last->index);
    }
    if (!log_entry_next(bytes, group, &position, &before) ||
        before.at.index + 1 != group->first_index) {
        return corrupt(recovery, tail->end, "a malformed truncation", before.at.index,
                       group->first_index - 1);
    }
    *last = before.at;
    return ERR_OK;
}

static enum err take_group(struct recovery *recovery, const struct log_group *group,
                           const uint8_t *bytes)
{
    struct log_segment *tail = log_tail(recovery->log);
    enum err err = ERR_OK;

    if (group->chain != tail->chain) {
        return corrupt(recovery, tail->end, "a group whose predecessor is missing", group->chain,
                       tail->chain);
    }
    err = group->kind == LOG_GROUP_ENTRIES ? take_entries(recovery, group, bytes)
                                           : take_truncation(recovery, group, bytes);
    if (err == ERR_OK) {
        err = log_segment_reserve(tail);
    }
    if (err == ERR_OK) {
        log_segment_add(tail, group);
    }
    return err;
}

/* No whole group begins at tail->end: the end of the log, a torn group, or damage. */
static enum err judge_rest(struct recovery *recovery)
{
    static const uint8_t zeros[LOG_SECTOR_BYTES];
    struct log_window *window = &recovery->log->window;
    uint64_t end = log_tail(recovery->log)->end;
    uint64_t used = end; /* behind the last sector that is not zero */

    for (uint64_t at = end; at < recovery->size; at += LOG_SECTOR_BYTES) {
        uint64_t left = recovery->size - at;
        size_t len = left < LOG_SECTOR_BYTES ? (size_t)left : LOG_SECTOR_BYTES;
        const uint8_t *bytes = NULL;
        struct log_group group;
        bool is_whole = false;
        enum err err = log_window_get(window, at, len, recovery->size, &bytes);
        if (err != ERR_OK) {
            return err;
        }
        if (memcmp(bytes, zeros, len) == 0) {
            continue;
        }
        used = at + len;
        err = group_at(recovery, at, &group, &bytes, &is_whole);
        if (err != ERR_OK) {
            return err;
        }
        if (is_whole) {
            return corrupt(recovery, end, "a damaged group with a whole one behind it", at, end);
        }
    }
    if (used > end && !recovery->is_last) {
        return corrupt(recovery, end, "a damaged group before the last segment", used, end);
    }
    recovery->torn_bytes = used - end;
    return ERR_OK;
}

/* ---- segments ---- */

/* Opens a segment in log->window and reads its header. */
static enum err open_segment(struct recovery *recovery, uint64_t first_index,
                             struct log_header *out)
{
    struct log *log = recovery->log;
    char name[LOG_NAME_BYTES];
    const uint8_t *bytes = NULL;
    enum err err = log_window_open(&log->window, first_index);

    log_segment_name(name, first_index);
    if (err == ERR_OK) {
        err = log_disk_size(&log->window.disk, log->window.fd, name, &recovery->size);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (recovery->size < LOG_SECTOR_BYTES) {
        return corrupt(recovery, 0, "no segment header", recovery->size, LOG_SECTOR_BYTES);
    }
    err = log_window_get(&log->window, 0, LOG_SECTOR_BYTES, recovery->size, &bytes);
    if (err != ERR_OK) {
        return err;
    }
    /* A segment gets its name only when its header is durable. */
    if (!log_header_decode(bytes, out)) {
        return corrupt(recovery, 0, "a bad segment header", get_be64(bytes + 16), first_index);
    }
    if (out->before.index + 1 != first_index) {
        return corrupt(recovery, 0, "a header of another segment", out->before.index + 1,
                       first_index);
    }
    return ERR_OK;
}

/* The header must follow what is there. */
static enum err take_header(struct recovery *recovery, const struct log_header *header)
{
    struct log *log = recovery->log;
    const struct log_position *before = &header->before;
    enum err err = ERR_OK;

    if (log->segment_count == 0) {
        log->before = *before;
        log->last = *before;
    } else if (before->index != log->last.index) {
        return corrupt(recovery, 0, "a hole in front of the first index", before->index + 1,
                       log->last.index + 1);
    } else if (before->term != log->last.term) {
        return corrupt(recovery, 0, "another term in front of the first index", before->term,
                       log->last.term);
    }
    err = log_segments_reserve(log);
    if (err == ERR_OK) {
        log_segments_add(log, header);
    }
    return err;
}

static enum err recover_segment(struct recovery *recovery, uint64_t first_index)
{
    struct log *log = recovery->log;
    struct log_header header;
    bool is_whole = true;
    enum err err = open_segment(recovery, first_index, &header);

    if (err == ERR_OK) {
        err = take_header(recovery, &header);
    }
    while (err == ERR_OK && is_whole) {
        struct log_group group;
        const uint8_t *bytes = NULL;
        err = group_at(recovery, log_tail(log)->end, &group, &bytes, &is_whole);
        if (err == ERR_OK && is_whole) {
            err = take_group(recovery, &group, bytes);
        }
    }
    return err == ERR_OK ? judge_rest(recovery) : err;
}

/* Writes what is whole of the tail to tail_fd. */
static enum err write_tail(struct log *log, const char *name)
{
    const struct log_segment *tail = log_tail(log);
    enum err err = ERR_OK;

    for (uint64_t at = 0; at < tail->end && err == ERR_OK; at += COPY_BYTES) {
        uint64_t left = tail->end - at;
        size_t len = left < COPY_BYTES ? (size_t)left : COPY_BYTES;
        const uint8_t *bytes = NULL;
        err = log_window_get(&log->window, at, len, tail->end, &bytes);
        if (err == ERR_OK) {
            err = log_disk_write(&log->disk, log->tail_fd, name, bytes, len, at);
        }
    }
    return err;
}

/* Writes what is whole of the tail to a new file: pages that an earlier failed sync left in memory
 * only are then truly on disk, and behind the end are zeros again (CONSENSUS 6). */
static enum err make_tail_anew(struct log *log)
{
    const struct log_segment *tail = log_tail(log);
    enum err err = log_segment_begin(log, tail->end, &log->tail_fd);

    if (err == ERR_OK) {
        err = write_tail(log, LOG_SEGMENT_TMP_NAME);
    }
    if (err == ERR_OK) {
        err = log_segment_publish(log, tail->first_index, log->tail_fd);
    }
    return err == ERR_OK ? err : log_segment_give_up(log, err, &log->tail_fd);
}

/* The same without space for a new file: the same bytes into the same blocks. A crash within
 * leaves each sector as it is seen now or as it was durable before, so nothing that was durable
 * goes, and nothing else was trusted. */
static enum err renew_tail_in_place(struct recovery *recovery)
{
    struct log *log = recovery->log;
    char name[LOG_NAME_BYTES];
    enum err err = ERR_OK;

    log_segment_name(name, log_tail(log)->first_index);
    err = log_disk_open(&log->disk, name, O_RDWR, &log->tail_fd);
    if (err == ERR_OK) {
        err = write_tail(log, name);
    }
    if (err == ERR_OK && recovery->torn_bytes != 0) {
        err = log_disk_cut(&log->disk, log->tail_fd, name, log_tail(log)->end);
    }
    return err == ERR_OK ? log_disk_sync(&log->disk, log->tail_fd, name) : err;
}

static enum err renew_tail(struct recovery *recovery)
{
    struct log *log = recovery->log;
    enum err err = ERR_OK;

    do {
        err = make_tail_anew(log);
    } while (log_make_room(log, &err));
    if (err == ERR_NO_SPACE) {
        err = renew_tail_in_place(recovery);
    }
    /* It shows the file that may be gone. */
    log_window_close(&log->window);
    return err;
}

/* ---- the folder ---- */

struct listed {
    uint64_t first_index;
    uint32_t generation;
};

struct listing {
    struct listed *segment;
    size_t count;
    size_t capacity;
    bool no_memory;
};

static void note_segment(void *arg, const char *name)
{
    struct listing *listing = arg;
    uint64_t first_index = 0;

    if (!log_segment_parse_name(name, &first_index)) {
        return;
    }
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity == 0 ? 16 : listing->capacity * 2;
        struct listed *more = realloc(listing->segment, capacity * sizeof(*more));
        if (more == NULL) {
            listing->no_memory = true;
            return;
        }
        listing->segment = more;
        listing->capacity = capacity;
    }
    listing->segment[listing->count] = (struct listed){.first_index = first_index};
    listing->count++;
}

static int compare(const void *a, const void *b)
{
    uint64_t left = ((const struct listed *)a)->first_index;
    uint64_t right = ((const struct listed *)b)->first_index;

    return (left > right) - (left < right);
}

/* Removes what a reset of the log has left, and sorts the rest. */
static enum err drop_old_generations(struct recovery *recovery, struct listing *listing)
{
    struct log *log = recovery->log;
    size_t kept = 0;
    enum err err = ERR_OK;

    for (size_t i = 0; i < listing->count && err == ERR_OK; i++) {
        struct listed *segment = &listing->segment[i];
        struct log_header header = {.generation = 0};
        err = open_segment(recovery, segment->first_index, &header);
        segment->generation = header.generation;
        if (segment->generation > log->generation) {
            log->generation = segment->generation;
        }
    }
    log_window_close(&log->window);
    for (size_t i = 0; i < listing->count && err == ERR_OK; i++) {
        char name[LOG_NAME_BYTES];
        if (listing->segment[i].generation == log->generation) {
            listing->segment[kept] = listing->segment[i];
            kept++;
            continue;
        }
        log_segment_name(name, listing->segment[i].first_index);
        err = log_disk_unlink(&log->disk, name);
    }
    listing->count = kept;
    qsort(listing->segment, listing->count, sizeof(*listing->segment), compare);
    return err;
}

enum err log_recover(struct log *log, uint64_t *out_torn_bytes, struct buffer *error)
{
    struct recovery recovery = {.log = log, .error = error};
    struct listing listing = {0};
    enum err err = log_disk_list(&log->disk, note_segment, &listing);

    if (err == ERR_OK && listing.no_memory) {
        err = ERR_MEMORY;
    }
    if (err != ERR_OK) {
        goto out;
    }
    if (listing.count == 0) {
        do {
            err = log_segment_create(log);
        } while (log_make_room(log, &err));
        goto out;
    }
    err = drop_old_generations(&recovery, &listing);
    for (size_t i = 0; i < listing.count && err == ERR_OK; i++) {
        recovery.is_last = i + 1 == listing.count;
        err = recover_segment(&recovery, listing.segment[i].first_index);
    }
    if (err == ERR_OK) {
        err = renew_tail(&recovery);
    }
    *out_torn_bytes = recovery.torn_bytes;
out:
    free(listing.segment);
    return err;
}
