/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of common/parse.
 */
#include "common/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ROWS(array) (sizeof(array) / sizeof((array)[0]))

static void numbers_within_the_range_are_taken(void **state)
{
    uint64_t value = 0;

    (void)state;
    assert_int_equal(parse_u64("0", 0, 10, &value), ERR_OK);
    assert_true(value == 0);
    assert_int_equal(parse_u64("10", 0, 10, &value), ERR_OK);
    assert_true(value == 10);
    assert_int_equal(parse_u64("0007", 7, 7, &value), ERR_OK);
    assert_true(value == 7);
    assert_int_equal(parse_u64("18446744073709551615", 0, UINT64_MAX, &value), ERR_OK);
    assert_true(value == UINT64_MAX);
}

static void numbers_outside_the_range_change_nothing(void **state)
{
    static const char *const bad[] = {"4", "11", "18446744073709551616",
                                      "99999999999999999999999999999999999999999"};
    uint64_t value = 77;

    (void)state;
    for (size_t i = 0; i < ROWS(bad); i++) {
        assert_int_equal(parse_u64(bad[i], 5, 10, &value), ERR_INVALID);
    }
    assert_int_equal(parse_u64("18446744073709551616", 0, UINT64_MAX, &value), ERR_INVALID);
    assert_int_equal(parse_u64("5", 0, 4, &value), ERR_INVALID);
    assert_int_equal(parse_u64("1", 0, 0, &value), ERR_INVALID);
    assert_true(value == 77);
}

static void text_that_is_not_wholly_a_number_is_refused(void **state)
{
    static const char *const bad[] = {"",    " 1",  "1 ", "+1", "-1", "0x10", "1k",
                                      "1.0", "1\n", "a",  "/",  ":",  "\xb2", "١"};
    uint64_t value = 77;

    (void)state;
    for (size_t i = 0; i < ROWS(bad); i++) {
        assert_int_equal(parse_u64(bad[i], 0, UINT64_MAX, &value), ERR_INVALID);
    }
    assert_true(value == 77);
}

static void modes_are_octal_up_to_07777(void **state)
{
    static const char *const bad[] = {"", "8", "0x1ff", "10000", "-1", "rwx", "0o755"};
    uint32_t mode = 0;

    (void)state;
    assert_int_equal(parse_mode("755", &mode), ERR_OK);
    assert_int_equal(mode, 0755);
    assert_int_equal(parse_mode("0644", &mode), ERR_OK);
    assert_int_equal(mode, 0644);
    assert_int_equal(parse_mode("07777", &mode), ERR_OK);
    assert_int_equal(mode, 07777);
    assert_int_equal(parse_mode("0", &mode), ERR_OK);
    assert_int_equal(mode, 0);
    mode = 77;
    for (size_t i = 0; i < ROWS(bad); i++) {
        assert_int_equal(parse_mode(bad[i], &mode), ERR_INVALID);
    }
    assert_int_equal(mode, 77);
}

static void addresses_are_split_into_host_and_port(void **state)
{
    static const struct {
        const char *text;
        const char *host;
        uint16_t port;
    } rows[] = {
        {"localhost:2181", "localhost", 2181},
        {"localhost", "localhost", 99},
        {"10.0.0.1:1", "10.0.0.1", 1},
        {"node-1.example.org:65535", "node-1.example.org", 65535},
        {"[::1]:2182", "::1", 2182},
        {"[fe80::1%eth0]", "fe80::1%eth0", 99},
        {"unix:/run/quorum/1.sock", "/run/quorum/1.sock", 0},
        {"unix:/a:b c", "/a:b c", 0},
    };

    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        char host[64] = "";
        uint16_t port = 7;

        assert_int_equal(parse_address(rows[i].text, 99, host, sizeof(host), &port), ERR_OK);
        assert_string_equal(host, rows[i].host);
        assert_int_equal(port, rows[i].port);
    }
}

static void bad_addresses_change_nothing(void **state)
{
    static const char *const bad[] = {
        "",          ":2181",    "host:",       "host:0",  "host:65536",    "host:x",
        "host:1:2",  "::1",      "::1:2181",    "[::1",    "[]:1",          "[::1]x",
        "[::1]:",    "[host]:1", "host name:1", "a/b:1",   "unix:",         "unix:relative",
        "[::1]2181", "host:-1",  "host: 1",     "host:1 ", "h\xc3\xb6st:1",
    };
    char host[64] = "before";
    uint16_t port = 7;

    (void)state;
    for (size_t i = 0; i < ROWS(bad); i++) {
        assert_int_equal(parse_address(bad[i], 99, host, sizeof(host), &port), ERR_INVALID);
    }
    assert_string_equal(host, "before");
    assert_int_equal(port, 7);
}

static void host_must_fit_with_its_nul(void **state)
{
    char host[5] = "";
    uint16_t port = 7;

    (void)state;
    assert_int_equal(parse_address("abcd:1", 99, host, sizeof(host), &port), ERR_OK);
    assert_string_equal(host, "abcd");
    assert_int_equal(parse_address("abcde:1", 99, host, sizeof(host), &port), ERR_INVALID);
    assert_int_equal(parse_address("unix:/abcd", 99, host, sizeof(host), &port), ERR_INVALID);
    assert_string_equal(host, "abcd");
}

static void bytes_take_a_suffix_and_keep_their_bounds(void **state)
{
    (void)state;
    uint64_t value = 5;
    assert_int_equal(parse_bytes("4096", 0, 1u << 20, &value), ERR_OK);
    assert_int_equal(value, 4096);
    assert_int_equal(parse_bytes("3K", 0, 1u << 20, &value), ERR_OK);
    assert_int_equal(value, 3072);
    assert_int_equal(parse_bytes("1M", 1, 1u << 20, &value), ERR_OK);
    assert_int_equal(value, 1u << 20);
    assert_int_equal(parse_bytes("2G", 0, UINT64_MAX, &value), ERR_OK);
    assert_int_equal(value, 1ull << 31);
    const char *const bad[] = {
        "", "K", "1k", "1KK", "-1", "1 M", "2M", "0x1K", "18446744073709551615G"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse_bytes(bad[i], 0, 1u << 20, &value), ERR_INVALID);
    }
    assert_int_equal(parse_bytes("1K", 1025, UINT64_MAX, &value), ERR_INVALID);
    assert_int_equal(value, 1ull << 31);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_within_the_range_are_taken),
        cmocka_unit_test(numbers_outside_the_range_change_nothing),
        cmocka_unit_test(text_that_is_not_wholly_a_number_is_refused),
        cmocka_unit_test(modes_are_octal_up_to_07777),
        cmocka_unit_test(addresses_are_split_into_host_and_port),
        cmocka_unit_test(bad_addresses_change_nothing),
        cmocka_unit_test(host_must_fit_with_its_nul),
        cmocka_unit_test(bytes_take_a_suffix_and_keep_their_bounds),
    };

    return cmocka_run_group_tests_name("common_parse", tests, NULL, NULL);
}
