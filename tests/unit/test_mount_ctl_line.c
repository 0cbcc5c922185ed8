/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of fs/mount/ctl_line: lines of `.quorumfs/ctl`, good, bad and cut anywhere.
 */
#include "fs/mount/ctl_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static enum err parse_in(const char *root, const char *text, struct ctl_line *out)
{
    const char *reason = NULL;
    enum err err = ctl_line_parse(text, strlen(text), root, out, &reason);
    assert_true(err == ERR_OK || (err == ERR_INVALID && reason != NULL));
    return err;
}

static void expect_bytes(const struct buffer *buffer, const char *bytes, size_t len)
{
    assert_int_equal(buffer->len, len);
    assert_memory_equal(buffer->data, bytes, len);
}

static void expect_text(const struct buffer *buffer, const char *text)
{
    expect_bytes(buffer, text, strlen(text));
}

static void lines_are_read(void **state)
{
    (void)state;
    struct ctl_line line;

    assert_int_equal(parse_in("/", "create -s -e -d /a/b  two  words ", &line), ERR_OK);
    assert_int_equal(line.verb, CTL_CREATE);
    assert_true(line.sequential && line.ephemeral && line.directory && !line.if_version);
    expect_text(&line.path, "/a/b");
    expect_text(&line.data, " two  words ");
    ctl_line_done(&line);

    assert_int_equal(parse_in("/", "set -v 4294967295 /a\\x20\\x2f\\xFF x\\n\\\\", &line), ERR_OK);
    assert_int_equal(line.verb, CTL_SET);
    assert_true(line.if_version);
    assert_int_equal(line.version, UINT32_MAX);
    expect_bytes(&line.path, "/a /\xff", 5);
    expect_text(&line.data, "x\n\\");
    ctl_line_done(&line);

    assert_int_equal(parse_in("/", "\t delete\t/x ", &line), ERR_OK);
    assert_int_equal(line.verb, CTL_DELETE);
    assert_false(line.if_version);
    ctl_line_done(&line);

    assert_int_equal(parse_in("/", " commit ", &line), ERR_OK);
    assert_int_equal(line.verb, CTL_COMMIT);
    assert_false(ctl_line_has_part(&line));
    ctl_line_done(&line);
}

static void paths_begin_at_the_root_of_the_mount(void **state)
{
    (void)state;
    struct ctl_line line;

    assert_int_equal(parse_in("/sub", "delete /x", &line), ERR_OK);
    expect_text(&line.path, "/sub/x");
    ctl_line_done(&line);
    assert_int_equal(parse_in("/sub", "check /", &line), ERR_OK);
    expect_text(&line.path, "/sub");
    ctl_line_done(&line);
    assert_int_equal(parse_in("/", "check /", &line), ERR_OK);
    expect_text(&line.path, "/");
    ctl_line_done(&line);
}

static void bad_lines_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "-",
        "jump",
        "creates /x",
        "create",
        "create x",
        "create -s",
        "create -x /a",
        "create /a\\",
        "create /a\\x",
        "set -v /x",
        "set -v",
        "set -v -1 /x",
        "set -v 1 ",
        "set /x \\q",
        "delete /x y",
        "delete -s /x",
        "check -v 4294967296 /x",
        "commit now",
        "create /\\x2g",
        "set -v 99999999999999999999 /x",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct ctl_line line;
        assert_int_equal(parse_in("/", lines[i], &line), ERR_INVALID);
        ctl_line_done(&line);
    }
}

static void a_line_cut_anywhere_is_read_or_refused(void **state)
{
    (void)state;
    const char *text = "create -s -e /a\\x20b\\\\ data\\n\\xff";
    for (size_t len = 0; len <= strlen(text); len++) {
        struct ctl_line line;
        const char *reason = NULL;
        enum err err = ctl_line_parse(text, len, "/sub", &line, &reason);
        assert_true(err == ERR_OK || err == ERR_INVALID);
        ctl_line_done(&line);
    }
}

static void messages_say_what_the_lines_say(void **state)
{
    (void)state;
    struct ctl_maker maker = {.uid = 1, .gid = 2, .holder = "host 1 sh"};
    struct ctl_line line;
    struct ctl_part part;

    assert_int_equal(parse_in("/", "create -e /x data", &line), ERR_OK);
    ctl_line_part(&line, &maker, &part);
    assert_int_equal(part.part.body_case, WIRE__PART__BODY_CREATE);
    assert_int_equal(part.create.kind, WIRE__KIND__KIND_FILE);
    assert_int_equal(part.create.uid, 1);
    assert_int_equal(part.create.gid, 2);
    assert_int_equal(part.create.data.len, 4);
    assert_int_equal(part.create.holder.len, 9);
    assert_true(part.create.ephemeral && !part.create.sequential);
    ctl_line_done(&line);

    assert_int_equal(parse_in("/", "set -v 3 /x", &line), ERR_OK);
    ctl_line_part(&line, &maker, &part);
    assert_int_equal(part.part.body_case, WIRE__PART__BODY_WRITE);
    assert_true(part.write.truncate && part.write.if_version);
    assert_int_equal(part.write.version, 3);
    assert_int_equal(part.write.append.len, 0);
    ctl_line_done(&line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_read),
        cmocka_unit_test(paths_begin_at_the_root_of_the_mount),
        cmocka_unit_test(bad_lines_are_refused_with_a_reason),
        cmocka_unit_test(a_line_cut_anywhere_is_read_or_refused),
        cmocka_unit_test(messages_say_what_the_lines_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
