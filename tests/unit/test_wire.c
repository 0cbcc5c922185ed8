/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of common/wire: messages come back as they were, and bytes of strangers do no harm.
 */
#include "common/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/frame.h"
#include "common/limits.h"

#define RANDOM_ROUNDS 20000u

/* xorshift64*: the same run for the same seed on every machine. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL;
}

/* A write command with a message in a message in a message. */
static void pack_command(struct buffer *out)
{
    Wire__Command command = WIRE__COMMAND__INIT;
    Wire__Identity identity = WIRE__IDENTITY__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Range *ranges[] = {&range};
    uint32_t groups[] = {4, 24};

    at.path = wire_bytes("/a/b", 4);
    range.offset = 3;
    range.data = wire_bytes("content", 7);
    write.at = &at;
    write.ranges = ranges;
    write.n_ranges = 1;
    op.body_case = WIRE__OP__BODY_WRITE;
    op.write = &write;
    identity.uid = 1000;
    identity.groups = groups;
    identity.n_groups = 2;
    command.session = 7;
    command.sequence = 9;
    command.identity = &identity;
    command.op = &op;
    assert_int_equal(wire_pack(&command.base, out), ERR_OK);
}

/* The same bytes in a block of exactly their length, so that the address sanitizer sees every
 * read beyond them. */
static enum err unpack_copy(const ProtobufCMessageDescriptor *type, const uint8_t *bytes,
                            size_t len, bool strict)
{
    uint8_t *copy = malloc(len != 0 ? len : 1);
    ProtobufCMessage *message = NULL;
    enum err err = ERR_OK;

    assert_non_null(copy);
    if (len != 0) {
        memcpy(copy, bytes, len);
    }
    err = strict ? wire_unpack_strict(type, copy, len, &message)
                 : wire_unpack(type, copy, len, &message);
    assert_true((err == ERR_OK) == (message != NULL));
    wire_free(message);
    free(copy);
    return err;
}

static void message_comes_back_as_it_was(void **state)
{
    struct buffer packed = {0};
    ProtobufCMessage *message = NULL;

    (void)state;
    pack_command(&packed);
    assert_int_equal(
        wire_unpack_strict(&wire__command__descriptor, packed.data, packed.len, &message), ERR_OK);
    const Wire__Command *command = (const Wire__Command *)message;
    assert_int_equal(command->session, 7);
    assert_int_equal(command->sequence, 9);
    assert_int_equal(command->identity->n_groups, 2);
    assert_int_equal(command->identity->groups[1], 24);
    assert_int_equal(command->op->body_case, WIRE__OP__BODY_WRITE);
    assert_int_equal(command->op->write->at->path.len, 4);
    assert_memory_equal(command->op->write->at->path.data, "/a/b", 4);
    assert_int_equal(command->op->write->n_ranges, 1);
    assert_int_equal(command->op->write->ranges[0]->offset, 3);
    assert_memory_equal(command->op->write->ranges[0]->data.data, "content", 7);
    wire_free(message);
    buffer_done(&packed);
}

static void free_of_nothing_is_fine(void **state)
{
    (void)state;
    wire_free(NULL);
}

static void pack_appends_behind_what_is_there(void **state)
{
    struct buffer out = {0};
    Wire__Ping ping = WIRE__PING__INIT;

    (void)state;
    ping.ping = 5;
    assert_int_equal(buffer_append(&out, "xy", 2), ERR_OK);
    assert_int_equal(wire_pack(&ping.base, &out), ERR_OK);
    assert_int_equal(out.len, 4);
    assert_memory_equal(out.data, "xy\x08\x05", 4);
    buffer_done(&out);
}

static void pack_beyond_the_maximum_changes_nothing(void **state)
{
    struct buffer out = {.max = 10};

    (void)state;
    Wire__Forward forward = WIRE__FORWARD__INIT;
    ProtobufCBinaryData commands[] = {wire_bytes("twelve bytes", 12)};
    forward.commands = commands;
    forward.n_commands = 1;
    assert_int_equal(buffer_append(&out, "xy", 2), ERR_OK);
    assert_int_equal(wire_pack(&forward.base, &out), ERR_TOO_BIG);
    assert_int_equal(out.len, 2);
    assert_int_equal(wire_frame(&forward.base, NULL, 0, &out), ERR_TOO_BIG);
    assert_int_equal(out.len, 2);
    buffer_done(&out);
}

static void frame_holds_message_and_raw_bytes(void **state)
{
    struct buffer out = {0};
    struct frame frame = {0};
    Wire__Raft raft = WIRE__RAFT__INIT;
    Wire__PeerMessage peer = WIRE__PEER_MESSAGE__INIT;
    ProtobufCMessage *message = NULL;

    (void)state;
    raft.term = 3;
    raft.entry_count = 1;
    peer.body_case = WIRE__PEER_MESSAGE__BODY_RAFT;
    peer.raft = &raft;
    assert_int_equal(wire_frame(&peer.base, "entry", 5, &out), ERR_OK);
    assert_int_equal(frame_parse(out.data, out.len, &frame), FRAME_WHOLE);
    assert_int_equal(frame.total_len, out.len);
    assert_int_equal(frame.raw_len, 5);
    assert_memory_equal(frame.raw, "entry", 5);
    assert_int_equal(
        wire_unpack(&wire__peer_message__descriptor, frame.message, frame.message_len, &message),
        ERR_OK);
    assert_int_equal(((Wire__PeerMessage *)message)->raft->term, 3);
    wire_free(message);
    buffer_done(&out);
}

static void frame_with_too_many_raw_bytes_is_refused(void **state)
{
    struct buffer out = {0};
    Wire__Ping ping = WIRE__PING__INIT;
    uint8_t *raw = calloc(1, FRAME_RAW_BYTES_MAX + 1);

    (void)state;
    assert_non_null(raw);
    assert_int_equal(buffer_append(&out, "xy", 2), ERR_OK);
    assert_int_equal(wire_frame(&ping.base, raw, FRAME_RAW_BYTES_MAX + 1, &out), ERR_TOO_BIG);
    assert_int_equal(out.len, 2);
    assert_int_equal(wire_frame(&ping.base, raw, FRAME_RAW_BYTES_MAX, &out), ERR_OK);
    free(raw);
    buffer_done(&out);
}

/* Field 1900, a number of one byte. */
static const uint8_t unknown_field[] = {0xe0, 0x76, 0x01};

static void unknown_field_is_tolerated_in_messages_and_refused_in_entries(void **state)
{
    struct buffer packed = {0};

    (void)state;
    pack_command(&packed);
    assert_int_equal(buffer_append(&packed, unknown_field, sizeof(unknown_field)), ERR_OK);
    assert_int_equal(unpack_copy(&wire__command__descriptor, packed.data, packed.len, false),
                     ERR_OK);
    assert_int_equal(unpack_copy(&wire__command__descriptor, packed.data, packed.len, true),
                     ERR_MALFORMED);
    buffer_done(&packed);
}

static void unknown_field_in_a_repeated_submessage_is_refused_in_entries(void **state)
{
    /* Command { op { write { ranges { unknown } } } } */
    const uint8_t bytes[] = {0x32, 9, 0x12, 7, 0x22, 5, 0x08, 1, 0xe0, 0x76, 0x01};

    (void)state;
    assert_int_equal(unpack_copy(&wire__command__descriptor, bytes, sizeof(bytes), false), ERR_OK);
    assert_int_equal(unpack_copy(&wire__command__descriptor, bytes, sizeof(bytes), true),
                     ERR_MALFORMED);
}

static void envelope_without_a_body_is_malformed(void **state)
{
    const uint8_t empty_op[] = {0x32, 0};

    (void)state;
    assert_int_equal(unpack_copy(&wire__to_replica__descriptor, NULL, 0, false), ERR_MALFORMED);
    assert_int_equal(
        unpack_copy(&wire__to_replica__descriptor, unknown_field, sizeof(unknown_field), false),
        ERR_MALFORMED);
    assert_int_equal(unpack_copy(&wire__command__descriptor, empty_op, sizeof(empty_op), false),
                     ERR_MALFORMED);
    assert_int_equal(unpack_copy(&wire__command__descriptor, NULL, 0, true), ERR_OK);
}

static void unknown_enum_number_is_malformed(void **state)
{
    /* CreateOp { kind }, and ToClient { event { kind } } */
    const uint8_t known[] = {0x10, 8};
    const uint8_t unknown[] = {0x10, 9};
    const uint8_t deep[] = {0x22, 2, 0x10, 99};

    (void)state;
    assert_int_equal(unpack_copy(&wire__create_op__descriptor, known, sizeof(known), false),
                     ERR_OK);
    assert_int_equal(unpack_copy(&wire__create_op__descriptor, unknown, sizeof(unknown), false),
                     ERR_MALFORMED);
    assert_int_equal(unpack_copy(&wire__to_client__descriptor, deep, sizeof(deep), false),
                     ERR_MALFORMED);
}

static void every_cut_of_a_message_is_refused_or_a_message(void **state)
{
    struct buffer packed = {0};
    size_t refused = 0;

    (void)state;
    pack_command(&packed);
    for (size_t len = 0; len < packed.len; len++) {
        if (unpack_copy(&wire__command__descriptor, packed.data, len, true) == ERR_MALFORMED) {
            refused++;
        }
    }
    /* Cuts between two fields are messages too, all others are not. */
    assert_true(refused + 6 > packed.len);
    buffer_done(&packed);
}

static const ProtobufCMessageDescriptor *const types[] = {
    &wire__command__descriptor,      &wire__to_replica__descriptor, &wire__to_client__descriptor,
    &wire__peer_message__descriptor, &wire__answer__descriptor,     &wire__reclaim__descriptor,
};

static void random_bytes_do_no_harm(void **state)
{
    uint64_t seed = 1;
    uint8_t bytes[96];

    (void)state;
    for (unsigned round = 0; round < RANDOM_ROUNDS; round++) {
        size_t len = next_random(&seed) % sizeof(bytes);
        for (size_t i = 0; i < len; i++) {
            /* Small numbers are tags and lengths that fit more often. */
            uint64_t value = next_random(&seed);
            bytes[i] = (uint8_t)((value & 0x300) != 0 ? value % 64 : value);
        }
        unpack_copy(types[round % (sizeof(types) / sizeof(types[0]))], bytes, len, round % 2 == 0);
    }
}

static void changed_messages_do_no_harm(void **state)
{
    struct buffer packed = {0};
    uint64_t seed = 2;

    (void)state;
    pack_command(&packed);
    for (unsigned round = 0; round < RANDOM_ROUNDS; round++) {
        struct buffer changed = {0};
        assert_int_equal(buffer_append(&changed, packed.data, packed.len), ERR_OK);
        for (unsigned i = 0; i < 1 + round % 3; i++) {
            changed.data[next_random(&seed) % changed.len] = (uint8_t)next_random(&seed);
        }
        unpack_copy(&wire__command__descriptor, changed.data, changed.len, true);
        buffer_done(&changed);
    }
    buffer_done(&packed);
}

static void message_that_would_take_far_more_memory_than_its_bytes_is_refused(void **state)
{
    const size_t len = FRAME_BYTES_MAX;
    uint8_t *bytes = malloc(len + 1);

    (void)state;
    assert_non_null(bytes);
    /* Two bytes an element: Reclaim { nodes {} nodes {} ... }. */
    for (size_t i = 0; i < len; i += 2) {
        bytes[i] = 0x12;
        bytes[i + 1] = 0;
    }
    assert_int_equal(unpack_copy(&wire__reclaim__descriptor, bytes, len, false), ERR_MALFORMED);
    /* A page of it is fine. */
    assert_int_equal(unpack_copy(&wire__reclaim__descriptor, bytes, 4096, false), ERR_OK);
    /* Longer than a frame can be. */
    assert_int_equal(unpack_copy(&wire__reclaim__descriptor, bytes, len + 1, false), ERR_MALFORMED);
    free(bytes);
}

static void largest_patch_is_accepted(void **state)
{
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Range *ranges[PATCH_RANGES_MAX];
    struct buffer packed = {0};

    (void)state;
    for (size_t i = 0; i < PATCH_RANGES_MAX; i++) {
        ranges[i] = malloc(sizeof(*ranges[i]));
        assert_non_null(ranges[i]);
        wire__range__init(ranges[i]);
        ranges[i]->offset = i;
        ranges[i]->data = wire_bytes("x", 1);
    }
    write.ranges = ranges;
    write.n_ranges = PATCH_RANGES_MAX;
    assert_int_equal(wire_pack(&write.base, &packed), ERR_OK);
    assert_int_equal(unpack_copy(&wire__write_op__descriptor, packed.data, packed.len, true),
                     ERR_OK);
    for (size_t i = 0; i < PATCH_RANGES_MAX; i++) {
        free(ranges[i]);
    }
    buffer_done(&packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_comes_back_as_it_was),
        cmocka_unit_test(free_of_nothing_is_fine),
        cmocka_unit_test(pack_appends_behind_what_is_there),
        cmocka_unit_test(pack_beyond_the_maximum_changes_nothing),
        cmocka_unit_test(frame_holds_message_and_raw_bytes),
        cmocka_unit_test(frame_with_too_many_raw_bytes_is_refused),
        cmocka_unit_test(unknown_field_is_tolerated_in_messages_and_refused_in_entries),
        cmocka_unit_test(unknown_field_in_a_repeated_submessage_is_refused_in_entries),
        cmocka_unit_test(envelope_without_a_body_is_malformed),
        cmocka_unit_test(unknown_enum_number_is_malformed),
        cmocka_unit_test(every_cut_of_a_message_is_refused_or_a_message),
        cmocka_unit_test(random_bytes_do_no_harm),
        cmocka_unit_test(changed_messages_do_no_harm),
        cmocka_unit_test(message_that_would_take_far_more_memory_than_its_bytes_is_refused),
        cmocka_unit_test(largest_patch_is_accepted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
