/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the error table.
 */
#include "common/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct row {
    const char *name;
    int number;
    int errno_value;
    const char *text;
};

static const struct row rows[] = {
#define ERR_ROW(name, number, errno_value, text) {#name, number, errno_value, text},
    ERR_TABLE(ERR_ROW)
#undef ERR_ROW
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static void numbers_and_names_are_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        for (size_t j = i + 1; j < ROW_COUNT; j++) {
            assert_int_not_equal(rows[i].number, rows[j].number);
            assert_string_not_equal(rows[i].name, rows[j].name);
            assert_string_not_equal(rows[i].text, rows[j].text);
        }
    }
}

static void every_row_is_found_by_its_number(void **state)
{
    (void)state;
    assert_true(ROW_COUNT > 40);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        enum err err = err_from_number(rows[i].number);

        assert_int_equal((int)err, rows[i].number);
        assert_string_equal(err_name(err), rows[i].name);
        assert_string_equal(err_text(err), rows[i].text);
        assert_int_equal(err_errno(err), rows[i].errno_value);
    }
}

static void only_ok_is_zero_and_has_no_errno(void **state)
{
    (void)state;
    assert_int_equal(ERR_OK, 0);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        assert_int_equal(rows[i].errno_value == 0, rows[i].number == 0);
        assert_true(rows[i].errno_value >= 0);
    }
}

/* They cross the wire and lie in stored answers: a release must not change them. */
static void numbers_stay_as_they_were_released(void **state)
{
    (void)state;
    assert_int_equal(ERR_INTERNAL, 12);
    assert_int_equal(ERR_NO_LEADER, 22);
    assert_int_equal(ERR_SESSION_EXPIRED, 40);
    assert_int_equal(ERR_ANSWER_LOST, 43);
    assert_int_equal(ERR_NO_NODE, 60);
    assert_int_equal(ERR_TOO_MANY_LINKS, 77);
}

static void unknown_numbers_from_the_wire_become_internal(void **state)
{
    static const int strange[] = {-1, 13, 19, 59, 99, 100000, INT32_MAX, INT32_MIN};

    (void)state;
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
        assert_int_equal(err_from_number(strange[i]), ERR_INTERNAL);
    }
}

static void unknown_numbers_have_a_name_and_an_errno(void **state)
{
    (void)state;
    assert_string_equal(err_name((enum err)59), "UNKNOWN");
    assert_string_equal(err_text((enum err)59), "UNKNOWN");
    assert_int_equal(err_errno((enum err)59), EIO);
}

static void errno_of_system_calls_is_translated(void **state)
{
    (void)state;
    assert_int_equal(err_from_errno(0), ERR_OK);
    assert_int_equal(err_from_errno(ENOMEM), ERR_MEMORY);
    assert_int_equal(err_from_errno(ENOSPC), ERR_NO_SPACE);
    assert_int_equal(err_from_errno(EDQUOT), ERR_NO_SPACE);
    assert_int_equal(err_from_errno(EACCES), ERR_ACCESS);
    assert_int_equal(err_from_errno(ETIMEDOUT), ERR_TIMEOUT);
    /* A read-only disk does not mean that the ensemble has no leader. */
    assert_int_equal(err_from_errno(EROFS), ERR_IO);
    assert_int_equal(err_from_errno(EIO), ERR_IO);
    assert_int_equal(err_from_errno(123456), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_and_names_are_unique),
        cmocka_unit_test(every_row_is_found_by_its_number),
        cmocka_unit_test(only_ok_is_zero_and_has_no_errno),
        cmocka_unit_test(numbers_stay_as_they_were_released),
        cmocka_unit_test(unknown_numbers_from_the_wire_become_internal),
        cmocka_unit_test(unknown_numbers_have_a_name_and_an_errno),
        cmocka_unit_test(errno_of_system_calls_is_translated),
    };

    return cmocka_run_group_tests_name("common_err", tests, NULL, NULL);
}
