/* SPDX-License-Identifier: Apache-2.0
 *
 * fs/client: numbers, window, resends, deadlines, cancels. The session is in test_client.c.
 */
#include "tests/lib/client_bench.h"

static const struct fake_request *last_request(const struct fake_replica *fake)
{
    assert_true(fake->request_count > 0);
    return &fake->request[fake->request_count - 1];
}

static void writes_are_numbered_from_one_and_answered(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    struct bench_call *first = bench_write(bench, 0);
    struct bench_call *second = bench_write(bench, 0);
    RUN_UNTIL(bench, second->done);
    assert_int_equal(ERR_OK, first->err);
    assert_true(second->has_answer);
    assert_int_equal(1, bench->fake[0].request[0].sequence);
    assert_int_equal(2, bench->fake[0].request[1].sequence);
    struct bench_call *third = bench_write(bench, 0);
    RUN_UNTIL(bench, third->done);
    assert_int_equal(3, last_request(&bench->fake[0])->answered_below);
    bench_free(bench);
}

static void calls_made_before_there_is_a_replica_wait(void **state)
{
    (void)state;
    struct bench *bench = bench_new(1);
    bench_client(bench, true, NULL);
    struct bench_call *write = bench_write(bench, 0);
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, write->done && read->done);
    assert_int_equal(ERR_OK, write->err);
    assert_int_equal(ERR_OK, read->err);
    assert_int_equal(1, bench->fake[0].connections);
    bench_free(bench);
}

static void unanswered_writes_are_resent_in_order_with_their_numbers(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(2);
    struct fake_replica *second = &bench->fake[1];
    struct bench_call *write[4];
    bench->fake[0].answering = false;
    for (int i = 0; i < 4; i++) {
        write[i] = bench_write(bench, 0);
    }
    RUN_UNTIL(bench, bench->fake[0].request_count == 4);
    fake_answer(&bench->fake[0], bench->fake[0].request[1].call, ERR_OK);
    RUN_UNTIL(bench, write[1]->done);
    fake_break(&bench->fake[0]);
    struct bench_call *newer = bench_write(bench, 0);
    RUN_UNTIL(bench, newer->done);
    static const uint64_t expected[] = {1, 3, 4, 5};
    assert_int_equal(4, second->request_count);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(expected[i], second->request[i].sequence);
        assert_true(second->request[i].answered_below <= 2);
    }
    assert_int_equal(4, bench->call[3].order); /* Answers came in order: 2, 1, 3, 4, 5. */
    assert_int_equal(5, newer->order);
    bench_free(bench);
}

static void answer_that_comes_twice_counts_once(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    bench->fake[0].answering = false;
    struct bench_call *write = bench_write(bench, 0);
    RUN_UNTIL(bench, bench->fake[0].request_count == 1);
    uint64_t call = bench->fake[0].request[0].call;
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->fake[0].request_count == 2);
    fake_answer(&bench->fake[0], call, ERR_OK);
    fake_answer(&bench->fake[0], call, ERR_EXISTS);
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, bench->fake[0].request_count == 3);
    fake_answer(&bench->fake[0], bench->fake[0].request[2].call, ERR_OK);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(1, write->done);
    assert_int_equal(ERR_OK, write->err);
    bench_free(bench);
}

static void window_holds_writes_back_until_the_oldest_is_answered(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    struct fake_replica *fake = &bench->fake[0];
    fake->answering = false;
    for (unsigned i = 0; i < WRITES_IN_FLIGHT_MAX + 10; i++) {
        bench_write(bench, 0);
    }
    RUN_UNTIL(bench, fake->request_count == WRITES_IN_FLIGHT_MAX);
    /* An answer in the middle frees no slot: the oldest binds the window. */
    fake_answer(fake, fake->request[100].call, ERR_OK);
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, fake->request_count == WRITES_IN_FLIGHT_MAX + 1); /* Reads pass. */
    assert_int_equal(WIRE__REQUEST__BODY_LOOKUP, last_request(fake)->body);
    fake_answer(fake, last_request(fake)->call, ERR_OK);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(WRITES_IN_FLIGHT_MAX + 1, fake->request_count);

    fake_answer(fake, fake->request[0].call, ERR_OK);
    RUN_UNTIL(bench, fake->request_count == WRITES_IN_FLIGHT_MAX + 2);
    assert_int_equal(WRITES_IN_FLIGHT_MAX + 1, last_request(fake)->sequence);
    assert_int_equal(2, last_request(fake)->answered_below);
    bench_free(bench);
}

static void held_write_fails_with_no_leader_and_later_ones_at_once(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    struct fake_replica *fake = &bench->fake[0];
    fake->leader = 0;
    RUN_UNTIL(bench, bench->client->leader == 0);
    struct bench_call *held = bench_write(bench, 20);
    struct bench_call *patient = bench_write(bench, 0);
    RUN_UNTIL(bench, held->done);
    assert_int_equal(ERR_NO_LEADER, held->err);
    assert_int_equal(0, fake->request_count); /* Surely not applied. */

    struct bench_call *later = bench_write(bench, 3600000);
    RUN_UNTIL(bench, later->done); /* Not after its hour. */
    assert_int_equal(ERR_NO_LEADER, later->err);
    assert_int_equal(0, patient->done);

    fake->leader = 2;
    RUN_UNTIL(bench, patient->done);
    assert_int_equal(ERR_OK, patient->err);
    assert_int_equal(1, fake->request[0].sequence); /* The failed ones left no gap. */
    struct bench_call *after = bench_write(bench, 3600000);
    RUN_UNTIL(bench, after->done);
    assert_int_equal(ERR_OK, after->err);
    bench_free(bench);
}

static void write_without_any_replica_fails_with_no_leader(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    bench->client->timers.cancel_ms = 30;
    uv_close((uv_handle_t *)&bench->fake[0].listener, NULL);
    fake_break(&bench->fake[0]);
    struct bench_call *write = bench_write(bench, 20);
    struct bench_call *read = bench_read(bench, 20);
    RUN_UNTIL(bench, write->done && read->done);
    /* It may have left before the break was seen; then its fate is unknown. */
    assert_true(write->err == ERR_NO_LEADER || write->err == ERR_TIMEOUT);
    assert_int_equal(ERR_TIMEOUT, read->err);
    struct bench_call *held = bench_write(bench, 20);
    RUN_UNTIL(bench, held->done);
    assert_int_equal(ERR_NO_LEADER, held->err);
    client_close(bench->client, bench_closed, bench);
    RUN_UNTIL(bench, bench->closed);
    bench->fakes = 0;
    (void)unlink(bench->fake[0].path);
    bench_free(bench);
}

static void sent_write_is_given_up_by_a_cancel_with_a_new_number(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    struct fake_replica *fake = &bench->fake[0];
    fake->answering = false;
    struct bench_call *write = bench_write(bench, 20);
    RUN_UNTIL(bench, fake->request_count == 2);
    assert_int_equal(WIRE__OP__BODY_CANCEL, fake->request[1].op);
    assert_int_equal(2, fake->request[1].sequence);
    assert_int_equal(1, fake->request[1].cancel_sequence);
    /* The cancel may take the write back: its own answer counts no more. */
    fake_answer(fake, fake->request[0].call, ERR_OK);
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, fake->request_count == 3);
    fake_answer(fake, fake->request[2].call, ERR_OK);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(0, write->done);
    fake_answer(fake, fake->request[1].call, ERR_CANCELED);
    RUN_UNTIL(bench, write->done);
    assert_int_equal(ERR_NO_LEADER, write->err); /* Surely not applied. */
    assert_false(write->has_answer);
    fake->answering = true;
    struct bench_call *next = bench_write(bench, 0);
    RUN_UNTIL(bench, next->done);
    assert_int_equal(3, last_request(fake)->sequence);
    assert_int_equal(3, last_request(fake)->answered_below);
    bench_free(bench);
}

static void given_up_write_that_was_applied_ends_with_its_own_answer(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    struct fake_replica *fake = &bench->fake[0];
    fake->answering = false;
    struct bench_call *write = bench_write(bench, 20);
    RUN_UNTIL(bench, fake->request_count == 2);
    fake_answer(fake, fake->request[1].call, ERR_EXISTS);
    RUN_UNTIL(bench, write->done);
    assert_int_equal(ERR_EXISTS, write->err);
    assert_true(write->has_answer);
    bench_free(bench);
}

static void cancel_without_an_answer_is_a_timeout_and_is_delivered_later(void **state)
{
    (void)state;
    struct bench *bench = bench_new(1);
    struct fake_replica *fake = &bench->fake[0];
    struct client_timers timers = bench_timers;
    timers.cancel_ms = 30;
    bench_client(bench, true, &timers);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 1);
    fake->answering = false;
    struct bench_call *write = bench_write(bench, 20);
    struct bench_call *patient = bench_write(bench, 0);
    RUN_UNTIL(bench, write->done);
    assert_int_equal(ERR_TIMEOUT, write->err);
    fake->request_count = 0;
    fake_break(fake);
    RUN_UNTIL(bench, fake->request_count == 2);
    /* The write itself is not sent again: it would be done now. */
    assert_int_equal(2, fake->request[0].sequence);
    assert_int_equal(1, fake->request[0].answered_below);
    assert_int_equal(3, fake->request[1].sequence);
    assert_int_equal(1, fake->request[1].cancel_sequence);
    fake_answer(fake, fake->request[0].call, ERR_OK);
    fake_answer(fake, fake->request[1].call, ERR_CANCELED);
    RUN_UNTIL(bench, patient->done);
    fake->answering = true;
    struct bench_call *next = bench_write(bench, 0);
    RUN_UNTIL(bench, next->done);
    assert_int_equal(4, last_request(fake)->sequence);
    assert_int_equal(4, last_request(fake)->answered_below);
    assert_int_equal(1, write->done);
    bench_free(bench);
}

static void cancel_goes_out_although_no_write_may(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    struct fake_replica *fake = &bench->fake[0];
    fake->answering = false;
    for (unsigned i = 0; i < WRITES_IN_FLIGHT_MAX + 5; i++) {
        bench_write(bench, 0);
    }
    RUN_UNTIL(bench, fake->request_count == WRITES_IN_FLIGHT_MAX);
    client_cancel(bench->client, bench->call[0].call);
    RUN_UNTIL(bench, fake->request_count == WRITES_IN_FLIGHT_MAX + 1);
    assert_int_equal(WIRE__OP__BODY_CANCEL, last_request(fake)->op);
    assert_int_equal(1, last_request(fake)->cancel_sequence);
    fake_answer(fake, last_request(fake)->call, ERR_CANCELED);
    RUN_UNTIL(bench, bench->call[0].done);
    assert_int_equal(ERR_CANCELED, bench->call[0].err);
    bench_free(bench);
}

static void
write_that_was_said_to_have_failed_is_taken_back_when_its_answer_comes_late(void **state)
{
    (void)state;
    struct bench *bench = bench_new(1);
    struct fake_replica *fake = &bench->fake[0];
    struct client_timers timers = bench_timers;
    timers.cancel_ms = 30;
    bench_client(bench, true, &timers);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 1);
    fake->answering = false;
    struct bench_call *write = bench_write(bench, 60);
    RUN_UNTIL(bench, fake->request_count == 1);
    uint64_t call = fake->request[0].call;
    fake->leader = 0;
    fake_pong(fake);
    RUN_UNTIL(bench, bench->client->leader == 0);
    RUN_UNTIL(bench, write->done);
    assert_int_equal(ERR_TIMEOUT, write->err);
    assert_int_equal(1, fake->request_count); /* Without a leader no cancel can be sent. */
    fake_answer(fake, call, ERR_OK);
    fake->leader = 1;
    fake_pong(fake);
    RUN_UNTIL(bench, fake->request_count == 2);
    assert_int_equal(WIRE__OP__BODY_CANCEL, fake->request[1].op);
    assert_int_equal(1, fake->request[1].cancel_sequence);
    assert_int_equal(1, fake->request[1].answered_below);
    fake_answer(fake, fake->request[1].call, ERR_CANCELED);
    fake->answering = true;
    struct bench_call *next = bench_write(bench, 0);
    RUN_UNTIL(bench, next->done);
    assert_int_equal(3, last_request(fake)->sequence);
    assert_int_equal(1, write->done);
    bench_free(bench);
}

static void canceled_call_ends_as_far_as_it_had_come(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(1);
    struct fake_replica *fake = &bench->fake[0];
    fake->answering = false;
    struct bench_call *write = bench_write(bench, 0);
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, fake->request_count == 2);
    client_cancel(bench->client, read->call);
    client_cancel(bench->client, write->call);
    client_cancel(bench->client, write->call); /* A second time: nothing. */
    assert_int_equal(0, read->done);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(ERR_CANCELED, read->err);
    RUN_UNTIL(bench, fake->request_count == 3);
    assert_int_equal(WIRE__OP__BODY_CANCEL, fake->request[2].op);
    fake_answer(fake, fake->request[2].call, ERR_CANCELED);
    RUN_UNTIL(bench, write->done);
    assert_int_equal(ERR_CANCELED, write->err);

    fake->leader = 0;
    RUN_UNTIL(bench, bench->client->leader == 0);
    struct bench_call *unsent = bench_write(bench, 0);
    client_cancel(bench->client, unsent->call);
    assert_int_equal(0, unsent->done);
    RUN_UNTIL(bench, unsent->done);
    assert_int_equal(ERR_CANCELED, unsent->err);
    assert_int_equal(3, fake->request_count);
    bench_free(bench);
}

static void resent_read_carries_the_newest_zxid(void **state)
{
    (void)state;
    struct bench *bench = bench_attached(2);
    bench->fake[0].answering = false;
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, bench->fake[0].request_count == 1);
    fake_event(&bench->fake[0], 5000, 1);
    RUN_UNTIL(bench, bench->events == 1);
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(5000, bench->fake[1].request[0].zxid_seen);
    bench_free(bench);
}

static void client_without_a_session_reads_and_may_not_write(void **state)
{
    (void)state;
    struct bench *bench = bench_new(1);
    bench->fake[0].leader = 0;
    bench_client(bench, false, NULL);
    struct bench_call *read = bench_read(bench, 0);
    RUN_UNTIL(bench, read->done);
    assert_int_equal(ERR_OK, read->err);
    assert_int_equal(0, bench->fake[0].opens);

    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Op op = WIRE__OP__INIT;
    struct call_options options = {.done = bench_done};
    enum err err = ERR_OK;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    assert_null(client_call(bench->client, &request, &options, &err));
    assert_int_equal(ERR_INVALID, err);
    bench_free(bench);
}

/* ---- random breaks ---- */

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Over many breaks each number is only ever used for one call, in order, and each call ends once. */
static void numbers_stay_bound_to_their_calls_over_random_breaks(void **state)
{
    (void)state;
    uint64_t seed = (uint64_t)getpid() * 2654435761u + 1;
    const char *given = getenv("SEED");
    if (given != NULL) {
        seed = strtoull(given, NULL, 10);
    }
    print_message("SEED=%llu\n", (unsigned long long)seed);
    struct bench *bench = bench_attached(2);
    for (int step = 0; step < 150; step++) {
        uint64_t what = next_random(&seed) % 8;
        if (what == 0) {
            fake_break(&bench->fake[next_random(&seed) % 2]);
        } else if (what == 1) {
            bench->fake[0].answering = !bench->fake[0].answering;
        } else {
            bench_write(bench, 0);
        }
        (void)uv_run(&bench->loop, UV_RUN_NOWAIT);
    }
    bench->fake[0].answering = true;
    fake_break(&bench->fake[0]);
    fake_break(&bench->fake[1]);
    RUN_UNTIL(bench, bench->ended == bench->call_count);
    uint64_t call_of[FAKE_REQUESTS_MAX] = {0};
    for (size_t f = 0; f < 2; f++) {
        for (size_t i = 0; i < bench->fake[f].request_count; i++) {
            const struct fake_request *request = &bench->fake[f].request[i];
            assert_in_range(request->sequence, 1, bench->call_count);
            assert_true(request->answered_below <= request->sequence);
            if (call_of[request->sequence] == 0) {
                call_of[request->sequence] = request->call;
            }
            assert_int_equal(call_of[request->sequence], request->call);
        }
    }
    for (size_t s = 1; s <= bench->call_count; s++) {
        assert_true(call_of[s] != 0); /* No gaps. */
    }
    bench_free(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_are_numbered_from_one_and_answered),
        cmocka_unit_test(calls_made_before_there_is_a_replica_wait),
        cmocka_unit_test(unanswered_writes_are_resent_in_order_with_their_numbers),
        cmocka_unit_test(answer_that_comes_twice_counts_once),
        cmocka_unit_test(window_holds_writes_back_until_the_oldest_is_answered),
        cmocka_unit_test(held_write_fails_with_no_leader_and_later_ones_at_once),
        cmocka_unit_test(write_without_any_replica_fails_with_no_leader),
        cmocka_unit_test(sent_write_is_given_up_by_a_cancel_with_a_new_number),
        cmocka_unit_test(given_up_write_that_was_applied_ends_with_its_own_answer),
        cmocka_unit_test(cancel_without_an_answer_is_a_timeout_and_is_delivered_later),
        cmocka_unit_test(cancel_goes_out_although_no_write_may),
        cmocka_unit_test(
            write_that_was_said_to_have_failed_is_taken_back_when_its_answer_comes_late),
        cmocka_unit_test(canceled_call_ends_as_far_as_it_had_come),
        cmocka_unit_test(resent_read_carries_the_newest_zxid),
        cmocka_unit_test(client_without_a_session_reads_and_may_not_write),
        cmocka_unit_test(numbers_stay_bound_to_their_calls_over_random_breaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
