/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of linearizable reads: dissertation 6.4; CONSENSUS 5, 16.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/lib/raft_ensemble.h"

/* Node 1 leads; the others are silent, the test speaks for them. */
static struct ensemble *leader_of(size_t count)
{
    struct ensemble *e = ensemble_new(count, 0, 1);

    ensemble_elect(e, 1);
    for (uint64_t id = 2; id <= count; id++) {
        ensemble_crash(e, id, 0);
    }
    e->by_hand = true;
    return e;
}

static void answer_round(struct ensemble *e, uint64_t from, uint64_t round)
{
    assert_int_equal(ensemble_message(e, (struct raft_message){.type = RAFT_MSG_HEARTBEAT_ANSWER,
                                                               .from = from,
                                                               .to = 1,
                                                               .term = ensemble_status(e, 1).term,
                                                               .context = round}),
                     ERR_OK);
}

static uint64_t newest_round(const struct ensemble *e)
{
    uint64_t round = 0;

    for (const struct ensemble_packet *p = e->packets; p != NULL; p = p->next) {
        if (p->message.type == RAFT_MSG_HEARTBEAT && p->message.context > round) {
            round = p->message.context;
        }
    }
    return round;
}

static void assert_read(const struct ensemble *e, uint64_t id, size_t i, uint64_t index)
{
    assert_true(e->node[id].read_count > i);
    assert_int_equal(e->node[id].reads[i].err, ERR_OK);
    assert_int_equal(e->node[id].reads[i].index, index);
}

static void a_read_waits_for_a_round_that_began_after_it(void **state)
{
    struct ensemble *e = leader_of(3);
    uint64_t before = 0;

    (void)state;
    ensemble_timeout(e, 1);
    before = newest_round(e);
    ensemble_drop_all(e, 0, 0);
    assert_int_equal(ensemble_read(e, 1, 7), ERR_OK);
    answer_round(e, 2, before); /* the answer to a heartbeat from before the read */
    assert_int_equal(e->node[1].read_count, 0);
    assert_true(newest_round(e) > before);
    answer_round(e, 2, newest_round(e));
    assert_read(e, 1, 0, 2);
    assert_int_equal(e->node[1].reads[0].context, 7);
    ensemble_free(e);
}

static void a_round_needs_a_majority(void **state)
{
    struct ensemble *e = leader_of(5);
    uint64_t round = 0;

    (void)state;
    assert_int_equal(ensemble_read(e, 1, 7), ERR_OK);
    round = newest_round(e);
    answer_round(e, 2, round);
    answer_round(e, 2, round);
    assert_int_equal(e->node[1].read_count, 0);
    answer_round(e, 3, round);
    assert_int_equal(e->node[1].read_count, 1);
    ensemble_free(e);
}

static void one_round_is_for_all_reads_that_wait(void **state)
{
    struct ensemble *e = leader_of(3);
    uint64_t first = 0;

    (void)state;
    assert_int_equal(ensemble_read(e, 1, 1), ERR_OK);
    first = newest_round(e);
    for (uint64_t i = 2; i <= 100; i++) {
        assert_int_equal(ensemble_read(e, 1, i), ERR_OK);
    }
    assert_int_equal(newest_round(e), first); /* the others wait for the next one */
    answer_round(e, 2, first);
    assert_int_equal(e->node[1].read_count, 1);
    assert_int_equal(newest_round(e), first + 1);
    answer_round(e, 3, first + 1);
    assert_int_equal(e->node[1].read_count, 100);
    ensemble_free(e);
}

static void a_lost_round_is_made_up_by_the_next_heartbeat(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    assert_int_equal(ensemble_read(e, 1, 7), ERR_OK);
    ensemble_drop_all(e, 0, 0);
    ensemble_timeout(e, 1);
    answer_round(e, 2, newest_round(e));
    assert_int_equal(e->node[1].read_count, 1);
    ensemble_free(e);
}

static void no_read_before_the_no_op_of_the_term_is_committed(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    e->by_hand = true;
    ensemble_crash(e, 2, 0);
    ensemble_crash(e, 3, 0);
    ensemble_timeout(e, 1);
    (void)ensemble_message(
        e, (struct raft_message){.type = RAFT_MSG_PREVOTE_ANSWER, .from = 2, .to = 1, .term = 2});
    ensemble_sync(e, 1);
    (void)ensemble_message(
        e, (struct raft_message){.type = RAFT_MSG_VOTE_ANSWER, .from = 2, .to = 1, .term = 2});
    assert_int_equal(ensemble_status(e, 1).role, RAFT_LEADER);
    assert_int_equal(ensemble_read(e, 1, 7), ERR_OK);
    answer_round(e, 2, newest_round(e));
    answer_round(e, 3, newest_round(e));
    assert_int_equal(e->node[1].read_count, 0);
    ensemble_sync(e, 1);
    (void)ensemble_message(
        e, (struct raft_message){
               .type = RAFT_MSG_APPEND_ANSWER, .from = 2, .to = 1, .term = 2, .log_index = 2});
    answer_round(e, 2, newest_round(e));
    assert_read(e, 1, 0, 2);
    ensemble_free(e);
}

static void a_leader_that_was_replaced_answers_no_read(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    ensemble_wait(e, 500);
    (void)ensemble_step(e, 2, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 1});
    (void)ensemble_step(e, 3, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 1});
    ensemble_timeout(e, 2);
    for (size_t i = 0; i < 100; i++) { /* 1 is cut off and still believes that it leads */
        ensemble_drop_all(e, 0, 1);
        ensemble_drop_all(e, 1, 0);
        ensemble_sync(e, 2);
        ensemble_sync(e, 3);
        if (e->packets != NULL) {
            ensemble_deliver(e, e->packets);
        }
    }
    assert_int_equal(ensemble_status(e, 2).role, RAFT_LEADER);
    assert_int_equal(ensemble_propose(e, 2, "new"), ERR_OK);
    assert_int_equal(ensemble_status(e, 1).role, RAFT_LEADER);
    assert_int_equal(ensemble_read(e, 1, 7), ERR_OK);
    ensemble_settle(e);
    assert_int_equal(e->node[1].read_count, 1);
    assert_int_equal(e->node[1].reads[0].err, ERR_NO_LEADER);
    ensemble_free(e);
}

static void a_single_member_confirms_reads_at_once(void **state)
{
    struct ensemble *e = ensemble_new(1, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    assert_int_equal(ensemble_read(e, 1, 7), ERR_OK);
    assert_read(e, 1, 0, 2);
    ensemble_free(e);
}

static void a_follower_asks_the_leader(void **state)
{
    struct ensemble *e = ensemble_new(3, 1, 1);

    (void)state;
    ensemble_elect(e, 1);
    assert_int_equal(ensemble_propose(e, 1, "x"), ERR_OK);
    ensemble_settle(e);
    for (uint64_t id = 2; id <= 3; id++) { /* 3 is a learner */
        assert_int_equal(ensemble_read(e, id, 7), ERR_OK);
        ensemble_settle(e);
        assert_read(e, id, 0, 3);
    }
    ensemble_free(e);
}

static void reads_of_a_follower_share_a_request(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);
    size_t requests = 0;

    (void)state;
    ensemble_elect(e, 1);
    for (uint64_t i = 0; i < 50; i++) {
        (void)ensemble_step_only(e, 2, (struct raft_event){.type = RAFT_EV_READ, .context = i});
    }
    ensemble_turn(e, 2);
    for (const struct ensemble_packet *p = e->packets; p != NULL; p = p->next) {
        requests += p->message.type == RAFT_MSG_READ_INDEX ? 1 : 0;
    }
    assert_int_equal(requests, 1);
    ensemble_settle(e);
    assert_int_equal(e->node[2].read_count, 50);
    ensemble_free(e);
}

static void a_lost_request_is_sent_again(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    assert_int_equal(ensemble_read(e, 2, 7), ERR_OK);
    ensemble_drop_all(e, 2, 1);
    ensemble_timeout(e, 2);
    assert_non_null(ensemble_find(e, RAFT_MSG_READ_INDEX, 1));
    ensemble_settle(e);
    assert_read(e, 2, 0, 2);
    ensemble_free(e);
}

static void an_answer_from_before_a_restart_confirms_nothing(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct ensemble *e = ensemble_new(3, 0, seed);
        struct raft_message old;
        ensemble_elect(e, 1);
        assert_int_equal(ensemble_read(e, 2, 7), ERR_OK);
        ensemble_deliver(e, ensemble_find(e, RAFT_MSG_READ_INDEX, 1));
        while (ensemble_find(e, RAFT_MSG_READ_INDEX_ANSWER, 2) == NULL) {
            ensemble_deliver(e, e->packets);
        }
        old = ensemble_find(e, RAFT_MSG_READ_INDEX_ANSWER, 2)->message;
        ensemble_drop_all(e, 0, 0);
        ensemble_crash(e, 2, 0);
        ensemble_start(e, 2, 1);
        assert_int_equal(ensemble_propose(e, 1, "x"), ERR_OK);
        ensemble_settle(e);
        ensemble_timeout(e, 1);
        ensemble_settle(e);
        assert_int_equal(ensemble_read(e, 2, 8), ERR_OK);
        assert_int_equal(ensemble_message(e, old), ERR_OK);
        assert_int_equal(e->node[2].read_count, 0);
        ensemble_settle(e);
        assert_read(e, 2, 0, 3);
        ensemble_free(e);
    }
}

static void reads_end_when_the_leader_changes(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    assert_int_equal(ensemble_read(e, 2, 7), ERR_OK);
    ensemble_drop_all(e, 0, 0);
    assert_int_equal(
        ensemble_message(
            e, (struct raft_message){.type = RAFT_MSG_HEARTBEAT, .from = 3, .to = 2, .term = 9}),
        ERR_OK);
    assert_int_equal(e->node[2].read_count, 1);
    assert_int_equal(e->node[2].reads[0].err, ERR_NO_LEADER);
    ensemble_free(e);
}

static void a_read_without_a_leader_waits_for_one_but_not_for_ever(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    assert_int_equal(ensemble_read(e, 2, 7), ERR_OK);
    ensemble_elect(e, 1);
    assert_read(e, 2, 0, 2);

    ensemble_crash(e, 1, 0);
    ensemble_crash(e, 3, 0);
    (void)ensemble_step(e, 2, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 1});
    ensemble_timeout(e, 2);
    assert_int_equal(ensemble_read(e, 2, 8), ERR_OK);
    ensemble_wait(e, 599);
    ensemble_tick(e, 2);
    assert_int_equal(e->node[2].read_count, 1);
    assert_true(e->node[2].deadline_ms <= e->now_ms + 1);
    ensemble_wait(e, 1);
    ensemble_tick(e, 2);
    assert_int_equal(e->node[2].read_count, 2);
    assert_int_equal(e->node[2].reads[1].err, ERR_NO_LEADER);
    ensemble_free(e);
}

static void reads_that_wait_have_a_maximum(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);
    struct raft_event event = {.type = RAFT_EV_READ};

    (void)state;
    for (uint64_t i = 0; i < READS_WAITING_MAX; i++) {
        event.context = i;
        assert_int_equal(ensemble_step_only(e, 2, event), ERR_OK);
    }
    assert_int_equal(ensemble_step_only(e, 2, event), ERR_LIMIT);
    ensemble_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_waits_for_a_round_that_began_after_it),
        cmocka_unit_test(a_round_needs_a_majority),
        cmocka_unit_test(one_round_is_for_all_reads_that_wait),
        cmocka_unit_test(a_lost_round_is_made_up_by_the_next_heartbeat),
        cmocka_unit_test(no_read_before_the_no_op_of_the_term_is_committed),
        cmocka_unit_test(a_leader_that_was_replaced_answers_no_read),
        cmocka_unit_test(a_single_member_confirms_reads_at_once),
        cmocka_unit_test(a_follower_asks_the_leader),
        cmocka_unit_test(reads_of_a_follower_share_a_request),
        cmocka_unit_test(a_lost_request_is_sent_again),
        cmocka_unit_test(an_answer_from_before_a_restart_confirms_nothing),
        cmocka_unit_test(reads_end_when_the_leader_changes),
        cmocka_unit_test(a_read_without_a_leader_waits_for_one_but_not_for_ever),
        cmocka_unit_test(reads_that_wait_have_a_maximum),
    };

    return cmocka_run_group_tests_name("raft read", tests, NULL, NULL);
}
