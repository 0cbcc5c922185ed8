/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the log on a thread of its own: what it reports, and what a full, slow or broken disk
 * does to it. On real files; single file calls are replaced.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/limits.h"
#include "tests/lib/log_fixture.h"

#define SEGMENT_BYTES (32u * KIB)
#define LEN           900u

struct fixture {
    char folder[64];
    struct log_io io;
    struct log *log;
    struct log_state state;
    struct log_thread *thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned wakes;
    bool sync_is_held; /* a sync waits while this is set */
    bool sync_waits;
};

/* Faults, for the calls of the thread. */
static atomic_bool is_full;
static atomic_bool unlink_makes_room;
static atomic_bool sync_fails;
static struct fixture *current;

static ssize_t try_pwrite(void *context, int fd, const void *from, size_t len, off_t offset)
{
    if (atomic_load(&is_full)) {
        errno = ENOSPC;
        return -1;
    }
    return log_io_system.pwrite(context, fd, from, len, offset);
}

static int try_fallocate(void *context, int fd, off_t offset, off_t len)
{
    if (atomic_load(&is_full)) {
        errno = ENOSPC;
        return -1;
    }
    return log_io_system.fallocate(context, fd, offset, len);
}

static int try_unlink(void *context, const char *path)
{
    if (atomic_load(&unlink_makes_room) && strstr(path, ".log") != NULL) {
        atomic_store(&is_full, false);
    }
    return log_io_system.unlink(context, path);
}

static int try_fdatasync(void *context, int fd)
{
    struct fixture *fixture = current;

    if (atomic_load(&sync_fails)) {
        errno = EIO;
        return -1;
    }
    assert_int_equal(pthread_mutex_lock(&fixture->lock), 0);
    while (fixture->sync_is_held) {
        fixture->sync_waits = true;
        (void)pthread_cond_broadcast(&fixture->changed);
        assert_int_equal(pthread_cond_wait(&fixture->changed, &fixture->lock), 0);
    }
    fixture->sync_waits = false;
    assert_int_equal(pthread_mutex_unlock(&fixture->lock), 0);
    return log_io_system.fdatasync(context, fd);
}

/* A machine with space, whatever the true one has. */
static int tell_space(void *context, const char *folder, uint64_t *out_total, uint64_t *out_free)
{
    (void)context;
    (void)folder;
    *out_total = 1000 * LOG_LOW_SPACE_BYTES;
    *out_free = atomic_load(&is_full) ? 0 : 100 * LOG_LOW_SPACE_BYTES;
    return 0;
}

static void wake(void *arg)
{
    struct fixture *fixture = arg;

    assert_int_equal(pthread_mutex_lock(&fixture->lock), 0);
    fixture->wakes++;
    (void)pthread_cond_broadcast(&fixture->changed);
    assert_int_equal(pthread_mutex_unlock(&fixture->lock), 0);
}

static void open_log(struct fixture *fixture)
{
    struct log_options options = {
        .folder = fixture->folder, .io = &fixture->io, .segment_bytes = SEGMENT_BYTES};

    assert_int_equal(log_open(&options, &fixture->log, &fixture->state, NULL), ERR_OK);
    assert_int_equal(log_thread_start(fixture->log, wake, fixture, &fixture->thread), ERR_OK);
}

static void close_log(struct fixture *fixture)
{
    log_thread_stop(fixture->thread);
    log_close(fixture->log);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    (void)snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/test_log_thread.XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    assert_int_equal(pthread_mutex_init(&fixture->lock, NULL), 0);
    assert_int_equal(pthread_cond_init(&fixture->changed, NULL), 0);
    fixture->io = log_io_system;
    fixture->io.pwrite = try_pwrite;
    fixture->io.fallocate = try_fallocate;
    fixture->io.unlink = try_unlink;
    fixture->io.fdatasync = try_fdatasync;
    fixture->io.space = tell_space;
    current = fixture;
    open_log(fixture);
    *state = fixture;
    return 0;
}

static void remove_folder(const char *path)
{
    DIR *folder = opendir(path);
    const struct dirent *file = NULL;

    assert_non_null(folder);
    while ((file = readdir(folder)) != NULL) {
        (void)unlinkat(dirfd(folder), file->d_name, 0);
    }
    (void)closedir(folder);
    assert_int_equal(rmdir(path), 0);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    atomic_store(&is_full, false);
    atomic_store(&unlink_makes_room, false);
    close_log(fixture);
    remove_folder(fixture->folder);
    assert_int_equal(pthread_cond_destroy(&fixture->changed), 0);
    assert_int_equal(pthread_mutex_destroy(&fixture->lock), 0);
    free(fixture);
    return 0;
}

/* The next news. */
static void wait_for_news(struct fixture *fixture, struct log_saved *out)
{
    while (!log_thread_poll(fixture->thread, out)) {
        assert_int_equal(pthread_mutex_lock(&fixture->lock), 0);
        while (fixture->wakes == 0) {
            assert_int_equal(pthread_cond_wait(&fixture->changed, &fixture->lock), 0);
        }
        fixture->wakes = 0;
        assert_int_equal(pthread_mutex_unlock(&fixture->lock), 0);
    }
}

/* Waits until all up to the index is durable; what else comes is gathered. */
static void wait_for_index(struct fixture *fixture, uint64_t index, struct log_saved *out)
{
    struct log_saved all = {.index = 0};

    while (all.index < index) {
        wait_for_news(fixture, out);
        out->compacted = out->compacted || all.compacted;
        out->first_index = out->first_index != 0 ? out->first_index : all.first_index;
        out->before_term = out->before_term != 0 ? out->before_term : all.before_term;
        out->index = out->log_saved ? out->index : all.index;
        all = *out;
    }
    assert_int_equal(out->index, index);
}

static void submit(struct fixture *fixture, uint64_t first, size_t count, uint64_t term)
{
    struct raft_entry *entries[16];
    struct log_save save = {.entries = entries, .entry_count = count};

    assert_in_range(count, 1, 16);
    for (size_t i = 0; i < count; i++) {
        entries[i] = log_fixture_entry(first + i, term, LEN);
    }
    assert_int_equal(log_thread_submit(fixture->thread, &save), ERR_OK);
    for (size_t i = 0; i < count; i++) {
        raft_entry_unref(entries[i]);
    }
}

static void check_entries(struct fixture *fixture, uint64_t first, uint64_t last, uint64_t term)
{
    for (uint64_t i = first; i <= last; i++) {
        struct raft_entry *entry = NULL;
        size_t count = 0;
        assert_int_equal(log_read(fixture->log, i, 0, 1, &entry, &count), ERR_OK);
        log_fixture_check_entry(entry, i, term, LEN);
        raft_entry_unref(entry);
    }
}

static void work_is_reported_when_it_is_durable(void **state)
{
    struct fixture *fixture = *state;
    struct log_save save = {.save_term = true, .term = 4, .vote = 2};
    struct log_saved saved;

    assert_int_equal(log_thread_submit(fixture->thread, &save), ERR_OK);
    wait_for_news(fixture, &saved);
    assert_true(saved.term_saved);
    assert_false(saved.log_saved);
    assert_int_equal(saved.term, 4);
    for (uint64_t i = 1; i <= 50; i++) {
        submit(fixture, i, 1, 4);
    }
    wait_for_index(fixture, 50, &saved);
    assert_int_equal(saved.entry_term, 4);
    assert_false(saved.low_space);
    check_entries(fixture, 1, 50, 4);
    save = (struct log_save){.truncate = true, .truncate_index = 41};
    assert_int_equal(log_thread_submit(fixture->thread, &save), ERR_OK);
    submit(fixture, 41, 2, 5);
    wait_for_index(fixture, 42, &saved);
    close_log(fixture);
    open_log(fixture);
    assert_int_equal(fixture->state.term, 4);
    assert_int_equal(fixture->state.vote, 2);
    assert_int_equal(fixture->state.last_index, 42);
    check_entries(fixture, 41, 42, 5);
}

static void compaction_is_reported_with_the_new_beginning(void **state)
{
    struct fixture *fixture = *state;
    struct log_saved saved;

    for (uint64_t i = 1; i <= 100; i++) {
        submit(fixture, i, 1, 1 + i / 64);
    }
    wait_for_index(fixture, 100, &saved);
    log_thread_compact(fixture->thread, 3);
    log_thread_compact(fixture->thread, 101);
    log_thread_compact(fixture->thread, 2);
    do {
        wait_for_news(fixture, &saved);
        assert_true(saved.compacted);
    } while (saved.first_index != 101);
    assert_int_equal(saved.before_term, 2);
    submit(fixture, 101, 1, 2);
    wait_for_index(fixture, 101, &saved);
    assert_false(saved.compacted);
}

/* Works until the disk is full and this was told; nothing may be durable of what comes then. */
static void fill(struct fixture *fixture)
{
    struct log_saved saved;

    submit(fixture, 1, 10, 1);
    wait_for_index(fixture, 10, &saved);
    assert_false(saved.low_space);
    atomic_store(&is_full, true);
    submit(fixture, 11, 3, 1);
    submit(fixture, 14, 3, 1);
    wait_for_news(fixture, &saved);
    assert_true(saved.low_space);
    assert_false(saved.log_saved);
    assert_int_equal(log_last_index(fixture->log), 10);
}

static void full_disk_holds_work_up_until_there_is_space(void **state)
{
    struct fixture *fixture = *state;
    struct log_saved saved;
    struct stat reserve;
    char path[96];

    fill(fixture);
    (void)snprintf(path, sizeof(path), "%s/reserve", fixture->folder);
    while (stat(path, &reserve) ==
           0) { /* it is released with the first write that finds no space */
        (void)sched_yield();
    }
    atomic_store(&is_full, false);
    wait_for_index(fixture, 16, &saved);
    while (saved.low_space) {
        wait_for_news(fixture, &saved);
    }
    assert_int_equal(stat(path, &reserve), 0);
    check_entries(fixture, 1, 16, 1);
    close_log(fixture);
    open_log(fixture);
    check_entries(fixture, 1, 16, 1);
}

static void compaction_goes_on_while_the_disk_is_full(void **state)
{
    struct fixture *fixture = *state;
    struct log_saved saved;

    /* One by one: together they would be one group, in one segment. */
    for (uint64_t i = 1; i <= 90; i++) {
        submit(fixture, i, 1, 1);
        wait_for_index(fixture, i, &saved);
    }
    atomic_store(&is_full, true);
    atomic_store(&unlink_makes_room, true);
    submit(fixture, 91, 3, 1);
    wait_for_news(fixture, &saved);
    assert_true(saved.low_space);
    assert_false(saved.log_saved);
    log_thread_compact(fixture->thread, 60);
    wait_for_index(fixture, 93, &saved);
    assert_true(saved.compacted);
    assert_in_range(saved.first_index, 2, 60);
    check_entries(fixture, saved.first_index, 93, 1);
}

static void stopping_does_not_wait_for_space(void **state)
{
    struct fixture *fixture = *state;

    fill(fixture);
    log_thread_stop(fixture->thread);
    atomic_store(&is_full, false);
    log_close(fixture->log);
    open_log(fixture);
    assert_int_equal(fixture->state.last_index, 10);
}

static void slow_sync_shows_while_it_is_under_way_and_after(void **state)
{
    struct fixture *fixture = *state;
    struct log_saved saved;
    uint64_t begin_ms = 0;

    submit(fixture, 1, 1, 1);
    wait_for_index(fixture, 1, &saved);
    (void)log_thread_poll(fixture->thread, &saved);
    assert_int_equal(pthread_mutex_lock(&fixture->lock), 0);
    fixture->sync_is_held = true;
    assert_int_equal(pthread_mutex_unlock(&fixture->lock), 0);
    begin_ms = clock_monotonic_ms();
    submit(fixture, 2, 1, 1);
    assert_int_equal(pthread_mutex_lock(&fixture->lock), 0);
    while (!fixture->sync_waits) {
        assert_int_equal(pthread_cond_wait(&fixture->changed, &fixture->lock), 0);
    }
    assert_int_equal(pthread_mutex_unlock(&fixture->lock), 0);
    do {
        assert_false(log_thread_poll(fixture->thread, &saved));
    } while (saved.sync_us_max < 20000);
    assert_true(clock_monotonic_ms() - begin_ms >= 19);
    assert_int_equal(pthread_mutex_lock(&fixture->lock), 0);
    fixture->sync_is_held = false;
    (void)pthread_cond_broadcast(&fixture->changed);
    assert_int_equal(pthread_mutex_unlock(&fixture->lock), 0);
    wait_for_index(fixture, 2, &saved);
    assert_true(saved.sync_us_max >= 20000);
    (void)log_thread_poll(fixture->thread, &saved);
    assert_int_equal(saved.sync_us_max, 0);
}

static void failed_sync_ends_the_process(void **state)
{
    struct fixture *fixture = *state;
    int status = 0;

    close_log(fixture);
    (void)fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct log_saved saved;
        (void)close(STDERR_FILENO); /* its error line is expected */
        open_log(fixture);
        atomic_store(&sync_fails, true);
        submit(fixture, 1, 1, 1);
        wait_for_news(fixture, &saved);
        _exit(7); /* it must not come to this */
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
    open_log(fixture);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(work_is_reported_when_it_is_durable),
        TEST(compaction_is_reported_with_the_new_beginning),
        TEST(full_disk_holds_work_up_until_there_is_space),
        TEST(compaction_goes_on_while_the_disk_is_full),
        TEST(stopping_does_not_wait_for_space),
        TEST(slow_sync_shows_while_it_is_under_way_and_after),
        TEST(failed_sync_ends_the_process),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
