/* SPDX-License-Identifier: Apache-2.0
 *
 * Run-time sessions: expiry, stalls of the leader, batches of touches and what they confirm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/session.h"

static bool count_session(void *arg, struct session *session)
{
    (void)session;
    ++*(size_t *)arg;
    return true;
}

static size_t expired(struct sessions *sessions, uint64_t now_ms)
{
    size_t count = 0;
    sessions_expired(sessions, now_ms, count_session, &count);
    return count;
}

static void note_ping(void *arg, struct session *session, uint64_t ping)
{
    (void)session;
    *(uint64_t *)arg = ping;
}

static uint64_t confirmed(struct sessions *sessions, uint64_t batch)
{
    uint64_t ping = 0;
    sessions_confirm_batch(sessions, batch, note_ping, &ping);
    return ping;
}

static void a_session_expires_when_its_timeout_has_passed_untouched(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_new();
    assert_int_equal(sessions_set(sessions, 1, 1, 1000, 0), ERR_OK);
    assert_int_equal(sessions_set(sessions, 2, 1, 1000, 0), ERR_OK);
    assert_true(sessions_extend(sessions, 2, 500));
    assert_int_equal(expired(sessions, 999), 0);
    assert_int_equal(expired(sessions, 1000), 1);
    assert_int_equal(expired(sessions, 1001), 0); /* Asked for already. */
    assert_int_equal(expired(sessions, 2100), 2); /* The first again, and the second. */
    sessions_free(sessions);
}

static void a_new_leader_gives_every_session_its_full_timeout(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_new();
    assert_int_equal(sessions_set(sessions, 1, 1, 1000, 0), ERR_OK);
    sessions_extend_all(sessions, 5000);
    assert_int_equal(expired(sessions, 5999), 0);
    assert_int_equal(expired(sessions, 6000), 1);
    sessions_free(sessions);
}

static void after_a_stall_of_the_leader_all_deadlines_move_by_the_gap(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_new();
    assert_int_equal(sessions_set(sessions, 1, 1, 1000, 0), ERR_OK);
    sessions_shift(sessions, 700);
    assert_int_equal(expired(sessions, 1699), 0);
    assert_int_equal(expired(sessions, 1700), 1);
    sessions_free(sessions);
}

static void a_confirmed_batch_confirms_only_the_pings_it_held(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_new();
    int client = 0; /* any address: the table only compares it with NULL */
    uint64_t ids[4];
    uint64_t first = 0;
    uint64_t second = 0;
    assert_int_equal(sessions_set(sessions, 1, 1, 1000, 0), ERR_OK);
    struct session *session = sessions_find(sessions, 1);
    session->client = (struct client *)(void *)&client;
    session->ping = 7;
    session_touch(sessions, session);
    assert_int_equal(sessions_take_batch(sessions, ids, 4, &first), 1);
    assert_int_equal(sessions_take_batch(sessions, ids, 4, &second), 0);
    session->ping = 8;
    session_touch(sessions, session);
    assert_int_equal(sessions_take_batch(sessions, ids, 4, &second), 1);
    assert_int_equal(confirmed(sessions, first), 7);
    assert_int_equal(confirmed(sessions, first), 0); /* Once. */
    assert_int_equal(confirmed(sessions, second), 8);
    assert_int_equal(confirmed(sessions, second + 1), 0);
    sessions_free(sessions);
}

static void a_batch_confirms_no_ping_of_an_earlier_attachment(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_new();
    int client = 0; /* any address: the table only compares it with NULL */
    uint64_t ids[4];
    uint64_t batch = 0;
    assert_int_equal(sessions_set(sessions, 1, 1, 1000, 0), ERR_OK);
    struct session *session = sessions_find(sessions, 1);
    session->client = (struct client *)(void *)&client;
    session->attachment = 1;
    session->ping = 7;
    session_touch(sessions, session);
    assert_int_equal(sessions_take_batch(sessions, ids, 4, &batch), 1);
    session->attachment = 2; /* Another connection: its pings begin at 1. */
    session->ping = 1;
    assert_int_equal(confirmed(sessions, batch), 0);
    sessions_free(sessions);
}

static void a_session_whose_close_was_proposed_is_not_extended(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_new();
    assert_int_equal(sessions_set(sessions, 1, 1, 1000, 0), ERR_OK);
    assert_true(sessions_extend(sessions, 1, 100));
    assert_int_equal(expired(sessions, 1100), 1);
    assert_false(sessions_extend(sessions, 1, 1100));
    assert_false(sessions_extend(sessions, 2, 1100));                   /* Unknown. */
    assert_int_equal(sessions_set(sessions, 1, 2, 1000, 1200), ERR_OK); /* Attached anew. */
    assert_true(sessions_extend(sessions, 1, 1300));
    sessions_free(sessions);
}

static void a_batch_takes_no_more_than_asked_and_leaves_the_rest_touched(void **state)
{
    (void)state;
    struct sessions *sessions = sessions_new();
    uint64_t ids[4];
    uint64_t batch = 0;
    for (uint64_t id = 1; id <= 6; id++) {
        assert_int_equal(sessions_set(sessions, id, 1, 1000, 0), ERR_OK);
        session_touch(sessions, sessions_find(sessions, id));
    }
    sessions_remove(sessions, 6);
    assert_int_equal(sessions_take_batch(sessions, ids, 4, &batch), 4);
    assert_int_equal(sessions_take_batch(sessions, ids, 4, &batch), 1);
    assert_int_equal(sessions_take_batch(sessions, ids, 4, &batch), 0);
    assert_int_equal(sessions_count(sessions), 5);
    sessions_free(sessions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_expires_when_its_timeout_has_passed_untouched),
        cmocka_unit_test(a_new_leader_gives_every_session_its_full_timeout),
        cmocka_unit_test(after_a_stall_of_the_leader_all_deadlines_move_by_the_gap),
        cmocka_unit_test(a_confirmed_batch_confirms_only_the_pings_it_held),
        cmocka_unit_test(a_batch_confirms_no_ping_of_an_earlier_attachment),
        cmocka_unit_test(a_session_whose_close_was_proposed_is_not_extended),
        cmocka_unit_test(a_batch_takes_no_more_than_asked_and_leaves_the_rest_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
