/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of fs/mount/mount_options and fs/mount/publish_when.
 */
#include "fs/mount/mount_options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "fs/mount/publish_when.h"

/* Parses the words up to a NULL. */
static enum err parse(struct mount_options *out, struct buffer *error, bool root,
                      const char *const *words)
{
    char *argv[16] = {(char *)(uintptr_t) "quorumfs"};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
    }
    buffer_clear(error);
    return mount_options_parse(argc, argv, root, out, error);
}

static void servers_subtree_and_mountpoint_are_parted(void **state)
{
    (void)state;
    struct mount_options options;
    struct buffer error = {0};
    const char *const words[] = {"unix:/run/q.sock,host:2182/etc/app/", "/mnt", NULL};
    assert_int_equal(parse(&options, &error, false, words), ERR_OK);
    assert_string_equal(options.servers, "unix:/run/q.sock,host:2182");
    assert_string_equal(options.subtree, "/etc/app");
    assert_string_equal(options.mountpoint, "/mnt");
    assert_int_equal(options.timeo_ms, 10000);
    assert_false(options.allow_other || options.default_permissions);
    mount_options_done(&options);
    buffer_done(&error);
}

static void a_unix_path_has_no_subtree_but_the_option_gives_one(void **state)
{
    (void)state;
    struct mount_options options;
    struct buffer error = {0};
    const char *const words[] = {"unix:/run/q.sock", "/mnt", "-o", "subtree=/a", NULL};
    assert_int_equal(parse(&options, &error, true, words), ERR_OK);
    assert_string_equal(options.servers, "unix:/run/q.sock");
    assert_string_equal(options.subtree, "/a");
    assert_true(options.allow_other && options.default_permissions);
    mount_options_done(&options);
    buffer_done(&error);
}

static void owner_group_and_mode_that_are_shown_and_the_size_of_the_cache(void **state)
{
    (void)state;
    struct mount_options options;
    struct buffer error = {0};
    const char *const words[] = {"h", "/m", "-o", "uid=7,gid=8,umask=027,cache=2M,name=web1", NULL};
    assert_int_equal(parse(&options, &error, true, words), ERR_OK);
    assert_true(options.show_uid && options.show_gid && options.show_mode);
    assert_int_equal(options.uid, 7);
    assert_int_equal(options.gid, 8);
    assert_int_equal(options.mode, 0750);
    assert_int_equal(options.cache_bytes, 2u * 1024 * 1024);
    assert_string_equal(options.name, "web1");
    mount_options_done(&options);
    const char *const bad[] = {"uid=x",      "uid=4294967295", "gid=-1",  "umask=8",
                               "umask=1777", "cache=1",        "cache=2T"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *const bad_words[] = {"h", "/m", "-o", bad[i], NULL};
        assert_int_equal(parse(&options, &error, true, bad_words), ERR_INVALID);
        assert_true(error.len > 0);
        mount_options_done(&options);
    }
    buffer_done(&error);
}

static void options_of_fstab_are_accepted_and_kernel_ones_handed_on(void **state)
{
    (void)state;
    struct mount_options options;
    struct buffer error = {0};
    const char *const words[] = {
        "a",  "/m",
        "-o", "rw,_netdev,nofail,x-systemd.automount=1,nosuid,noexec,hard,timeo=3",
        "-o", "fsname=a\\,b",
        NULL};
    assert_int_equal(parse(&options, &error, true, words), ERR_OK);
    assert_memory_equal(options.kernel.data, ",nosuid,noexec", options.kernel.len);
    assert_true(options.hard);
    assert_int_equal(options.timeo_ms, 3000);
    assert_string_equal(options.fsname, "a,b");
    mount_options_done(&options);
    buffer_done(&error);
}

static void wrong_command_lines_are_refused_with_a_sentence(void **state)
{
    (void)state;
    static const struct {
        const char *words[6];
        const char *says;
    } rows[] = {
        {{"a", "/m", "-o", "colour=red", NULL}, "colour"},
        {{"a", "/m", "-o", "quick", NULL}, "quick"},
        {{"a", "/m", "-o", "timeo=soon", NULL}, "timeo"},
        {{"a", "/m", "-o", "timeo=0", NULL}, "timeo"},
        {{"a", "/m", "-o", "read=fast", NULL}, "read"},
        {{"a", "/m", "-o", NULL}, "needs an argument"},
        {{"a", "/m", "-x", NULL}, "-x"},
        {{"a", NULL}, "MOUNTPOINT"},
        {{"a", "/m", "more", NULL}, "too many"},
        {{"a:99999", "/m", NULL}, "a:99999"},
        {{"", "/m", NULL}, "address"},
        {{"a", "/m", "-o", "subtree=x", NULL}, "absolute"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mount_options options;
        struct buffer error = {0};
        assert_int_equal(parse(&options, &error, false, rows[i].words), ERR_INVALID);
        assert_true(error.len > 0);
        assert_non_null(strstr((const char *)error.data, rows[i].says));
        mount_options_done(&options);
        buffer_done(&error);
    }
}

static void help_is_at_most_80_columns_wide(void **state)
{
    (void)state;
    const char *line = mount_options_help;
    while (*line != '\0') {
        size_t len = strcspn(line, "\n");
        assert_true(len <= 80);
        line += len + 1;
    }
}

/* ---- when a FLUSH publishes ---- */

static void the_opener_publishes_what_was_written(void **state)
{
    (void)state;
    struct publish_question question = {.written = true, .flusher = 5, .opener = 5};
    assert_true(publish_at_flush(&question));
    question.written = false; /* A shell closes its copy before the first write. */
    assert_false(publish_at_flush(&question));
}

static void another_process_does_not_publish_while_the_opener_lives(void **state)
{
    (void)state;
    struct publish_question question = {
        .written = true, .flusher = 6, .opener = 5, .flusher_wrote = true};
    assert_false(publish_at_flush(&question));
    question.opener_gone = true;
    assert_true(publish_at_flush(&question));
    question.flusher_wrote = false;
    assert_false(publish_at_flush(&question));
}

static void nobody_publishes_while_another_writer_runs(void **state)
{
    (void)state;
    struct publish_question question = {
        .written = true, .flusher = 5, .opener = 5, .writers_alive = 1};
    assert_false(publish_at_flush(&question));
}

static void a_caller_from_a_foreign_pid_namespace_waits_for_release(void **state)
{
    (void)state;
    struct publish_question question = {.written = true};
    assert_false(publish_at_flush(&question));
    question.opener_gone = true;
    question.flusher_wrote = true;
    assert_false(publish_at_flush(&question));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(servers_subtree_and_mountpoint_are_parted),
        cmocka_unit_test(a_unix_path_has_no_subtree_but_the_option_gives_one),
        cmocka_unit_test(owner_group_and_mode_that_are_shown_and_the_size_of_the_cache),
        cmocka_unit_test(options_of_fstab_are_accepted_and_kernel_ones_handed_on),
        cmocka_unit_test(wrong_command_lines_are_refused_with_a_sentence),
        cmocka_unit_test(help_is_at_most_80_columns_wide),
        cmocka_unit_test(the_opener_publishes_what_was_written),
        cmocka_unit_test(another_process_does_not_publish_while_the_opener_lives),
        cmocka_unit_test(nobody_publishes_while_another_writer_runs),
        cmocka_unit_test(a_caller_from_a_foreign_pid_namespace_waits_for_release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
