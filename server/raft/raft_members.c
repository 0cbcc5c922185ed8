/* SPDX-License-Identifier: Apache-2.0
 *
 * Members: their bytes in a log entry, and what a majority of them is.
 *
 *     u8 format (2), be64 last id, u8 count, then per member, ids ascending:
 *     be64 id, be64 incarnation, u8 flags (FLAG_...), u8 length of the address, address
 *
 * A byte too many or too few is refused: log entries know no tolerance (CONSENSUS 33).
 */
#include "server/raft/raft_internal.h"

#include <string.h>

#define FORMAT       2u
#define HEAD_BYTES   10u
#define MEMBER_BYTES 18u /* without the address */

#define FLAG_VOTER     1u
#define FLAG_WAS_VOTER 2u
#define FLAG_LEAVING   4u
#define FLAG_JOINING   8u
#define FLAGS_ALL      15u

static uint8_t flags_of(const struct raft_member *member)
{
    return (uint8_t)((member->voter ? FLAG_VOTER : 0) | (member->was_voter ? FLAG_WAS_VOTER : 0) |
                     (member->leaving ? FLAG_LEAVING : 0) | (member->joining ? FLAG_JOINING : 0));
}

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
        err = buffer_append_u8(out, flags_of(member));
    }
    if (err == ERR_OK) {
        err = buffer_append_u8(out, (uint8_t)address_len);
    }
    if (err == ERR_OK) {
        err = buffer_append(out, member->address, address_len);
    }
    return err;
}

/* Kept by whoever makes the list; an id in it counts in any case. */
static uint64_t last_id_of(const struct raft_members *members)
{
    uint64_t id = members->member[members->count - 1].id;

    return id > members->last_id ? id : members->last_id;
}

enum err raft_members_encode(const struct raft_members *members, struct buffer *out)
{
    enum err err = ERR_OK;

    CHECK(members->count > 0 && members->count <= MEMBERS_MAX);
    err = buffer_append_u8(out, FORMAT);
    if (err == ERR_OK) {
        err = buffer_append_be64(out, last_id_of(members));
    }
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
    out->voter = (at[16] & FLAG_VOTER) != 0;
    out->was_voter = (at[16] & FLAG_WAS_VOTER) != 0;
    out->leaving = (at[16] & FLAG_LEAVING) != 0;
    out->joining = (at[16] & FLAG_JOINING) != 0;
    address_len = at[17];
    if (at[16] > FLAGS_ALL || len - *offset - MEMBER_BYTES < address_len ||
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

    if (len < HEAD_BYTES || data[0] != FORMAT || data[HEAD_BYTES - 1] == 0 ||
        data[HEAD_BYTES - 1] > MEMBERS_MAX) {
        return ERR_MALFORMED;
    }
    members.last_id = get_be64(data + 1);
    members.count = data[HEAD_BYTES - 1];
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
    if (offset != len || members.last_id < id_before) {
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

bool raft_members_is_joint(const struct raft_members *members)
{
    for (size_t i = 0; i < members->count; i++) {
        if (members->member[i].was_voter) {
            return true;
        }
    }
    return false;
}

bool raft_members_can_follow(const struct raft_members *now, const struct raft_members *wanted)
{
    uint64_t id_before = 0;

    if (wanted->count == 0 || wanted->count > MEMBERS_MAX || raft_members_voters(wanted) == 0) {
        return false;
    }
    for (size_t i = 0; i < wanted->count; i++) {
        const struct raft_member *member = &wanted->member[i];
        const struct raft_member *other = raft_members_find(now, member->id);
        if (member->id <= id_before || member->was_voter || member->leaving) {
            return false;
        }
        /* One list cannot count two incarnations of an id: the old one stops to vote first. */
        if (member->voter && member->incarnation == 0) {
            return false;
        }
        if (other != NULL && (member->voter || other->voter) &&
            other->incarnation != member->incarnation) {
            return false;
        }
        id_before = member->id;
    }
    return true;
}

/* Voters of `members` that are not voters in `others`. */
static size_t voters_not_in(const struct raft_members *members, const struct raft_members *others)
{
    size_t count = 0;

    for (size_t i = 0; i < members->count; i++) {
        const struct raft_member *other = raft_members_find(others, members->member[i].id);
        if (members->member[i].voter && (other == NULL || !other->voter)) {
            count++;
        }
    }
    return count;
}

static bool anybody_leaves(const struct raft_members *now, const struct raft_members *wanted)
{
    for (size_t i = 0; i < now->count; i++) {
        if (raft_members_find(wanted, now->member[i].id) == NULL) {
            return true;
        }
    }
    return false;
}

/* Puts a member into its place by id. */
static enum err insert(struct raft_members *members, const struct raft_member *member)
{
    size_t at = members->count;

    if (at == MEMBERS_MAX) {
        return ERR_LIMIT;
    }
    while (at > 0 && members->member[at - 1].id > member->id) {
        members->member[at] = members->member[at - 1];
        at--;
    }
    members->member[at] = *member;
    members->count++;
    return ERR_OK;
}

enum err raft_members_between(const struct raft_members *now, const struct raft_members *wanted,
                              struct raft_members *out)
{
    enum err err = ERR_OK;

    *out = *wanted;
    if (out->last_id < now->last_id) {
        out->last_id = now->last_id;
    }
    if (voters_not_in(now, wanted) + voters_not_in(wanted, now) == 0 &&
        !anybody_leaves(now, wanted)) {
        return ERR_OK;
    }
    for (size_t i = 0; i < out->count; i++) {
        const struct raft_member *before = raft_members_find(now, out->member[i].id);
        out->member[i].was_voter = before != NULL && before->voter;
    }
    for (size_t i = 0; i < now->count && err == ERR_OK; i++) {
        struct raft_member leaver = now->member[i];
        if (raft_members_find(wanted, leaver.id) == NULL) {
            leaver.was_voter = leaver.voter;
            leaver.voter = false;
            leaver.leaving = true;
            err = insert(out, &leaver);
        }
    }
    return err;
}

struct raft_members raft_members_final(const struct raft_members *joint)
{
    struct raft_members final = {.last_id = joint->last_id};

    for (size_t i = 0; i < joint->count; i++) {
        struct raft_member member = joint->member[i];
        if (!member.leaving) {
            member.was_voter = false;
            final.member[final.count++] = member;
        }
    }
    return final;
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
