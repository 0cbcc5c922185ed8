/* SPDX-License-Identifier: Apache-2.0
 *
 * The last changes with their paths. Handed changes by replica.c as each entry is applied; feed.c
 * reads.
 *
 * A change names its directory by number. The path of that is asked of the tree, once: a small
 * table keeps the paths of the directories that were asked for last. Writes then cost a look-up
 * and a copy.
 *
 * Invariants:
 *   1. Records stand in the order of (zxid, number), in a ring: the one numbered `at` in the slot at
 *      modulo slots, from `first` to below `end`.
 *   2. `begin` is behind every record that was dropped, and before every one that is held.
 *   3. A path in the table is that of its directory as of the last applied entry, or the directory
 *      is gone: numbers of nodes are never used again, and a rename of a directory empties it.
 */
#include "server/history.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/limits.h"

#define PLACES        1024u /* in the table of paths */
#define RECORD_AROUND 16u   /* what malloc keeps beside a record */

/* A directory whose path is known. */
struct place {
    uint64_t ino;
    uint8_t *path; /* owned; NULL: free. "" is the root */
    size_t len;
    bool truncated;
};

struct history {
    struct history_record **ring;
    size_t slots;
    size_t bytes_max;
    size_t bytes;
    uint64_t first;
    uint64_t end;
    struct history_position begin;
    struct place places[PLACES];
    struct buffer path; /* that is being made */
    struct buffer to_path;
};

struct history *history_new(uint64_t zxid, size_t changes_max, size_t bytes_max)
{
    struct history *history = calloc(1, sizeof *history);

    CHECK(changes_max > 0);
    if (history == NULL) {
        return NULL;
    }
    history->ring = calloc(changes_max, sizeof(struct history_record *));
    history->slots = changes_max;
    history->bytes_max = bytes_max;
    history->begin = (struct history_position){.zxid = zxid};
    if (history->ring == NULL) {
        free(history);
        return NULL;
    }
    return history;
}

/* ---- positions ---- */

bool history_before(const struct history_position *a, const struct history_position *b)
{
    return a->zxid != b->zxid ? a->zxid < b->zxid : a->skip < b->skip;
}

/* Whether the record stands behind the position. */
static bool is_behind(const struct history_record *record, const struct history_position *position)
{
    uint64_t before = record->zxid - 1;

    return before > position->zxid || (before == position->zxid && record->number > position->skip);
}

struct history_position history_begin(const struct history *history)
{
    return history->begin;
}

const struct history_record *history_at(const struct history *history, uint64_t at)
{
    CHECK_OP(at, >=, history->first);
    return at < history->end ? history->ring[at % history->slots] : NULL;
}

uint64_t history_seek(const struct history *history, const struct history_position *position)
{
    uint64_t low = history->first;
    uint64_t high = history->end;

    CHECK(!history_before(position, &history->begin));
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (is_behind(history->ring[middle % history->slots], position)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

size_t history_count(const struct history *history)
{
    return (size_t)(history->end - history->first);
}

size_t history_bytes(const struct history *history)
{
    return history->bytes;
}

/* ---- dropping ---- */

static size_t size_of(const struct history_record *record)
{
    return sizeof *record + RECORD_AROUND + record->path_len + record->to_path_len;
}

static void drop_oldest(struct history *history)
{
    size_t slot = history->first % history->slots;
    struct history_record *record = history->ring[slot];

    CHECK(record != NULL && record->zxid > 0);
    history->begin = (struct history_position){.zxid = record->zxid - 1, .skip = record->number};
    history->bytes -= size_of(record);
    history->ring[slot] = NULL;
    history->first++;
    free(record);
}

static void places_clear(struct history *history)
{
    for (size_t i = 0; i < PLACES; i++) {
        free(history->places[i].path);
        history->places[i] = (struct place){0};
    }
}

void history_free(struct history *history)
{
    if (history == NULL) {
        return;
    }
    while (history->first < history->end) {
        drop_oldest(history);
    }
    places_clear(history);
    buffer_done(&history->path);
    buffer_done(&history->to_path);
    free((void *)history->ring);
    free(history);
}

/* There was no memory for a change of this entry. */
static void lose(struct history *history, uint64_t zxid)
{
    while (history->first < history->end) {
        drop_oldest(history);
    }
    places_clear(history);
    history->begin = (struct history_position){.zxid = zxid};
}

/* ---- paths ---- */

/* The changes of one entry, in which directories may have gone that earlier changes name. */
struct entry {
    struct history *history;
    struct tree *tree;
    const struct tree_change *changes;
    size_t count;
};

static struct place *place_of(struct history *history, uint64_t ino)
{
    return &history->places[(ino * 0x9E3779B97F4A7C15u >> 32) % PLACES];
}

static void place_keep(struct history *history, uint64_t ino, const struct buffer *path)
{
    struct place *place = place_of(history, ino);
    size_t len = path->len < PATH_BYTES_MAX ? path->len : PATH_BYTES_MAX;
    uint8_t *copy = malloc(len > 0 ? len : 1);

    free(place->path);
    *place = (struct place){0};
    if (copy == NULL) {
        return; /* It is asked for again. */
    }
    if (len > 0) {
        memcpy(copy, path->data, len);
    }
    *place = (struct place){.ino = ino, .path = copy, .len = len, .truncated = len < path->len};
}

static enum err prepend(struct buffer *path, const uint8_t *bytes, size_t len)
{
    if (buffer_reserve(path, len + 1) == NULL) {
        return ERR_MEMORY;
    }
    if (path->len > 0) {
        memmove(path->data + len + 1, path->data, path->len);
    }
    path->data[0] = '/';
    memcpy(path->data + 1, bytes, len);
    path->len += len + 1;
    return ERR_OK;
}

/* The change by which a directory went in this entry, behind change number `from`. */
static const struct tree_change *removal_of(const struct entry *entry, size_t from, uint64_t ino)
{
    for (size_t i = from; i < entry->count; i++) {
        if (entry->changes[i].kind == CHANGE_REMOVED && entry->changes[i].ino == ino) {
            return &entry->changes[i];
        }
    }
    return NULL;
}

/* The path of a directory that the table does not know, asked from the tree; the names of those
 * that this entry removed come from the changes. */
static enum err path_ask(const struct entry *entry, size_t from, uint64_t ino, struct buffer *out)
{
    struct buffer below = {0}; /* the names of what is gone */
    enum err err = tree_path(entry->tree, ino, out);
    uint64_t at = ino;

    while (err == ERR_STALE) {
        const struct tree_change *removal = removal_of(entry, from, at);
        if (removal == NULL) {
            break; /* A change that names nobody's directory: better a gap than an end. */
        }
        from = (size_t)(removal - entry->changes) + 1;
        err = prepend(&below, removal->name.bytes, removal->name.len);
        if (err == ERR_OK) {
            at = removal->parent;
            err = tree_path(entry->tree, at, out);
        }
    }
    if (err == ERR_OK && at == ROOT_INO) {
        buffer_clear(out); /* "/" would be doubled by what comes behind. */
    }
    if (err == ERR_OK && below.len > 0) {
        err = buffer_append(out, below.data, below.len);
    }
    buffer_done(&below);
    return err;
}

/* Replaces *out by the path of a name in the directory `ino`, which may be longer than a record
 * takes; *out_truncated: it is longer still. */
static enum err path_make(const struct entry *entry, size_t change, uint64_t ino,
                          const struct node_name *name, struct buffer *out, bool *out_truncated)
{
    struct history *history = entry->history;
    struct place *place = place_of(history, ino);
    enum err err = ERR_OK;

    buffer_clear(out);
    if (place->path == NULL || place->ino != ino) {
        err = path_ask(entry, change + 1, ino, out);
        if (err != ERR_OK) {
            return err;
        }
        place_keep(history, ino, out);
    } else {
        err = buffer_append(out, place->path, place->len);
        *out_truncated = *out_truncated || place->truncated;
    }
    if (err == ERR_OK && (name->len > 0 || out->len == 0)) {
        err = buffer_append_u8(out, '/');
    }
    if (err == ERR_OK && name->len > 0) {
        err = buffer_append(out, name->bytes, name->len);
    }
    if (err == ERR_OK && out->len > PATH_BYTES_MAX) {
        out->len = PATH_BYTES_MAX;
        *out_truncated = true;
    }
    return err;
}

/* ---- adding ---- */

static enum err record_new(const struct history *history, const struct tree_change *change,
                           bool truncated, struct history_record **out)
{
    const struct buffer *path = &history->path;
    const struct buffer *to_path = &history->to_path;
    struct history_record *record = malloc(sizeof *record + path->len + to_path->len);

    if (record == NULL) {
        return ERR_MEMORY;
    }
    *record = (struct history_record){
        .zxid = change->zxid,
        .parent = change->parent,
        .to_parent = change->to_parent,
        .version = change->attr.version,
        .kind = change->kind,
        .node_kind = change->attr.kind,
        .path_len = (uint16_t)path->len,
        .to_path_len = (uint16_t)to_path->len,
        .exchanged = change->exchanged,
        .truncated = truncated,
    };
    memcpy(record->bytes, path->data, path->len);
    if (to_path->len > 0) {
        memcpy(record->bytes + path->len, to_path->data, to_path->len);
    }
    *out = record;
    return ERR_OK;
}

static void put(struct history *history, struct history_record *record)
{
    while (history->first < history->end &&
           (history->end - history->first >= history->slots ||
            history->bytes + size_of(record) > history->bytes_max)) {
        drop_oldest(history);
    }
    history->ring[history->end % history->slots] = record;
    history->end++;
    history->bytes += size_of(record);
}

static bool may_have_children(const struct node_attr *attr)
{
    return attr->kind == NODE_DIR || attr->kind == NODE_PLAIN;
}

/* All paths below have changed; those of the names themselves have not. */
static bool moves_directory(const struct tree_change *change)
{
    return change->kind == CHANGE_RENAMED &&
           (may_have_children(&change->attr) ||
            (change->exchanged && may_have_children(&change->replaced_attr)));
}

static enum err add_one(const struct entry *entry, size_t number)
{
    struct history *history = entry->history;
    const struct tree_change *change = &entry->changes[number];
    struct history_record *record = NULL;
    bool truncated = false;

    if (moves_directory(change)) {
        places_clear(history);
    }
    buffer_clear(&history->to_path);
    enum err err =
        path_make(entry, number, change->parent, &change->name, &history->path, &truncated);
    if (err == ERR_OK && change->kind == CHANGE_RENAMED) {
        err = path_make(entry, number, change->to_parent, &change->to_name, &history->to_path,
                        &truncated);
    }
    if (err == ERR_OK) {
        err = record_new(history, change, truncated, &record);
    }
    if (err == ERR_OK) {
        record->number = (uint32_t)number + 1;
        put(history, record);
    }
    return err;
}

void history_add(struct history *history, struct tree *tree, const struct tree_change *changes,
                 size_t count)
{
    struct entry entry = {.history = history, .tree = tree, .changes = changes, .count = count};

    for (size_t i = 0; i < count; i++) {
        if (add_one(&entry, i) != ERR_OK) {
            lose(history, changes[i].zxid);
            return;
        }
    }
}
