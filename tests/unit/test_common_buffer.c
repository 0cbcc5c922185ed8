/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of common/buffer.
 */
#include "common/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void zeroed_buffer_is_empty_and_can_be_freed(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    buffer_clear(&buffer);
    buffer_consume(&buffer, 0);
    buffer_done(&buffer);
    assert_null(buffer.data);
    assert_int_equal(buffer.len, 0);
}

static void appended_bytes_stand_in_order_across_growth(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    for (size_t i = 0; i < 10000; i++) {
        assert_int_equal(buffer_append_u8(&buffer, (uint8_t)(i * 7)), ERR_OK);
        assert_true(buffer.len <= buffer.capacity);
    }
    assert_int_equal(buffer.len, 10000);
    for (size_t i = 0; i < 10000; i++) {
        assert_int_equal(buffer.data[i], (uint8_t)(i * 7));
    }
    buffer_done(&buffer);
}

static void numbers_are_big_endian_and_come_back(void **state)
{
    static const uint8_t expected[] = {0xab, 0x12, 0x34, 0x89, 0xab, 0xcd, 0xef, 0xfe,
                                       0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10};
    struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_append_u8(&buffer, 0xab), ERR_OK);
    assert_int_equal(buffer_append_be16(&buffer, 0x1234), ERR_OK);
    assert_int_equal(buffer_append_be32(&buffer, 0x89abcdefu), ERR_OK);
    assert_int_equal(buffer_append_be64(&buffer, 0xfedcba9876543210u), ERR_OK);
    assert_int_equal(buffer.len, sizeof(expected));
    assert_memory_equal(buffer.data, expected, sizeof(expected));
    assert_int_equal(get_be16(buffer.data + 1), 0x1234);
    assert_int_equal(get_be32(buffer.data + 3), 0x89abcdefu);
    assert_true(get_be64(buffer.data + 7) == 0xfedcba9876543210u);
    buffer_done(&buffer);
}

static void append_beyond_the_maximum_changes_nothing(void **state)
{
    struct buffer buffer = {.max = 10};

    (void)state;
    assert_int_equal(buffer_append(&buffer, "12345678", 8), ERR_OK);
    assert_int_equal(buffer_append(&buffer, "abc", 3), ERR_TOO_BIG);
    assert_int_equal(buffer_append_be32(&buffer, 1), ERR_TOO_BIG);
    assert_int_equal(buffer_append(&buffer, "abc", SIZE_MAX), ERR_TOO_BIG);
    assert_int_equal(buffer_printf(&buffer, "%s", "abc"), ERR_TOO_BIG);
    assert_null(buffer_reserve(&buffer, 3));
    assert_null(buffer_reserve(&buffer, SIZE_MAX));
    assert_int_equal(buffer.len, 8);
    assert_memory_equal(buffer.data, "12345678", 8);
    assert_int_equal(buffer_append(&buffer, "ab", 2), ERR_OK);
    assert_int_equal(buffer.len, 10);
    assert_int_equal(buffer_append_u8(&buffer, 0), ERR_TOO_BIG);
    buffer_done(&buffer);
    assert_int_equal(buffer.max, 10);
}

static void absurd_length_without_a_maximum_is_refused(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_append(&buffer, "a", 1), ERR_OK);
    assert_int_equal(buffer_append(&buffer, "a", SIZE_MAX), ERR_TOO_BIG);
    assert_null(buffer_reserve(&buffer, SIZE_MAX - 1));
    assert_int_equal(buffer.len, 1);
    buffer_done(&buffer);
}

static void appending_nothing_accepts_a_null_pointer(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_append(&buffer, NULL, 0), ERR_OK);
    assert_int_equal(buffer.len, 0);
    buffer_done(&buffer);
}

static void printf_appends_and_closes_with_a_nul(void **state)
{
    struct buffer buffer = {.max = 11};

    (void)state;
    assert_int_equal(buffer_printf(&buffer, "zxid=%d", 17), ERR_OK);
    assert_int_equal(buffer.len, 7);
    assert_string_equal((char *)buffer.data, "zxid=17");
    /* The closing NUL does not count for the maximum. */
    assert_int_equal(buffer_printf(&buffer, " %s", "abc"), ERR_OK);
    assert_string_equal((char *)buffer.data, "zxid=17 abc");
    assert_int_equal(buffer.len, buffer.max);
    buffer_done(&buffer);
}

static void printf_longer_than_the_first_capacity_is_whole(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_printf(&buffer, "%01000d|", 5), ERR_OK);
    assert_int_equal(buffer.len, 1001);
    assert_int_equal(strlen((char *)buffer.data), 1001);
    assert_int_equal(buffer.data[999], '5');
    assert_int_equal(buffer.data[1000], '|');
    buffer_done(&buffer);
}

static void reserve_gives_room_and_leaves_the_length(void **state)
{
    struct buffer buffer = {0};
    uint8_t *room = NULL;

    (void)state;
    assert_non_null(buffer_reserve(&buffer, 0));
    assert_int_equal(buffer_append(&buffer, "ab", 2), ERR_OK);
    room = buffer_reserve(&buffer, 5000);
    assert_non_null(room);
    assert_ptr_equal(room, buffer.data + 2);
    assert_int_equal(buffer.len, 2);
    memset(room, 'x', 5000);
    buffer.len += 5000;
    assert_memory_equal(buffer.data, "abxx", 4);
    buffer_done(&buffer);
}

static void consume_removes_from_the_front(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_append(&buffer, "abcdef", 6), ERR_OK);
    buffer_consume(&buffer, 2);
    assert_int_equal(buffer.len, 4);
    assert_memory_equal(buffer.data, "cdef", 4);
    buffer_consume(&buffer, 4);
    assert_int_equal(buffer.len, 0);
    assert_int_equal(buffer_append(&buffer, "gh", 2), ERR_OK);
    assert_memory_equal(buffer.data, "gh", 2);
    buffer_done(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_buffer_is_empty_and_can_be_freed),
        cmocka_unit_test(appended_bytes_stand_in_order_across_growth),
        cmocka_unit_test(numbers_are_big_endian_and_come_back),
        cmocka_unit_test(append_beyond_the_maximum_changes_nothing),
        cmocka_unit_test(absurd_length_without_a_maximum_is_refused),
        cmocka_unit_test(appending_nothing_accepts_a_null_pointer),
        cmocka_unit_test(printf_appends_and_closes_with_a_nul),
        cmocka_unit_test(printf_longer_than_the_first_capacity_is_whole),
        cmocka_unit_test(reserve_gives_room_and_leaves_the_length),
        cmocka_unit_test(consume_removes_from_the_front),
    };

    return cmocka_run_group_tests_name("common_buffer", tests, NULL, NULL);
}
