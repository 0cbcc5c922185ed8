/* SPDX-License-Identifier: Apache-2.0
 *
 * Members: their bytes in a log entry, and what a majority of them is.
 *
 *     u8 format (1), u8 count, then per member, ids ascending:
 *     be64 id, be64 incarnation, u8 voter, u8 length of the address, address
 *
 * A byte too many or too few is refused: log entries know no tolerance (CONSENSUS 33).
 */
#include "server/raft/raft_internal.h"

#include <string.h>

#define FORMAT       1u
#define HEAD_BYTES   2u
#define MEMBER_BYTES 18u /* without the address */

static enum err member_encode(const struct raft_member *member, struct buffer *out)
{
    size_t address_len = strlen(member->address);
    enum err err = ERR_OK;

    CHECK_OP(address_len, <=, ADDRESS_BYTES_MAX);
    err = buffer_append_be64(out, member->id);
    if (err == ERR_OK) {
        err = buffer_append_be64(out, member->incarnation);
    }
    if (err == ERR_OK) {
        err = buffer_append_u8(out, member->voter ? 1 : 0);
    }
    if (err == ERR_OK) {
        err = buffer_append_u8(out, (uint8_t)address_len);
    }
    if (err == ERR_OK) {
        err = buffer_append(out, member->address, address_len);
    }
    return err;
}

enum err raft_members_encode(const struct raft_members *members, struct buffer *out)
{
    enum err err = ERR_OK;

    CHECK(members->count > 0 && members->count <= MEMBERS_MAX);
    err = buffer_append_u8(out, FORMAT);
    if (err == ERR_OK) {
        err = buffer_append_u8(out, (uint8_t)members->count);
    }
    for (size_t i = 0; i < members->count && err == ERR_OK; i++) {
        err = member_encode(&members->member[i], out);
    }
    return err;
}

/* Reads one member and moves *offset behind it. */
static enum err member_decode(const uint8_t *data, size_t len, size_t *offset,
                              struct raft_member *out)
{
    const uint8_t *at = data + *offset;
    size_t address_len = 0;

    if (len - *offset < MEMBER_BYTES) {
        return ERR_MALFORMED;
    }
    out->id = get_be64(at);
    out->incarnation = get_be64(at + 8);
    out->voter = at[16] == 1;
    address_len = at[17];
    if (at[16] > 1 || len - *offset - MEMBER_BYTES < address_len ||
        memchr(at + MEMBER_BYTES, 0, address_len) != NULL) {
        return ERR_MALFORMED;
    }
    memcpy(out->address, at + MEMBER_BYTES, address_len);
    out->address[address_len] = 0;
    *offset += MEMBER_BYTES + address_len;
    return ERR_OK;
}

enum err raft_members_decode(const uint8_t *data, size_t len, struct raft_members *out)
{
    struct raft_members members = {0};
    size_t offset = HEAD_BYTES;
    uint64_t id_before = 0;

    if (len < HEAD_BYTES || data[0] != FORMAT || data[1] == 0 || data[1] > MEMBERS_MAX) {
        return ERR_MALFORMED;
    }
    members.count = data[1];
    for (size_t i = 0; i < members.count; i++) {
        enum err err = member_decode(data, len, &offset, &members.member[i]);
        if (err != ERR_OK) {
            return err;
        }
        if (members.member[i].id <= id_before) {
            return ERR_MALFORMED;
        }
        id_before = members.member[i].id;
    }
    if (offset != len) {
        return ERR_MALFORMED;
    }
    *out = members;
    return ERR_OK;
}

const struct raft_member *raft_members_find(const struct raft_members *members, uint64_t id)
{
    for (size_t i = 0; i < members->count; i++) {
        if (members->member[i].id == id) {
            return &members->member[i];
        }
    }
    return NULL;
}

size_t raft_members_voters(const struct raft_members *members)
{
    size_t voters = 0;

    for (size_t i = 0; i < members->count; i++) {
        voters += members->member[i].voter ? 1 : 0;
    }
    return voters;
}

/* Voters of `members` that are not the same voter (id and incarnation) in `others`. */
static size_t voters_not_in(const struct raft_members *members, const struct raft_members *others)
{
    size_t count = 0;

    for (size_t i = 0; i < members->count; i++) {
        const struct raft_member *member = &members->member[i];
        const struct raft_member *other = raft_members_find(others, member->id);
        if (member->voter &&
            (other == NULL || !other->voter || other->incarnation != member->incarnation)) {
            count++;
        }
    }
    return count;
}

bool raft_members_may_follow(const struct raft_members *from, const struct raft_members *to)
{
    return raft_members_voters(to) > 0 && voters_not_in(from, to) + voters_not_in(to, from) <= 1;
}

uint64_t raft_quorum(uint64_t *values, size_t count)
{
    if (count == 0) {
        return 0;
    }
    for (size_t i = 1; i < count; i++) {
        uint64_t value = values[i];
        size_t at = i;
        while (at > 0 && values[at - 1] < value) {
            values[at] = values[at - 1];
            at--;
        }
        values[at] = value;
    }
    return values[count / 2];
}
