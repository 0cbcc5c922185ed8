/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of common/path.
 */
#include "common/path.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common/limits.h"

#define ROWS(array) (sizeof(array) / sizeof((array)[0]))

static enum err check_name(const char *name)
{
    return path_name_check((const uint8_t *)name, strlen(name));
}

static void names_are_any_bytes_but_slash_and_nul(void **state)
{
    uint8_t byte = 0;

    (void)state;
    for (unsigned value = 0; value < 256; value++) {
        enum err expected = value == 0 || value == '/' || value == '.' ? ERR_BAD_NAME : ERR_OK;

        byte = (uint8_t)value;
        assert_int_equal(path_name_check(&byte, 1), expected);
    }
    assert_int_equal(path_name_check((const uint8_t *)"a\0b", 3), ERR_BAD_NAME);
    assert_int_equal(check_name("a/b"), ERR_BAD_NAME);
    assert_int_equal(check_name(""), ERR_BAD_NAME);
}

static void dot_and_dot_dot_are_no_names_but_longer_ones_are(void **state)
{
    (void)state;
    assert_int_equal(check_name("."), ERR_BAD_NAME);
    assert_int_equal(check_name(".."), ERR_BAD_NAME);
    assert_int_equal(check_name("..."), ERR_OK);
    assert_int_equal(check_name(".a"), ERR_OK);
    assert_int_equal(check_name("..a"), ERR_OK);
    assert_int_equal(check_name("a."), ERR_OK);
}

static void names_end_at_their_limit(void **state)
{
    uint8_t name[NAME_BYTES_MAX + 1];

    (void)state;
    memset(name, 'n', sizeof(name));
    assert_int_equal(path_name_check(name, NAME_BYTES_MAX), ERR_OK);
    assert_int_equal(path_name_check(name, NAME_BYTES_MAX + 1), ERR_NAME_TOO_LONG);
}

static void paths_are_judged_name_by_name(void **state)
{
    static const char *const good[] = {"/", "/a", "/a/b", "/a/.b/..c", "/ /\n"};
    static const char *const bad[] = {"",     "a",   "a/b",  "//",    "/a/", "/a//b",
                                      "/./a", "/..", "/a/.", "/a/..", "//a", "./a"};

    (void)state;
    for (size_t i = 0; i < ROWS(good); i++) {
        assert_int_equal(path_check(good[i], strlen(good[i])), ERR_OK);
    }
    for (size_t i = 0; i < ROWS(bad); i++) {
        assert_int_equal(path_check(bad[i], strlen(bad[i])), ERR_BAD_NAME);
    }
    assert_int_equal(path_check("/a\0b", 4), ERR_BAD_NAME);
}

static void paths_end_at_their_limits(void **state)
{
    char path[PATH_BYTES_MAX + 1];

    (void)state;
    for (size_t i = 0; i < sizeof(path); i++) {
        path[i] = i % 128 == 0 ? '/' : 'p';
    }
    assert_int_equal(path_check(path, PATH_BYTES_MAX), ERR_OK);
    assert_int_equal(path_check(path, PATH_BYTES_MAX + 1), ERR_NAME_TOO_LONG);
    memset(path + 1, 'p', sizeof(path) - 1);
    assert_int_equal(path_check(path, 1 + NAME_BYTES_MAX), ERR_OK);
    assert_int_equal(path_check(path, 2 + NAME_BYTES_MAX), ERR_NAME_TOO_LONG);
}

static void walking_gives_each_name_once_and_in_order(void **state)
{
    static const char path[] = "/a/bc/def";
    static const char *const names[] = {"a", "bc", "def"};
    size_t offset = 0;
    const char *name = NULL;
    size_t name_len = 0;

    (void)state;
    for (size_t i = 0; i < ROWS(names); i++) {
        assert_true(path_next(path, strlen(path), &offset, &name, &name_len));
        assert_int_equal(name_len, strlen(names[i]));
        assert_memory_equal(name, names[i], name_len);
    }
    assert_false(path_next(path, strlen(path), &offset, &name, &name_len));
    assert_false(path_next(path, strlen(path), &offset, &name, &name_len));
}

static void root_has_no_names(void **state)
{
    size_t offset = 0;
    const char *name = NULL;
    size_t name_len = 0;

    (void)state;
    assert_false(path_next("/", 1, &offset, &name, &name_len));
}

static void path_splits_into_parent_and_name(void **state)
{
    static const struct {
        const char *path;
        size_t parent_len;
        const char *name;
    } rows[] = {
        {"/a", 1, "a"},
        {"/a/b", 2, "b"},
        {"/long/er/path", 8, "path"},
    };

    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        size_t parent_len = 0;
        const char *name = NULL;
        size_t name_len = 0;

        path_split(rows[i].path, strlen(rows[i].path), &parent_len, &name, &name_len);
        assert_int_equal(parent_len, rows[i].parent_len);
        assert_int_equal(name_len, strlen(rows[i].name));
        assert_memory_equal(name, rows[i].name, name_len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_any_bytes_but_slash_and_nul),
        cmocka_unit_test(dot_and_dot_dot_are_no_names_but_longer_ones_are),
        cmocka_unit_test(names_end_at_their_limit),
        cmocka_unit_test(paths_are_judged_name_by_name),
        cmocka_unit_test(paths_end_at_their_limits),
        cmocka_unit_test(walking_gives_each_name_once_and_in_order),
        cmocka_unit_test(root_has_no_names),
        cmocka_unit_test(path_splits_into_parent_and_name),
    };

    return cmocka_run_group_tests_name("common_path", tests, NULL, NULL);
}
