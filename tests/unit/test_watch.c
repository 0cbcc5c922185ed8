/* SPDX-License-Identifier: Apache-2.0
 *
 * Promises: grants, FORGETs that cross a newer grant, revocation of the oldest at the limit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/limits.h"
#include "server/watch.h"

struct seen {
    size_t count;
    struct watcher *last;
};

static void note(void *arg, struct watcher *watcher)
{
    struct seen *seen = arg;
    seen->count++;
    seen->last = watcher;
}

static size_t interested(struct watches *watches, const uint64_t *inos, size_t count)
{
    struct seen seen = {.count = 0};
    watch_each(watches, inos, count, note, &seen);
    return seen.count;
}

static void grant_ok(struct watches *watches, struct watcher *watcher, uint64_t ino)
{
    uint64_t revoked = 0;
    assert_int_equal(watch_grant(watches, watcher, ino, ++watcher->last_grant, &revoked), ERR_OK);
    assert_true(revoked == UINT64_MAX);
}

static void a_change_is_told_once_to_each_that_holds_a_promise(void **state)
{
    (void)state;
    struct watches *watches = watches_new();
    struct watcher a = {.oldest = NULL};
    struct watcher b = {.oldest = NULL};
    grant_ok(watches, &a, 7);
    grant_ok(watches, &a, 8);
    grant_ok(watches, &b, 8);
    uint64_t both[2] = {7, 8};
    uint64_t none[1] = {9};
    assert_int_equal(interested(watches, both, 2), 2);
    assert_int_equal(interested(watches, both, 1), 1);
    assert_int_equal(interested(watches, none, 1), 0);
    watch_drop(watches, &a);
    assert_int_equal(interested(watches, both, 2), 1);
    assert_int_equal(watches_count(watches), 1);
    watch_drop(watches, &b);
    watches_free(watches);
}

static void a_forget_that_crosses_a_newer_grant_is_ignored(void **state)
{
    (void)state;
    struct watches *watches = watches_new();
    struct watcher a = {.oldest = NULL};
    uint64_t ino = 5;
    grant_ok(watches, &a, ino);
    uint64_t old = a.last_grant;
    grant_ok(watches, &a, ino);
    watch_forget(watches, &a, ino, old);
    assert_int_equal(interested(watches, &ino, 1), 1);
    watch_forget(watches, &a, ino, a.last_grant);
    assert_int_equal(interested(watches, &ino, 1), 0);
    watches_free(watches);
}

static void at_the_limit_the_oldest_promise_is_revoked(void **state)
{
    (void)state;
    struct watches *watches = watches_new();
    struct watcher a = {.oldest = NULL};
    for (uint64_t ino = 0; ino < PROMISES_PER_SESSION_MAX; ino++) {
        grant_ok(watches, &a, ino);
    }
    grant_ok(watches, &a, 0); /* Renewed: now 1 is the oldest. */
    uint64_t revoked = 0;
    assert_int_equal(watch_grant(watches, &a, PROMISES_PER_SESSION_MAX, ++a.last_grant, &revoked),
                     ERR_OK);
    assert_int_equal(revoked, 1);
    assert_int_equal(watches_count(watches), PROMISES_PER_SESSION_MAX);
    watch_drop(watches, &a);
    assert_int_equal(watches_count(watches), 0);
    watches_free(watches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_is_told_once_to_each_that_holds_a_promise),
        cmocka_unit_test(a_forget_that_crosses_a_newer_grant_is_ignored),
        cmocka_unit_test(at_the_limit_the_oldest_promise_is_revoked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
