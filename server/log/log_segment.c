/* SPDX-License-Identifier: Apache-2.0
 *
 * The format of segment files (drawn in log_internal.h) and the sparse index of a segment. No file
 * is touched here: log.c and log_recover.c bring and take the bytes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/check.h"
#include "common/parse.h"
#include "server/log/log_internal.h"

#define SEGMENT_MAGIC   UINT64_C(0x51464c4f47534547) /* "QFLOGSEG" */
#define SEGMENT_VERSION 1u
#define GROUP_MAGIC     0x51464752u /* "QFGR" */

/* Bytes of file between two marks: what a search walks through, 1024 marks for a full segment. */
#define MARK_BYTES (64u * KIB)

#define NAME_DIGITS 20u /* of the largest index */

#define HEADER_CHECKSUM_AT (LOG_SECTOR_BYTES - 8u)

void log_segment_name(char name[static LOG_NAME_BYTES], uint64_t first_index)
{
    (void)snprintf(name, LOG_NAME_BYTES, "%020" PRIu64 ".log", first_index);
}

bool log_segment_parse_name(const char *name, uint64_t *out_first_index)
{
    char digits[LOG_NAME_BYTES];

    if (strlen(name) != NAME_DIGITS + 4 || strcmp(name + NAME_DIGITS, ".log") != 0 ||
        strspn(name, "0123456789") != NAME_DIGITS) {
        return false;
    }
    memcpy(digits, name, NAME_DIGITS);
    digits[NAME_DIGITS] = '\0';
    return parse_u64(digits, 1, UINT64_MAX, out_first_index) == ERR_OK;
}

void log_header_encode(uint8_t sector[static LOG_SECTOR_BYTES], struct log_header *header)
{
    memset(sector, 0, LOG_SECTOR_BYTES);
    put_be64(sector, SEGMENT_MAGIC);
    put_be32(sector + 8, SEGMENT_VERSION);
    put_be32(sector + 12, header->generation);
    put_be64(sector + 16, header->before.index + 1);
    put_be64(sector + 24, header->before.term);
    put_be64(sector + 32, (uint64_t)header->before.time_ns);
    header->checksum = XXH3_64bits(sector, HEADER_CHECKSUM_AT);
    put_be64(sector + HEADER_CHECKSUM_AT, header->checksum);
}

bool log_header_decode(const uint8_t sector[static LOG_SECTOR_BYTES], struct log_header *out)
{
    uint64_t checksum = get_be64(sector + HEADER_CHECKSUM_AT);

    if (get_be64(sector) != SEGMENT_MAGIC || get_be32(sector + 8) != SEGMENT_VERSION ||
        get_be64(sector + 16) == 0 || XXH3_64bits(sector, HEADER_CHECKSUM_AT) != checksum) {
        return false;
    }
    *out = (struct log_header){
        .before = {.index = get_be64(sector + 16) - 1,
                   .term = get_be64(sector + 24),
                   .time_ns = (int64_t)get_be64(sector + 32)},
        .generation = get_be32(sector + 12),
        .checksum = checksum,
    };
    return true;
}

/* ---- groups ---- */

static size_t round_up(size_t bytes)
{
    return (bytes + LOG_SECTOR_BYTES - 1) / LOG_SECTOR_BYTES * LOG_SECTOR_BYTES;
}

size_t log_group_fit(struct raft_entry *const *entries, size_t count)
{
    size_t bytes = LOG_GROUP_HEADER_BYTES;
    size_t fit = 0;

    while (fit < count) {
        CHECK_OP(entries[fit]->len, <=, LOG_ENTRY_BYTES_MAX);
        bytes += LOG_ENTRY_HEADER_BYTES + entries[fit]->len;
        if (bytes > LOG_GROUP_BYTES_MAX) {
            break;
        }
        fit++;
    }
    CHECK(fit > 0);
    return fit;
}

/* Over everything but the checksum itself, which comes first. */
static uint64_t checksum_of(const uint8_t *bytes, size_t len)
{
    return XXH3_64bits(bytes + 8, len - 8);
}

static void put_entry_head(uint8_t *to, const struct log_position *at, uint32_t len, uint8_t type)
{
    put_be64(to, at->index);
    put_be64(to + 8, at->term);
    put_be64(to + 16, (uint64_t)at->time_ns);
    put_be32(to + 24, len);
    put_be32(to + 28, (uint32_t)type << 24);
}

/* Makes the buffer hold a group of that size with its head, all else zero. */
static enum err group_begin(struct buffer *out, const struct log_group *group, uint64_t offset)
{
    uint8_t *bytes = NULL;

    CHECK(offset % LOG_SECTOR_BYTES == 0 && group->bytes % LOG_SECTOR_BYTES == 0);
    CHECK_OP(group->bytes, <=, LOG_GROUP_BYTES_MAX);
    buffer_clear(out);
    bytes = buffer_reserve(out, group->bytes);
    if (bytes == NULL) {
        return ERR_MEMORY;
    }
    out->len = group->bytes;
    put_be32(bytes + 8, GROUP_MAGIC);
    put_be32(bytes + 12, group->kind);
    put_be32(bytes + 16, group->bytes);
    put_be32(bytes + 20, group->count);
    put_be64(bytes + 24, group->first_index);
    put_be64(bytes + 32, offset);
    put_be64(bytes + 40, group->chain);
    return ERR_OK;
}

static void group_end(struct buffer *out, size_t used)
{
    memset(out->data + used, 0, out->len - used);
    put_be64(out->data, checksum_of(out->data, out->len));
}

enum err log_group_encode(struct buffer *out, struct raft_entry *const *entries, size_t count,
                          uint64_t offset, uint64_t chain)
{
    struct log_group group = {.kind = LOG_GROUP_ENTRIES,
                              .count = (uint32_t)count,
                              .first_index = entries[0]->index,
                              .chain = chain};
    size_t used = LOG_GROUP_HEADER_BYTES;
    enum err err = ERR_OK;

    for (size_t i = 0; i < count; i++) {
        used += LOG_ENTRY_HEADER_BYTES + entries[i]->len;
    }
    group.bytes = (uint32_t)round_up(used);
    err = group_begin(out, &group, offset);
    if (err != ERR_OK) {
        return err;
    }
    used = LOG_GROUP_HEADER_BYTES;
    for (size_t i = 0; i < count; i++) {
        const struct raft_entry *entry = entries[i];
        struct log_position at = {entry->index, entry->term, entry->time_ns};
        put_entry_head(out->data + used, &at, entry->len, entry->type);
        used += LOG_ENTRY_HEADER_BYTES;
        memcpy(out->data + used, entry->data, entry->len);
        used += entry->len;
    }
    group_end(out, used);
    return ERR_OK;
}

enum err log_group_encode_truncation(struct buffer *out, const struct log_position *before,
                                     uint64_t offset, uint64_t chain)
{
    struct log_group group = {.kind = LOG_GROUP_TRUNCATION,
                              .bytes = LOG_SECTOR_BYTES,
                              .first_index = before->index + 1,
                              .chain = chain};
    enum err err = group_begin(out, &group, offset);

    if (err != ERR_OK) {
        return err;
    }
    put_entry_head(out->data + LOG_GROUP_HEADER_BYTES, before, 0, 0);
    group_end(out, LOG_GROUP_HEADER_BYTES + LOG_ENTRY_HEADER_BYTES);
    return ERR_OK;
}

uint64_t log_group_checksum(const struct buffer *group)
{
    return get_be64(group->data);
}

bool log_group_peek(const uint8_t sector[static LOG_SECTOR_BYTES], uint64_t offset, uint64_t end,
                    struct log_group *out)
{
    *out = (struct log_group){
        .checksum = get_be64(sector),
        .kind = get_be32(sector + 12),
        .bytes = get_be32(sector + 16),
        .count = get_be32(sector + 20),
        .first_index = get_be64(sector + 24),
        .chain = get_be64(sector + 40),
    };
    return get_be32(sector + 8) == GROUP_MAGIC && get_be64(sector + 32) == offset &&
           (out->kind == LOG_GROUP_ENTRIES || out->kind == LOG_GROUP_TRUNCATION) &&
           out->bytes >= LOG_SECTOR_BYTES && out->bytes <= LOG_GROUP_BYTES_MAX &&
           out->bytes % LOG_SECTOR_BYTES == 0 && out->bytes <= end - offset;
}

bool log_group_is_whole(const uint8_t *bytes, const struct log_group *group)
{
    return checksum_of(bytes, group->bytes) == group->checksum;
}

bool log_entry_next(const uint8_t *bytes, const struct log_group *group, size_t *position,
                    struct log_entry_view *out)
{
    size_t at = *position == 0 ? LOG_GROUP_HEADER_BYTES : *position;
    const uint8_t *head = bytes + at;

    if (at + LOG_ENTRY_HEADER_BYTES > group->bytes) {
        return false;
    }
    *out = (struct log_entry_view){
        .at = {get_be64(head), get_be64(head + 8), (int64_t)get_be64(head + 16)},
        .len = get_be32(head + 24),
        .type = head[28],
        .data = head + LOG_ENTRY_HEADER_BYTES,
    };
    /* Padding has index 0, which no entry has. */
    if (out->at.index == 0 && group->kind == LOG_GROUP_ENTRIES) {
        return false;
    }
    at += LOG_ENTRY_HEADER_BYTES;
    if (out->len > group->bytes - at) {
        return false;
    }
    *position = at + out->len;
    return true;
}

/* ---- the index ---- */

enum err log_segment_reserve(struct log_segment *segment)
{
    size_t capacity = segment->mark_capacity == 0 ? 16 : segment->mark_capacity * 2;
    struct log_mark *marks = NULL;

    if (segment->mark_count < segment->mark_capacity) {
        return ERR_OK;
    }
    marks = realloc(segment->marks, capacity * sizeof(*marks));
    if (marks == NULL) {
        return ERR_MEMORY;
    }
    segment->marks = marks;
    segment->mark_capacity = capacity;
    return ERR_OK;
}

static void mark(struct log_segment *segment, uint64_t index, uint64_t offset)
{
    CHECK(segment->mark_count < segment->mark_capacity);
    CHECK(segment->mark_count == 0 || segment->marks[segment->mark_count - 1].index < index);
    segment->marks[segment->mark_count] = (struct log_mark){.index = index, .offset = offset};
    segment->mark_count++;
}

void log_segment_add(struct log_segment *segment, const struct log_group *group)
{
    uint64_t offset = segment->end;
    size_t count = segment->mark_count;

    CHECK_OP(group->first_index, >=, segment->first_index);
    segment->end += group->bytes;
    segment->chain = group->checksum;
    if (group->kind == LOG_GROUP_TRUNCATION) {
        while (count > 0 && segment->marks[count - 1].index >= group->first_index) {
            count--;
        }
        segment->mark_count = count;
        mark(segment, group->first_index, segment->end);
    } else if (count == 0 || offset - segment->marks[count - 1].offset >= MARK_BYTES) {
        mark(segment, group->first_index, offset);
    }
}

void log_segment_find(const struct log_segment *segment, uint64_t index, struct log_stretch *out)
{
    size_t low = 0;
    size_t high = segment->mark_count;

    CHECK(segment->mark_count > 0 && segment->marks[0].index <= index);
    /* marks[low].index <= index < marks[high].index */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (segment->marks[middle].index <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    *out = (struct log_stretch){.segment = segment->first_index,
                                .offset = segment->marks[low].offset,
                                .end = segment->end,
                                .index_end = UINT64_MAX};
    if (low + 1 < segment->mark_count) {
        out->end = segment->marks[low + 1].offset;
        out->index_end = segment->marks[low + 1].index;
    }
}
