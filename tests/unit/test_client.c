/* SPDX-License-Identifier: Apache-2.0
 *
 * fs/client: connection, session, pings, lease, promises. The calls are in test_client_calls.c.
 */
#include "tests/lib/client_bench.h"

static void bad_server_lists_are_refused_with_a_sentence(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a,,b", "unix:relative", "host:0", "host:99999", "a b"};
    uv_loop_t loop;
    assert_int_equal(0, uv_loop_init(&loop));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct client_options options = {.servers = bad[i], .program = "test"};
        struct client *client = NULL;
        struct buffer error = {0};
        assert_int_equal(ERR_INVALID, client_new(&loop, &options, &client, &error));
        assert_null(client);
        assert_true(error.len > 0);
        buffer_done(&error);
    }
    assert_int_equal(0, uv_loop_close(&loop));
}

static void session_is_opened_and_its_status_is_told(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    struct client_status status;
    client_status(bench->client, &status);
    assert_int_equal(CLIENT_READY, status.state);
    assert_int_equal(7, status.session);
    assert_int_equal(1, status.epoch);
    assert_int_equal(1, status.leader);
    assert_true(status.lease_valid);
    assert_int_equal(0, status.stale_since_ms);
    assert_true(strstr(status.server, bench->fake[0].path) != NULL);
    bench_free(bench);
}

static void lost_connection_is_followed_by_an_attach_to_the_same_session(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(2);
    struct client_status status;
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 2);
    assert_int_equal(1, bench->states[CLIENT_CONNECTING]);
    assert_int_equal(1, bench->fake[1].opens);
    assert_int_equal(7, bench->fake[1].open_session);
    client_status(bench->client, &status);
    assert_int_equal(7, status.session);
    assert_int_equal(1, status.reconnects);
    bench_free(bench);
}

static void replica_without_an_answer_to_the_hello_is_left(void **state)
{
    (void)state;
    struct bench *bench = bench_new(2);
    struct client_timers timers = bench_timers;
    timers.connect_ms = 30;
    bench->fake[0].mute = true;
    bench_client(bench, true, &timers);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 1);
    assert_int_equal(1, bench->fake[0].hellos);
    assert_int_equal(1, bench->fake[1].opens);
    bench_free(bench);
}

static void silent_replica_is_left_after_the_pong_limit(void **state)
{
    (void)state;
    struct bench *bench = bench_new(2);
    struct client_timers timers = bench_timers;
    timers.pong_limit_ms = 50;
    bench_client(bench, true, &timers);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 1);
    bench->fake[0].mute = true; /* As a stopped process: the connection stays open. */
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(ERR_OK, read->err);
    assert_int_equal(1, bench->fake[1].request_count);
    assert_int_equal(7, bench->fake[1].open_session);
    bench_free(bench);
}

static void replica_that_sends_garbage_is_left(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(2);
    fake_bytes(&bench->fake[0], "this is no frame at all.", 24);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 2);
    assert_int_equal(1, bench->fake[1].opens);
    bench_free(bench);
}

static void expired_session_is_told_and_a_new_one_is_opened(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    bench->fake[0].answering = false;
    struct bench_call *sent = bench_write(bench, 0);
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, bench->fake[0].request_count == 2);
    bench->fake[0].open_err = ERR_SESSION_EXPIRED;
    bench->fake[0].session = 8;
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->states[CLIENT_LOST] == 1);
    RUN_UNTIL(bench, sent->done);
    assert_int_equal(ERR_SESSION_EXPIRED, sent->err);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 2);
    struct client_status status;
    client_status(bench->client, &status);
    assert_int_equal(8, status.session);
    /* The write is not sent under the new session, the read is asked again. */
    RUN_UNTIL(bench, bench->fake[0].request_count == 3);
    assert_int_equal(WIRE__REQUEST__BODY_LOOKUP, bench->fake[0].request[2].body);
    fake_answer(&bench->fake[0], bench->fake[0].request[2].call, ERR_OK);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(ERR_OK, read->err);
    /* Numbering starts anew. */
    bench_write(bench, 0);
    RUN_UNTIL(bench, bench->fake[0].request_count == 4);
    assert_int_equal(1, bench->fake[0].request[3].sequence);
    bench_free(bench);
}

static void answer_that_the_session_expired_ends_all_writes(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    bench->fake[0].answering = false;
    struct bench_call *first = bench_write(bench, 0);
    struct bench_call *second = bench_write(bench, 0);
    RUN_UNTIL(bench, bench->fake[0].request_count == 2);
    bench->fake[0].session = 9;
    fake_answer(&bench->fake[0], bench->fake[0].request[0].call, ERR_SESSION_EXPIRED);
    RUN_UNTIL(bench, first->done && second->done);
    assert_int_equal(ERR_SESSION_EXPIRED, first->err);
    assert_int_equal(ERR_SESSION_EXPIRED, second->err);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 2);
    assert_int_equal(1, bench->states[CLIENT_LOST]);
    assert_int_equal(0, bench->fake[0].open_session);
    assert_int_equal(2, bench->fake[0].request_count);
    bench_free(bench);
}

static void moved_session_is_attached_again_and_the_write_repeated(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    bench->fake[0].answering = false;
    struct bench_call *write = bench_write(bench, 0);
    RUN_UNTIL(bench, bench->fake[0].request_count == 1);
    fake_answer(&bench->fake[0], bench->fake[0].request[0].call, ERR_SESSION_MOVED);
    RUN_UNTIL(bench, bench->fake[0].request_count == 2);
    assert_int_equal(2, bench->fake[0].opens);
    assert_int_equal(1, bench->fake[0].request[1].sequence);
    fake_answer(&bench->fake[0], bench->fake[0].request[1].call, ERR_OK);
    RUN_UNTIL(bench, write->done);
    assert_int_equal(ERR_OK, write->err);
    bench_free(bench);
}

static void lease_grows_only_with_confirmed_pings_and_is_revived_by_an_attach(void **state)
{
    (void)state;
    struct bench *bench = bench_new(1);
    struct client_status status;
    bench->fake[0].timeout_ms = 200; /* Lease: 150 ms. */
    bench_client(bench, true, NULL);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 1);
    uint64_t begin_ms = uv_now(&bench->loop);
    RUN_UNTIL(bench, uv_now(&bench->loop) >= begin_ms + 250);
    client_status(bench->client, &status);
    assert_true(status.lease_valid); /* Confirmed pings kept it. */
    assert_int_equal(1, bench->fake[0].opens);

    bench->fake[0].confirming = false;
    RUN_UNTIL(bench, (client_status(bench->client, &status), !status.lease_valid));
    assert_int_equal(CLIENT_READY, status.state); /* Reads go on. */
    assert_int_equal(1, bench->fake[0].opens);

    bench->fake[0].confirming = true;
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 2);
    assert_int_equal(2, bench->fake[0].opens);
    client_status(bench->client, &status);
    assert_true(status.lease_valid);
    bench_free(bench);
}

static void reads_go_on_without_a_leader_and_grant_nothing(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    struct client_status status;
    bench->fake[0].leader = 0;
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->fake[0].hellos == 2);
    struct bench_call *read = bench_read(bench, 0);
    struct bench_call *write = bench_write(bench, 0);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(ERR_OK, read->err);
    assert_int_equal(0, read->grant);
    assert_int_equal(0, write->done);
    assert_int_equal(1, bench->fake[0].opens);
    assert_int_equal(2, bench->states[CLIENT_READY]); /* The old session may read. */
    client_status(bench->client, &status);
    assert_int_equal(0, status.leader);
    assert_true(status.stale_since_ms > 0);

    bench->fake[0].leader = 3; /* The next pong tells. */
    RUN_UNTIL(bench, write->done);
    assert_int_equal(ERR_OK, write->err);
    assert_int_equal(2, bench->fake[0].opens);
    assert_int_equal(3, bench->states[CLIENT_READY]);
    client_status(bench->client, &status);
    assert_int_equal(0, status.stale_since_ms);
    bench_free(bench);
}

static void client_moves_to_a_replica_that_knows_a_leader(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(3);
    bench->fake[0].leader = 0;
    bench->fake[1].leader = 0;
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 2);
    assert_int_equal(1, bench->fake[2].opens);
    assert_int_equal(7, bench->fake[2].open_session);
    bench_free(bench);
}

static void replica_of_another_ensemble_is_passed_over(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(3);
    bench->fake[1].ensemble = 2;
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 2);
    assert_int_equal(1, bench->fake[1].hellos);
    assert_int_equal(0, bench->fake[1].opens);
    assert_int_equal(7, bench->fake[2].open_session);
    bench_free(bench);
}

static void leader_of_another_ensemble_does_not_take_the_client_over(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(3);
    bench->fake[1].ensemble = 2;
    bench->fake[0].leader = 0;
    bench->fake[2].leader = 0;
    RUN_UNTIL(bench, bench->fake[1].hellos >= 2 && bench->fake[2].hellos >= 2);
    assert_int_equal(0, bench->fake[1].opens);
    assert_int_equal(1, bench->fake[0].connections);
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(ERR_OK, read->err);
    bench_free(bench);
}

static void replica_that_knows_no_leader_keeps_the_attach_waiting(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    bench->fake[0].open_err = ERR_NO_LEADER;
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->fake[0].opens == 2);
    RUN_UNTIL(bench, bench->fake[0].opens == 3); /* The next pong names a leader. */
    bench->fake[0].open_err = 0;
    RUN_UNTIL(bench, bench->states[CLIENT_READY] >= 2 && bench->client->phase == PHASE_OPENED);
    assert_int_equal(2, bench->fake[0].connections);
    bench_free(bench);
}

static void events_are_told_in_order_and_move_zxid_seen(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    fake_event(&bench->fake[0], 900, 1);
    fake_event(&bench->fake[0], 901, 2);
    RUN_UNTIL(bench, bench->events == 2);
    assert_int_equal(901, bench->last_event_zxid);
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(901, bench->fake[0].request[0].zxid_seen);
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 2);
    assert_int_equal(901, bench->fake[0].open_zxid_seen);
    bench_free(bench);
}

static void forgets_of_a_turn_leave_in_one_message(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    for (uint64_t ino = 1; ino <= 5; ino++) {
        client_forget(bench->client, ino, 3);
    }
    RUN_UNTIL(bench, bench->fake[0].forget_nodes == 5);
    assert_int_equal(1, bench->fake[0].forget_messages);
    bench_free(bench);
}

static void forgets_do_not_outlive_their_connection(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->states[CLIENT_CONNECTING] == 1);
    client_forget(bench->client, 1, 3);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 2);
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(0, bench->fake[0].forget_messages);
    bench_free(bench);
}

static void reclaim_ends_when_all_its_parts_are_answered(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    size_t count = NODES_PER_MESSAGE * 5 + 1;
    struct client_promise *promises = calloc(count, sizeof *promises);
    assert_non_null(promises);
    assert_int_equal(ERR_OK,
                     client_reclaim(bench->client, promises, count, bench_reclaimed, bench));
    assert_int_equal(ERR_BUSY,
                     client_reclaim(bench->client, promises, count, bench_reclaimed, bench));
    free(promises); /* They were copied. */
    RUN_UNTIL(bench, bench->fake[0].reclaim_messages == RECLAIMS_IN_FLIGHT);
    for (uint64_t batch = 1; batch <= 6; batch++) {
        assert_int_equal(0, bench->reclaims_ended);
        RUN_UNTIL(bench, bench->fake[0].reclaim_batch >= batch);
        fake_reclaimed(&bench->fake[0], batch);
    }
    RUN_UNTIL(bench, bench->reclaims_ended == 1);
    assert_int_equal(ERR_OK, bench->reclaim_err);
    assert_int_equal(count, bench->fake[0].reclaim_nodes);
    bench_free(bench);
}

static void reclaim_ends_with_the_connection(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    struct client_promise promise = {.ino = 4, .zxid = 2};
    assert_int_equal(ERR_OK, client_reclaim(bench->client, &promise, 1, bench_reclaimed, bench));
    RUN_UNTIL(bench, bench->fake[0].reclaim_messages == 1);
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->reclaims_ended == 1);
    assert_int_equal(ERR_CLOSED, bench->reclaim_err);
    assert_int_equal(ERR_CLOSED,
                     client_reclaim(bench->client, &promise, 1, bench_reclaimed, bench));
    bench_free(bench);
}

static void close_ends_the_session_and_all_calls(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    bench->fake[0].answering = false;
    struct bench_call *write = bench_write(bench, 0);
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, bench->fake[0].request_count == 2);
    client_close(bench->client, bench_closed, bench);
    RUN_UNTIL(bench, bench->fake[0].request_count == 3);
    assert_int_equal(WIRE__OP__BODY_SESSION_CLOSE, bench->fake[0].request[2].op);
    assert_int_equal(0, bench->fake[0].request[2].sequence);
    assert_false(bench->closed);
    fake_answer(&bench->fake[0], bench->fake[0].request[2].call, ERR_OK);
    RUN_UNTIL(bench, bench->closed);
    assert_int_equal(ERR_CLOSED, write->err);
    assert_int_equal(ERR_CLOSED, read->err);
    bench_free(bench);
}

static void close_does_not_wait_for_a_silent_replica(void **state)
{
    (void)state;
    struct bench *bench = bench_new(1);
    struct client_timers timers = bench_timers;
    timers.close_ms = 30;
    bench_client(bench, true, &timers);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 1);
    bench->fake[0].mute = true;
    client_close(bench->client, bench_closed, bench);
    RUN_UNTIL(bench, bench->closed);
    bench_free(bench);
}

static void close_works_while_connecting(void **state)
{
    (void)state;
    struct bench *bench = bench_new(1);
    bench->fake[0].mute = true;
    bench_client(bench, true, NULL);
    RUN_UNTIL(bench, bench->fake[0].hellos == 1);
    client_close(bench->client, bench_closed, bench);
    RUN_UNTIL(bench, bench->closed);
    bench_free(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_server_lists_are_refused_with_a_sentence),
        cmocka_unit_test(session_is_opened_and_its_status_is_told),
        cmocka_unit_test(lost_connection_is_followed_by_an_attach_to_the_same_session),
        cmocka_unit_test(replica_without_an_answer_to_the_hello_is_left),
        cmocka_unit_test(silent_replica_is_left_after_the_pong_limit),
        cmocka_unit_test(replica_that_sends_garbage_is_left),
        cmocka_unit_test(expired_session_is_told_and_a_new_one_is_opened),
        cmocka_unit_test(answer_that_the_session_expired_ends_all_writes),
        cmocka_unit_test(moved_session_is_attached_again_and_the_write_repeated),
        cmocka_unit_test(lease_grows_only_with_confirmed_pings_and_is_revived_by_an_attach),
        cmocka_unit_test(reads_go_on_without_a_leader_and_grant_nothing),
        cmocka_unit_test(client_moves_to_a_replica_that_knows_a_leader),
        cmocka_unit_test(replica_of_another_ensemble_is_passed_over),
        cmocka_unit_test(leader_of_another_ensemble_does_not_take_the_client_over),
        cmocka_unit_test(replica_that_knows_no_leader_keeps_the_attach_waiting),
        cmocka_unit_test(events_are_told_in_order_and_move_zxid_seen),
        cmocka_unit_test(forgets_of_a_turn_leave_in_one_message),
        cmocka_unit_test(forgets_do_not_outlive_their_connection),
        cmocka_unit_test(reclaim_ends_when_all_its_parts_are_answered),
        cmocka_unit_test(reclaim_ends_with_the_connection),
        cmocka_unit_test(close_ends_the_session_and_all_calls),
        cmocka_unit_test(close_does_not_wait_for_a_silent_replica),
        cmocka_unit_test(close_works_while_connecting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
