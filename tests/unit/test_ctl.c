/* SPDX-License-Identifier: Apache-2.0
 *
 * quorumctl without an ensemble: usage, help, paths, how values look.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/ctl/ctl.h"

#define OUTPUT_BYTES    65536u
#define ARGUMENTS_MAX   8
#define HELP_COLUMNS    80u
#define MAN_PAGE        "packaging/man/quorumctl.1"
#define COMPLETION_FILE "packaging/completion/quorumctl.bash"

static const char *const commands[] = {"status", "members", "ls", "stat", "get",  "set",
                                       "create", "rm",      "mv", "sync", "watch"};
#define COMMANDS (sizeof commands / sizeof commands[0])

/* What was written to standard output and error by one run. */
static char output[OUTPUT_BYTES];

static FILE *capture_file;
static int kept_stdout;
static int kept_stderr;

static void capture_begin(void)
{
    (void)fflush(stdout);
    capture_file = tmpfile();
    assert_non_null(capture_file);
    kept_stdout = dup(STDOUT_FILENO);
    kept_stderr = dup(STDERR_FILENO);
    assert_true(dup2(fileno(capture_file), STDOUT_FILENO) >= 0);
    assert_true(dup2(fileno(capture_file), STDERR_FILENO) >= 0);
}

static void capture_end(void)
{
    (void)fflush(stdout);
    assert_true(dup2(kept_stdout, STDOUT_FILENO) >= 0);
    assert_true(dup2(kept_stderr, STDERR_FILENO) >= 0);
    (void)close(kept_stdout);
    (void)close(kept_stderr);
    rewind(capture_file);
    size_t len = fread(output, 1, sizeof output - 1, capture_file);
    output[len] = '\0';
    (void)fclose(capture_file);
}

/* Runs quorumctl with the words of a line. */
static int ctl(const char *line)
{
    char words[512];
    char program[] = "quorumctl";
    char *argv[ARGUMENTS_MAX + 2] = {program};
    char *rest = words;
    int argc = 1;

    (void)snprintf(words, sizeof words, "%s", line);
    while (argc <= ARGUMENTS_MAX && rest != NULL && *rest != '\0') {
        argv[argc] = strsep(&rest, " ");
        argc += argv[argc][0] != '\0' ? 1 : 0;
    }
    capture_begin();
    int status = ctl_main(argc, argv);
    capture_end();
    return status;
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "re");
    char *text = calloc(1, OUTPUT_BYTES);

    assert_non_null(file);
    assert_non_null(text);
    assert_true(fread(text, 1, OUTPUT_BYTES - 1, file) > 0);
    (void)fclose(file);
    return text;
}

/* The man page with its \- as plain -. */
static char *read_man_page(void)
{
    char *text = read_file(MAN_PAGE);
    char *to = text;

    for (const char *from = text; *from != '\0'; from++) {
        if (from[0] != '\\' || from[1] != '-') {
            *to++ = *from;
        }
    }
    *to = '\0';
    return text;
}

static void wrong_usage_exits_with_2_and_a_hint(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "frobnicate",
        "--frobnicate",
        "ls -z",
        "get",
        "get /a /b",
        "set /a",
        "set -v x /a b",
        "create --dir /a data",
        "create -m 9 /a",
        "rm -r -v 1 /a",
        "members frobnicate 1",
        "members add 4",
        "members add 4 nowhere",
        "members add 4 127.0.0.1:0",
        "members add 0 127.0.0.1:1",
        "members remove",
        "members remove 1 2",
        "members promote x",
        "members demote 65536",
        "members transfer 1 2",
        "members -w soon remove 1",
        "watch",
        "watch --since x /a",
        "watch --check true /a",
        "watch --debounce 5 /a",
        "watch --exec true --debounce x /a",
        "--timeout 0 status",
        "--timeout",
        "--server a,,b status",
        "--server unix:relative create /a",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_int_equal(2, ctl(lines[i]));
        assert_int_equal(0, strncmp(output, "quorumctl: ", 11));
        assert_non_null(strstr(output, "--help'\n"));
    }
}

static void help_fits_80_columns_and_names_every_command(void **state)
{
    (void)state;
    assert_int_equal(0, ctl("--help"));
    for (size_t i = 0; i < COMMANDS; i++) {
        assert_non_null(strstr(output, commands[i]));
    }
    for (size_t i = 0; i <= COMMANDS; i++) {
        char line[64];
        (void)snprintf(line, sizeof line, "%s --help", i < COMMANDS ? commands[i] : "");
        assert_int_equal(0, ctl(line));
        assert_int_equal(0, strncmp(output, "Usage: quorumctl ", 17));
        for (const char *at = output; *at != '\0';) {
            size_t len = strcspn(at, "\n");
            assert_in_range(len, 0, HELP_COLUMNS);
            at += len + (at[len] == '\n' ? 1 : 0);
        }
    }
}

static void options_of_the_help_stand_in_man_page_and_completion(void **state)
{
    (void)state;
    char *man = read_man_page();
    char *completion = read_file(COMPLETION_FILE);
    size_t seen = 0;

    for (size_t i = 0; i < COMMANDS; i++) {
        char line[64];
        (void)snprintf(line, sizeof line, "%s --help", commands[i]);
        assert_int_equal(0, ctl(line));
        assert_non_null(strstr(man, commands[i]));
        assert_non_null(strstr(completion, commands[i]));
        for (const char *at = strstr(output, "--"); at != NULL; at = strstr(at + 2, "--")) {
            char option[64];
            size_t len = 2 + strspn(at + 2, "abcdefghijklmnopqrstuvwxyz-");
            (void)snprintf(option, sizeof option, "%.*s", (int)len, at);
            assert_non_null(strstr(man, option));
            assert_non_null(strstr(completion, option));
            seen++;
        }
    }
    assert_true(seen > COMMANDS); /* It looked at something. */
    free(man);
    free(completion);
}

static void unreachable_ensemble_is_said_and_nothing_was_changed(void **state)
{
    (void)state;
    assert_int_equal(1, ctl("--server unix:/nonexistent/sock --timeout 1 create /a b"));
    assert_string_equal(output, "quorumctl: create /a: no replica answers at "
                                "unix:/nonexistent/sock; nothing was changed (NO_LEADER)\n");
    assert_int_equal(1, ctl("--mount /proc status"));
    assert_non_null(strstr(output, "no quorumfs is mounted"));
}

static void paths_are_cleaned_and_bad_ones_refused(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
    } good[] = {{"/", "/"},           {"/a", "/a"},      {"/a/", "/a"},      {"//a///b", "/a/b"},
                {"/a/./b", "/a/b"},   {"/a/../b", "/b"}, {"/../../a", "/a"}, {"/a/..", "/"},
                {"/a/...", "/a/..."}, {"/a b", "/a b"}};
    struct ctl ctl = {.servers = "", .places_known = true};
    struct buffer path = {0};

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(ERR_OK, ctl_path(&ctl, good[i].from, &path));
        assert_string_equal(good[i].to, (const char *)path.data);
        assert_int_equal(strlen(good[i].to), path.len);
    }
    assert_int_equal(ERR_BAD_NAME, ctl_path(&ctl, "relative", &path));
    assert_int_equal(ERR_BAD_NAME, ctl_path(&ctl, "", &path));
    char name[400] = "/";
    memset(name + 1, 'n', 300);
    assert_int_equal(ERR_NAME_TOO_LONG, ctl_path(&ctl, name, &path));
    buffer_done(&path);
}

static void path_outside_of_any_mount_is_one_of_the_tree(void **state)
{
    (void)state;
    struct ctl ctl = {.servers = "default"};
    struct buffer path = {0};

    assert_int_equal(ERR_OK, ctl_path(&ctl, "/proc/self/../self", &path));
    assert_string_equal("/proc/self", (const char *)path.data);
    assert_string_equal("default", ctl.servers);
    assert_int_equal(ERR_BAD_NAME, ctl_path(&ctl, "relative", &path));
    buffer_done(&path);
}

static void unprintable_bytes_of_names_are_escaped(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t len;
        const char *shown;
    } names[] = {
        {"plain name", 10, "plain name"},
        {"a\nb\x7f", 4, "a\\x0ab\\x7f"},
        {"back\\slash", 10, "back\\x5cslash"},
        {"gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc\xc3\x9f"},
        {"\xc3", 1, "\\xc3"},
        {"\xc0\xaf", 2, "\\xc0\\xaf"},          /* overlong */
        {"\xed\xa0\x80", 3, "\\xed\\xa0\\x80"}, /* a surrogate */
        {"\xc2\x9b", 2, "\\xc2\\x9b"},          /* a control character of C1 */
        {"\xf0\x9f\x98\x80", 4, "\xf0\x9f\x98\x80"},
        {"\xff\xfe", 2, "\\xff\\xfe"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        capture_begin();
        ctl_print_name(names[i].name, names[i].len);
        capture_end();
        assert_string_equal(names[i].shown, output);
    }
}

static void json_keeps_bytes_that_are_no_text(void **state)
{
    (void)state;
    json_t *object = json_object();
    ctl_json_bytes(object, "name", "text", 4);
    ctl_json_bytes(object, "data", "\xff\x00\x10", 3);
    ctl_json_number(object, "big", UINT64_MAX);
    ctl_json_number(object, "small", 12);
    assert_string_equal("text", json_string_value(json_object_get(object, "name")));
    assert_string_equal("ff0010", json_string_value(json_object_get(object, "data_hex")));
    assert_null(json_object_get(object, "data"));
    assert_string_equal("18446744073709551615", json_string_value(json_object_get(object, "big")));
    assert_int_equal(12, json_integer_value(json_object_get(object, "small")));
    json_decref(object);
}

static void modes_and_times_look_as_ls_shows_them(void **state)
{
    (void)state;
    Wire__Attr attr = WIRE__ATTR__INIT;
    char text[40];
    attr.kind = WIRE__KIND__KIND_DIR;
    attr.mode = 01755;
    ctl_mode_text(&attr, text);
    assert_string_equal("drwxr-xr-t", text);
    attr.kind = WIRE__KIND__KIND_FILE;
    attr.mode = 06640;
    ctl_mode_text(&attr, text);
    assert_string_equal("-rwSr-S---", text);
    ctl_time_text(0, text);
    assert_string_equal("1970-01-01 00:00:00.000000000 UTC", text);
    ctl_time_text(-1, text);
    assert_string_equal("1969-12-31 23:59:59.999999999 UTC", text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_usage_exits_with_2_and_a_hint),
        cmocka_unit_test(help_fits_80_columns_and_names_every_command),
        cmocka_unit_test(options_of_the_help_stand_in_man_page_and_completion),
        cmocka_unit_test(unreachable_ensemble_is_said_and_nothing_was_changed),
        cmocka_unit_test(paths_are_cleaned_and_bad_ones_refused),
        cmocka_unit_test(path_outside_of_any_mount_is_one_of_the_tree),
        cmocka_unit_test(unprintable_bytes_of_names_are_escaped),
        cmocka_unit_test(json_keeps_bytes_that_are_no_text),
        cmocka_unit_test(modes_and_times_look_as_ls_shows_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
