/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of common/frame: the first code that sees bytes of strangers.
 */
#include "common/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"

static const char message[] = "the message";
static const char raw[] = "raw bytes";

/* Appends a frame with these two. */
static void append_frame(struct buffer *buffer, size_t message_len, size_t raw_len)
{
    size_t start = 0;

    assert_int_equal(frame_begin(buffer, &start), ERR_OK);
    assert_int_equal(buffer_append(buffer, message, message_len), ERR_OK);
    assert_int_equal(buffer_append(buffer, raw, raw_len), ERR_OK);
    assert_int_equal(frame_end(buffer, start, raw_len), ERR_OK);
}

/* The same bytes in a block of exactly their length, so that the address sanitizer sees every
 * read beyond them. */
static enum frame_state parse_copy(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len != 0 ? len : 1);
    struct frame frame = {0};
    enum frame_state state = FRAME_MALFORMED;

    assert_non_null(copy);
    if (len != 0) {
        memcpy(copy, bytes, len);
    }
    state = frame_parse(copy, len, &frame);
    free(copy);
    return state;
}

static void frame_comes_back_whole(void **state)
{
    struct buffer buffer = {0};
    struct frame frame = {0};

    (void)state;
    append_frame(&buffer, strlen(message), strlen(raw));
    assert_int_equal(frame_parse(buffer.data, buffer.len, &frame), FRAME_WHOLE);
    assert_int_equal(frame.message_len, strlen(message));
    assert_memory_equal(frame.message, message, strlen(message));
    assert_int_equal(frame.raw_len, strlen(raw));
    assert_memory_equal(frame.raw, raw, strlen(raw));
    assert_int_equal(frame.total_len, FRAME_HEADER_BYTES + strlen(message) + strlen(raw));
    assert_int_equal(frame.total_len, buffer.len);
    buffer_done(&buffer);
}

static void frames_behind_each_other_come_back_one_by_one(void **state)
{
    struct buffer buffer = {0};
    struct frame frame = {0};

    (void)state;
    append_frame(&buffer, 3, 0);
    append_frame(&buffer, 0, 0);
    append_frame(&buffer, 4, 5);
    assert_int_equal(frame_parse(buffer.data, buffer.len, &frame), FRAME_WHOLE);
    assert_int_equal(frame.message_len, 3);
    assert_int_equal(frame.raw_len, 0);
    buffer_consume(&buffer, frame.total_len);
    assert_int_equal(frame_parse(buffer.data, buffer.len, &frame), FRAME_WHOLE);
    assert_int_equal(frame.total_len, FRAME_HEADER_BYTES);
    buffer_consume(&buffer, frame.total_len);
    assert_int_equal(frame_parse(buffer.data, buffer.len, &frame), FRAME_WHOLE);
    assert_int_equal(frame.message_len, 4);
    assert_int_equal(frame.raw_len, 5);
    buffer_consume(&buffer, frame.total_len);
    assert_int_equal(frame_parse(buffer.data, buffer.len, &frame), FRAME_PARTIAL);
    buffer_done(&buffer);
}

static void frame_cut_anywhere_is_partial(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    append_frame(&buffer, strlen(message), strlen(raw));
    for (size_t len = 0; len < buffer.len; len++) {
        assert_int_equal(parse_copy(buffer.data, len), FRAME_PARTIAL);
    }
    assert_int_equal(parse_copy(buffer.data, buffer.len), FRAME_WHOLE);
    buffer_done(&buffer);
}

static void frame_with_any_bit_flipped_is_never_whole(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    append_frame(&buffer, strlen(message), strlen(raw));
    for (size_t bit = 0; bit < buffer.len * 8; bit++) {
        buffer.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        /* A greater length makes it wait for more bytes, as it must. */
        assert_int_not_equal(parse_copy(buffer.data, buffer.len), FRAME_WHOLE);
        buffer.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    assert_int_equal(parse_copy(buffer.data, buffer.len), FRAME_WHOLE);
    buffer_done(&buffer);
}

static void flipped_bit_outside_the_lengths_is_malformed(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    append_frame(&buffer, strlen(message), strlen(raw));
    for (size_t bit = 0; bit < buffer.len * 8; bit++) {
        if (bit / 8 >= 4 && bit / 8 < 12) {
            continue;
        }
        buffer.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(parse_copy(buffer.data, buffer.len), FRAME_MALFORMED);
        buffer.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    buffer_done(&buffer);
}

static void bytes_moved_from_message_to_raw_are_refused(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    append_frame(&buffer, strlen(message), strlen(raw));
    put_be32(buffer.data + 4, (uint32_t)strlen(message) - 1);
    put_be32(buffer.data + 8, (uint32_t)strlen(raw) + 1);
    assert_int_equal(parse_copy(buffer.data, buffer.len), FRAME_MALFORMED);
    buffer_done(&buffer);
}

static void wrong_magic_is_told_at_its_first_byte(void **state)
{
    static const uint8_t first_bytes[] = {0x00, 'a', 'z', 'G', 0x16, 0xd0, 0xff};

    (void)state;
    for (size_t i = 0; i < sizeof(first_bytes); i++) {
        assert_int_equal(parse_copy(first_bytes + i, 1), FRAME_MALFORMED);
    }
    assert_int_equal(parse_copy((const uint8_t *)"\xd1Q", 2), FRAME_PARTIAL);
    assert_int_equal(parse_copy((const uint8_t *)"\xd1X", 2), FRAME_MALFORMED);
    assert_int_equal(parse_copy((const uint8_t *)"\xd1QF\x02", 4), FRAME_MALFORMED);
}

static void forbidden_lengths_are_told_before_the_body_is_there(void **state)
{
    static const struct {
        uint32_t message_len;
        uint32_t raw_len;
        enum frame_state expected;
    } rows[] = {
        {FRAME_BYTES_MAX - FRAME_HEADER_BYTES, 0, FRAME_PARTIAL},
        {FRAME_BYTES_MAX - FRAME_HEADER_BYTES + 1, 0, FRAME_MALFORMED},
        {0x7fffffffu, 0, FRAME_MALFORMED},
        {0xffffffffu, 0xffffffffu, FRAME_MALFORMED},
        {0xffffffffu, 1, FRAME_MALFORMED},
        {0, FRAME_RAW_BYTES_MAX, FRAME_PARTIAL},
        {0, FRAME_RAW_BYTES_MAX + 1, FRAME_MALFORMED},
        {FRAME_BYTES_MAX - FRAME_HEADER_BYTES - FRAME_RAW_BYTES_MAX, FRAME_RAW_BYTES_MAX,
         FRAME_PARTIAL},
        {FRAME_BYTES_MAX - FRAME_HEADER_BYTES - FRAME_RAW_BYTES_MAX + 1, FRAME_RAW_BYTES_MAX,
         FRAME_MALFORMED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t header[12] = {0xd1, 'Q', 'F', 1};

        put_be32(header + 4, rows[i].message_len);
        put_be32(header + 8, rows[i].raw_len);
        assert_int_equal(parse_copy(header, sizeof(header)), rows[i].expected);
    }
}

static void largest_frame_comes_back_and_one_more_byte_is_refused(void **state)
{
    size_t body_len = FRAME_BYTES_MAX - FRAME_HEADER_BYTES;
    struct buffer buffer = {0};
    struct frame frame = {0};
    size_t start = 0;

    (void)state;
    assert_int_equal(buffer_append(&buffer, "kept", 4), ERR_OK);
    assert_int_equal(frame_begin(&buffer, &start), ERR_OK);
    assert_int_equal(start, 4);
    assert_non_null(buffer_reserve(&buffer, body_len));
    memset(buffer.data + buffer.len, 'm', body_len);
    buffer.len += body_len;
    assert_int_equal(frame_end(&buffer, start, FRAME_RAW_BYTES_MAX), ERR_OK);
    assert_int_equal(frame_parse(buffer.data + start, buffer.len - start, &frame), FRAME_WHOLE);
    assert_int_equal(frame.total_len, FRAME_BYTES_MAX);

    assert_int_equal(buffer_append_u8(&buffer, 'm'), ERR_OK);
    assert_int_equal(frame_end(&buffer, start, 0), ERR_TOO_BIG);
    assert_int_equal(buffer.len, 4);
    assert_memory_equal(buffer.data, "kept", 4);
    buffer_done(&buffer);
}

static void too_many_raw_bytes_are_refused_and_cut_away(void **state)
{
    size_t raw_len = FRAME_RAW_BYTES_MAX + 1;
    struct buffer buffer = {0};
    size_t start = 0;

    (void)state;
    assert_int_equal(frame_begin(&buffer, &start), ERR_OK);
    assert_non_null(buffer_reserve(&buffer, raw_len));
    memset(buffer.data + buffer.len, 'r', raw_len);
    buffer.len += raw_len;
    assert_int_equal(frame_end(&buffer, start, raw_len), ERR_TOO_BIG);
    assert_int_equal(buffer.len, 0);
    buffer_done(&buffer);
}

static void begin_in_a_full_buffer_changes_nothing(void **state)
{
    struct buffer buffer = {.max = FRAME_HEADER_BYTES};
    size_t start = 77;

    (void)state;
    assert_int_equal(buffer_append(&buffer, "x", 1), ERR_OK);
    assert_int_equal(frame_begin(&buffer, &start), ERR_TOO_BIG);
    assert_int_equal(start, 77);
    assert_int_equal(buffer.len, 1);
    buffer_done(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_comes_back_whole),
        cmocka_unit_test(frames_behind_each_other_come_back_one_by_one),
        cmocka_unit_test(frame_cut_anywhere_is_partial),
        cmocka_unit_test(frame_with_any_bit_flipped_is_never_whole),
        cmocka_unit_test(flipped_bit_outside_the_lengths_is_malformed),
        cmocka_unit_test(bytes_moved_from_message_to_raw_are_refused),
        cmocka_unit_test(wrong_magic_is_told_at_its_first_byte),
        cmocka_unit_test(forbidden_lengths_are_told_before_the_body_is_there),
        cmocka_unit_test(largest_frame_comes_back_and_one_more_byte_is_refused),
        cmocka_unit_test(too_many_raw_bytes_are_refused_and_cut_away),
        cmocka_unit_test(begin_in_a_full_buffer_changes_nothing),
    };

    return cmocka_run_group_tests_name("common_frame", tests, NULL, NULL);
}
