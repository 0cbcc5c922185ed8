/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of common/logging and common/check: what they write to stderr, read through a pipe.
 */
#include "common/logging.h"

#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/check.h"
#include "common/clock.h"

/* stderr, led into a pipe while a test looks at it. */
struct capture {
    int stderr_before;
    int pipe_read;
};

static void capture_open(struct capture *capture)
{
    int ends[2] = {-1, -1};

    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    capture->stderr_before = dup(STDERR_FILENO);
    capture->pipe_read = ends[0];
    assert_true(capture->stderr_before >= 0);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
}

/* Gives stderr back; what was written is in `text`. */
static void capture_close(struct capture *capture, char *text, size_t text_bytes)
{
    ssize_t len = read(capture->pipe_read, text, text_bytes - 1);

    dup2(capture->stderr_before, STDERR_FILENO);
    close(capture->stderr_before);
    close(capture->pipe_read);
    text[len > 0 ? len : 0] = '\0';
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t regex;

    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    if (regexec(&regex, text, 0, NULL, 0) != 0) {
        fail_msg("\"%s\" does not match %s", text, pattern);
    }
    regfree(&regex);
}

static void line_has_time_level_module_event_and_pairs(void **state)
{
    struct capture capture;
    char text[4096];

    (void)state;
    capture_open(&capture);
    log_info("replica", "leader_change", "term=%d leader=%d", 7, 2);
    capture_close(&capture, text, sizeof(text));
    assert_matches(text, "^ts=20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
                         "level=info at=replica event=leader_change term=7 leader=2\n$");
}

static void line_without_pairs_ends_behind_the_event(void **state)
{
    struct capture capture;
    char text[4096];

    (void)state;
    capture_open(&capture);
    log_error("log", "torn", "");
    capture_close(&capture, text, sizeof(text));
    assert_matches(text, " level=error at=log event=torn\n$");
}

static void less_important_levels_are_off_until_asked_for(void **state)
{
    struct capture capture;
    char text[4096];

    (void)state;
    capture_open(&capture);
    log_debug("test", "hidden", "a=%d", 1);
    logging_set_level(LOG_LEVEL_DEBUG);
    log_debug("test", "shown", "a=%d", 1);
    logging_set_level(LOG_LEVEL_ERROR);
    log_warn("test", "hidden", "a=%d", 1);
    logging_set_level(LOG_LEVEL_INFO);
    capture_close(&capture, text, sizeof(text));
    assert_matches(text, "^ts=[^ ]* level=debug at=test event=shown a=1\n$");
}

static void control_characters_in_values_cannot_forge_a_line(void **state)
{
    struct capture capture;
    char text[4096];

    (void)state;
    capture_open(&capture);
    log_info("test", "value", "name=\"%s\"", "a\nts=now level=error\x1b[2J\x7f\r\xc3\xa4");
    capture_close(&capture, text, sizeof(text));
    assert_matches(text, "name=\"a\\?ts=now level=error\\?\\[2J\\?\\?\xc3\xa4\"\n$");
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void overlong_line_is_cut_and_still_one_line(void **state)
{
    struct capture capture;
    char text[8192];
    char value[5000];

    (void)state;
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    capture_open(&capture);
    log_info("test", "long", "value=%s", value);
    capture_close(&capture, text, sizeof(text));
    assert_int_equal(strlen(text), 2048);
    assert_string_equal(text + strlen(text) - 5, "v...\n");
}

static void logging_keeps_errno(void **state)
{
    struct capture capture;
    char text[4096];

    (void)state;
    capture_open(&capture);
    errno = ENOENT;
    log_info("test", "errno", "a=%d", 1);
    assert_int_equal(errno, ENOENT);
    capture_close(&capture, text, sizeof(text));
}

static void failed_check_shows_place_and_values_and_aborts(void **state)
{
    struct capture capture;
    char text[4096];
    int status = 0;
    pid_t child = 0;

    (void)state;
    capture_open(&capture);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int64_t applied = 5;

        signal(SIGABRT, SIG_DFL); /* not the handler of the test library */
        CHECK_OP(applied, >=, 7);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    capture_close(&capture, text, sizeof(text));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_matches(text, "place=tests/unit/test_common_logging.c:[0-9]+ check=\"applied >= 7\" "
                         "a=5 b=7\n$");
}

static void clocks_do_not_run_backwards(void **state)
{
    uint64_t monotonic_ms = clock_monotonic_ms();
    uint64_t boottime_ms = clock_boottime_ms();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint64_t monotonic_now_ms = clock_monotonic_ms();
        uint64_t boottime_now_ms = clock_boottime_ms();

        assert_true(monotonic_now_ms >= monotonic_ms);
        assert_true(boottime_now_ms >= boottime_ms);
        monotonic_ms = monotonic_now_ms;
        boottime_ms = boottime_now_ms;
    }
    /* 2020: nanoseconds, not milliseconds or seconds. */
    assert_true(clock_realtime_ns() > 1577836800LL * 1000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_has_time_level_module_event_and_pairs),
        cmocka_unit_test(line_without_pairs_ends_behind_the_event),
        cmocka_unit_test(less_important_levels_are_off_until_asked_for),
        cmocka_unit_test(control_characters_in_values_cannot_forge_a_line),
        cmocka_unit_test(overlong_line_is_cut_and_still_one_line),
        cmocka_unit_test(logging_keeps_errno),
        cmocka_unit_test(failed_check_shows_place_and_values_and_aborts),
        cmocka_unit_test(clocks_do_not_run_backwards),
    };

    return cmocka_run_group_tests_name("common_logging", tests, NULL, NULL);
}
