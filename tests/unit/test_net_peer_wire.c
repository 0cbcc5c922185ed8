/* SPDX-License-Identifier: Apache-2.0
 *
 * Raft messages to frames and back; every cut and damage of the raw bytes is refused.
 */
#include "server/net/peer_wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/frame.h"
#include "common/limits.h"

static struct raft_entry *entry_of(uint64_t index, const char *text)
{
    struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_COMMAND, text, strlen(text));

    assert_non_null(entry);
    entry->index = index;
    entry->term = 7;
    entry->time_ns = -5;
    return entry;
}

/* A message of two entries as a frame. */
struct packed {
    struct buffer bytes;
    struct frame frame;
    ProtobufCMessage *message;
    const Wire__Raft *raft;
};

static void pack(struct packed *packed)
{
    struct raft_entry *entries[] = {entry_of(11, "first"), entry_of(12, "")};
    struct raft_message message = {
        .type = RAFT_MSG_APPEND,
        .from = 1,
        .to = 2,
        .term = 7,
        .log_index = 10,
        .log_term = 6,
        .commit = 9,
        .context = 3,
        .hint_index = 4,
        .hint_term = 5,
        .reject = true,
        .force = true,
        .entry_count = 2,
        .entries = entries,
    };

    memset(packed, 0, sizeof(*packed));
    assert_int_equal(peer_wire_pack(&message, &packed->bytes), ERR_OK);
    raft_entry_unref(entries[0]);
    raft_entry_unref(entries[1]);
    assert_int_equal(frame_parse(packed->bytes.data, packed->bytes.len, &packed->frame),
                     FRAME_WHOLE);
    assert_int_equal(wire_unpack(&wire__peer_message__descriptor, packed->frame.message,
                                 packed->frame.message_len, &packed->message),
                     ERR_OK);
    packed->raft = ((const Wire__PeerMessage *)packed->message)->raft;
}

static void packed_done(struct packed *packed)
{
    wire_free(packed->message);
    buffer_done(&packed->bytes);
}

static void a_message_comes_back_with_all_fields_and_entries(void **state)
{
    struct packed packed;
    struct raft_message back;

    (void)state;
    pack(&packed);
    assert_int_equal(peer_wire_unpack(packed.raft, packed.frame.raw, packed.frame.raw_len, &back),
                     ERR_OK);
    assert_int_equal(back.type, RAFT_MSG_APPEND);
    assert_int_equal(back.from, 1);
    assert_int_equal(back.to, 2);
    assert_int_equal(back.term, 7);
    assert_int_equal(back.log_index, 10);
    assert_int_equal(back.log_term, 6);
    assert_int_equal(back.commit, 9);
    assert_int_equal(back.context, 3);
    assert_int_equal(back.hint_index, 4);
    assert_int_equal(back.hint_term, 5);
    assert_true(back.reject && back.force);
    assert_int_equal(back.entry_count, 2);
    assert_int_equal(back.entries[0]->index, 11);
    assert_int_equal(back.entries[0]->term, 7);
    assert_int_equal(back.entries[0]->time_ns, -5);
    assert_int_equal(back.entries[0]->type, RAFT_ENTRY_COMMAND);
    assert_int_equal(back.entries[0]->len, 5);
    assert_memory_equal(back.entries[0]->data, "first", 5);
    assert_int_equal(back.entries[1]->len, 0);
    peer_wire_free(&back);
    packed_done(&packed);
}

static void raw_bytes_cut_anywhere_are_refused(void **state)
{
    struct packed packed;
    struct raft_message back;

    (void)state;
    pack(&packed);
    for (size_t len = 0; len < packed.frame.raw_len; len++) {
        assert_int_equal(peer_wire_unpack(packed.raft, packed.frame.raw, len, &back),
                         ERR_MALFORMED);
    }
    packed_done(&packed);
}

static void bytes_behind_the_last_entry_are_refused(void **state)
{
    struct packed packed;
    struct buffer longer = {0};
    struct raft_message back;

    (void)state;
    pack(&packed);
    assert_int_equal(buffer_append(&longer, packed.frame.raw, packed.frame.raw_len), ERR_OK);
    assert_int_equal(buffer_append_u8(&longer, 0), ERR_OK);
    assert_int_equal(peer_wire_unpack(packed.raft, longer.data, longer.len, &back), ERR_MALFORMED);
    buffer_done(&longer);
    packed_done(&packed);
}

static void an_entry_longer_than_any_command_is_refused(void **state)
{
    Wire__Raft raft = WIRE__RAFT__INIT;
    struct raft_message back;
    uint8_t header[29] = {0};

    (void)state;
    raft.type = RAFT_MSG_APPEND;
    raft.entry_count = 1;
    put_be32(header + 25, UINT32_MAX);
    assert_int_equal(peer_wire_unpack(&raft, header, sizeof(header), &back), ERR_MALFORMED);
}

static void unknown_types_and_counts_above_the_limit_are_refused(void **state)
{
    Wire__Raft raft = WIRE__RAFT__INIT;
    struct raft_message back;

    (void)state;
    assert_int_equal(peer_wire_unpack(&raft, NULL, 0, &back), ERR_MALFORMED);
    raft.type = RAFT_MSG_TRANSFER + 1;
    assert_int_equal(peer_wire_unpack(&raft, NULL, 0, &back), ERR_MALFORMED);
    raft.type = RAFT_MSG_APPEND;
    raft.entry_count = APPEND_ENTRIES_MAX + 1;
    assert_int_equal(peer_wire_unpack(&raft, NULL, 0, &back), ERR_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_comes_back_with_all_fields_and_entries),
        cmocka_unit_test(raw_bytes_cut_anywhere_are_refused),
        cmocka_unit_test(bytes_behind_the_last_entry_are_refused),
        cmocka_unit_test(an_entry_longer_than_any_command_is_refused),
        cmocka_unit_test(unknown_types_and_counts_above_the_limit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
