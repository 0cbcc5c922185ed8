/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading durable entries back: for the apply after a start and for slow followers. Called from
 * the loop while the log thread writes, and by log.c for the entry before a cut.
 *
 * A reader never shares a descriptor with the writer and never looks behind a durable end, so what
 * it reads does not change under it. Only what removes whole files must keep it out (log_cut.c
 * takes read_lock for that).
 */
#include <fcntl.h>
#include <string.h>

#include "common/check.h"
#include "server/log/log_internal.h"

/* One read: entries of a follower's append message come from few system calls. */
#define WINDOW_BYTES (256u * KIB)

/* ---- the window ---- */

void log_window_init(struct log_window *window, const struct log_disk *disk)
{
    *window = (struct log_window){.disk = {.io = disk->io, .folder = disk->folder}, .fd = -1};
}

void log_window_close(struct log_window *window)
{
    log_disk_close(&window->disk, &window->fd);
    buffer_clear(&window->bytes);
}

void log_window_done(struct log_window *window)
{
    log_window_close(window);
    buffer_done(&window->bytes);
}

enum err log_window_open(struct log_window *window, uint64_t segment)
{
    char name[LOG_NAME_BYTES];

    if (window->fd >= 0 && window->segment == segment) {
        return ERR_OK;
    }
    log_window_close(window);
    log_segment_name(name, segment);
    window->segment = segment;
    return log_disk_open(&window->disk, name, O_RDONLY, &window->fd);
}

enum err log_window_get(struct log_window *window, uint64_t offset, size_t len, uint64_t end,
                        const uint8_t **out)
{
    struct buffer *bytes = &window->bytes;
    char name[LOG_NAME_BYTES];
    size_t wanted = len > WINDOW_BYTES ? len : WINDOW_BYTES;
    enum err err = ERR_OK;

    CHECK(window->fd >= 0 && offset <= end && len <= end - offset);
    if (offset < window->offset || offset - window->offset > bytes->len ||
        len > bytes->len - (size_t)(offset - window->offset)) {
        wanted = wanted > end - offset ? (size_t)(end - offset) : wanted;
        buffer_clear(bytes);
        if (buffer_reserve(bytes, wanted) == NULL) {
            return ERR_MEMORY;
        }
        log_segment_name(name, window->segment);
        err = log_disk_read(&window->disk, window->fd, name, bytes->data, wanted, offset);
        if (err != ERR_OK) {
            return err;
        }
        bytes->len = wanted;
        window->offset = offset;
    }
    *out = bytes->data + (offset - window->offset);
    return ERR_OK;
}

/* ---- entries ---- */

/* Where to look for an index, and up to which it may be looked for there. */
static enum err locate(struct log *log, uint64_t index, struct log_stretch *out)
{
    enum err err = ERR_NO_NODE;

    CHECK(pthread_mutex_lock(&log->lock) == 0);
    if (index > log->before.index && index <= log->last_index) {
        size_t i = log->segment_count - 1;
        while (log->segments[i].first_index > index) {
            CHECK(i > 0);
            i--;
        }
        log_segment_find(&log->segments[i], index, out);
        uint64_t index_end =
            i + 1 < log->segment_count ? log->segments[i + 1].first_index : log->last_index + 1;
        out->index_end = out->index_end < index_end ? out->index_end : index_end;
        err = ERR_OK;
    }
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
    return err;
}

struct walk {
    uint64_t index; /* the next one wanted */
    /* Takes one entry; false: enough. */
    bool (*take)(void *arg, const struct log_entry_view *entry, enum err *err);
    void *arg;
};

/* Hands the entries of one group to walk->take, from walk->index on. */
static enum err walk_group(struct walk *walk, const uint8_t *bytes, const struct log_group *group,
                           uint64_t index_end, bool *out_more)
{
    struct log_entry_view entry;
    size_t position = 0;
    enum err err = ERR_OK;

    for (uint32_t i = 0; i < group->count && walk->index < index_end; i++) {
        if (!log_entry_next(bytes, group, &position, &entry) ||
            entry.at.index != group->first_index + i) {
            return ERR_CORRUPT;
        }
        if (entry.at.index < walk->index) {
            continue;
        }
        *out_more = walk->take(walk->arg, &entry, &err);
        if (err != ERR_OK || !*out_more) {
            return err;
        }
        walk->index++;
    }
    return ERR_OK;
}

/* Walks the groups of one stretch. The caller holds read_lock. */
static enum err walk_stretch(struct log *log, struct walk *walk, const struct log_stretch *stretch,
                             bool *out_more)
{
    struct log_window *window = &log->window;
    uint64_t offset = stretch->offset;
    enum err err = log_window_open(window, stretch->segment);

    while (err == ERR_OK && *out_more && walk->index < stretch->index_end) {
        const uint8_t *bytes = NULL;
        struct log_group group;
        /* The group with the index was durable, so it must be met before the end. */
        if (offset >= stretch->end) {
            return ERR_CORRUPT;
        }
        err = log_window_get(window, offset, LOG_SECTOR_BYTES, stretch->end, &bytes);
        if (err != ERR_OK) {
            break;
        }
        if (!log_group_peek(bytes, offset, stretch->end, &group)) {
            return ERR_CORRUPT;
        }
        if (group.kind == LOG_GROUP_ENTRIES && walk->index < group.first_index + group.count) {
            if (walk->index < group.first_index) {
                return ERR_CORRUPT;
            }
            err = log_window_get(window, offset, group.bytes, stretch->end, &bytes);
            if (err == ERR_OK && !log_group_is_whole(bytes, &group)) {
                return ERR_CORRUPT;
            }
            if (err == ERR_OK) {
                err = walk_group(walk, bytes, &group, stretch->index_end, out_more);
            }
        }
        offset += group.bytes;
    }
    return err;
}

/* Walks from walk->index to the end or until it is enough. ERR_NO_NODE: nothing was there. */
static enum err walk_log(struct log *log, struct walk *walk)
{
    struct log_stretch stretch;
    uint64_t start = walk->index;
    bool more = true;
    enum err err = ERR_OK;

    CHECK(pthread_mutex_lock(&log->read_lock) == 0);
    while (err == ERR_OK && more) {
        err = locate(log, walk->index, &stretch);
        if (err == ERR_OK) {
            err = walk_stretch(log, walk, &stretch, &more);
        }
    }
    CHECK(pthread_mutex_unlock(&log->read_lock) == 0);
    return err == ERR_NO_NODE && walk->index > start ? ERR_OK : err;
}

struct reading {
    size_t bytes_left;
    size_t count_max;
    struct raft_entry **out;
    size_t count;
};

static bool take_entry(void *arg, const struct log_entry_view *view, enum err *err)
{
    struct reading *reading = arg;
    struct raft_entry *entry = NULL;

    if (reading->count > 0 && view->len > reading->bytes_left) {
        return false;
    }
    entry = raft_entry_new(view->type, view->data, view->len);
    if (entry == NULL) {
        *err = ERR_MEMORY;
        return false;
    }
    entry->index = view->at.index;
    entry->term = view->at.term;
    entry->time_ns = view->at.time_ns;
    reading->out[reading->count] = entry;
    reading->count++;
    reading->bytes_left -= view->len < reading->bytes_left ? view->len : reading->bytes_left;
    return reading->count < reading->count_max;
}

enum err log_read(struct log *log, uint64_t index, size_t bytes_max, size_t count_max,
                  struct raft_entry **out, size_t *out_count)
{
    struct reading reading = {.bytes_left = bytes_max, .count_max = count_max, .out = out};
    struct walk walk = {.index = index, .take = take_entry, .arg = &reading};
    enum err err = ERR_OK;

    CHECK(count_max > 0);
    *out_count = 0;
    err = walk_log(log, &walk);
    if (err != ERR_OK) {
        for (size_t i = 0; i < reading.count; i++) {
            raft_entry_unref(out[i]);
        }
        return err;
    }
    CHECK(reading.count > 0);
    *out_count = reading.count;
    return ERR_OK;
}

static bool take_position(void *arg, const struct log_entry_view *entry, enum err *err)
{
    struct log_position *out = arg;

    (void)err;
    *out = entry->at;
    return false;
}

enum err log_position_of(struct log *log, uint64_t index, struct log_position *out)
{
    struct walk walk = {.index = index, .take = take_position, .arg = out};

    return walk_log(log, &walk);
}

enum err log_term(struct log *log, uint64_t index, uint64_t *out_term)
{
    struct log_position at = {0};
    enum err err = log_position_of(log, index, &at);

    if (err == ERR_OK) {
        CHECK_OP(at.index, ==, index);
        *out_term = at.term;
        return ERR_OK;
    }
    CHECK(pthread_mutex_lock(&log->lock) == 0);
    if (err == ERR_NO_NODE && index == log->before.index) {
        *out_term = log->before.term;
        err = ERR_OK;
    }
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
    return err;
}

/* ---- figures ---- */

uint64_t log_last_index(struct log *log)
{
    uint64_t index = 0;

    CHECK(pthread_mutex_lock(&log->lock) == 0);
    index = log->last_index;
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
    return index;
}

uint64_t log_bytes(struct log *log)
{
    uint64_t bytes = 0;

    CHECK(pthread_mutex_lock(&log->lock) == 0);
    for (size_t i = 0; i < log->segment_count; i++) {
        bytes += log->segments[i].end;
    }
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
    return bytes;
}

uint64_t log_index_of_bytes(struct log *log, uint64_t bytes)
{
    uint64_t index = 0;
    uint64_t behind = 0;

    CHECK(pthread_mutex_lock(&log->lock) == 0);
    for (size_t i = log->segment_count; i > 0 && (index == 0 || behind < bytes); i--) {
        index = log->segments[i - 1].first_index;
        behind += log->segments[i - 1].end;
    }
    CHECK(pthread_mutex_unlock(&log->lock) == 0);
    return index;
}
