/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of elections: dissertation 3.4, 3.6.1, 4.2.3, 6.2, 9.6; CONSENSUS 1 to 4. In most tests
 * node 1 is real and the test speaks for the others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/lib/raft_ensemble.h"

/* Node 1 of three alone, the test being the others. */
static struct ensemble *alone(void)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    e->by_hand = true;
    ensemble_crash(e, 2, 0);
    ensemble_crash(e, 3, 0);
    return e;
}

static enum raft_role role(const struct ensemble *e, uint64_t id)
{
    return ensemble_status(e, id).role;
}

static uint64_t term(const struct ensemble *e, uint64_t id)
{
    return ensemble_status(e, id).term;
}

static void tell(struct ensemble *e, struct raft_message message)
{
    message.to = 1;
    assert_int_equal(ensemble_message(e, message), ERR_OK);
}

static void hear_leader(struct ensemble *e, uint64_t from, uint64_t of_term)
{
    tell(e, (struct raft_message){.type = RAFT_MSG_HEARTBEAT, .from = from, .term = of_term});
}

static void closed(struct ensemble *e, uint64_t id, uint64_t peer)
{
    assert_int_equal(
        ensemble_step(e, id, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = peer}),
        ERR_OK);
}

/* The oldest packet of this type to `to`, taken out; fails if there is none. */
static struct raft_message take(struct ensemble *e, enum raft_message_type type, uint64_t to)
{
    struct ensemble_packet *packet = ensemble_find(e, type, to);
    struct raft_message message = {.to = to};

    if (packet == NULL) {
        fail_msg("no %s to %d", ensemble_message_name(type), (int)to);
        return message;
    }
    message = packet->message;
    message.entries = NULL;
    ensemble_drop(e, packet);
    return message;
}

static bool is_granted(struct ensemble *e, enum raft_message_type type, uint64_t to)
{
    return !take(e, type, to).reject;
}

static void a_prevote_raises_no_term(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    for (size_t i = 0; i < 20; i++) {
        ensemble_timeout(e, 1);
        assert_int_equal(role(e, 1), RAFT_PRE_CANDIDATE);
    }
    assert_int_equal(term(e, 1), 1);
    assert_null(e->node[1].saves);
    ensemble_free(e);
}

static void who_is_asked_for_a_prevote_keeps_its_term(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    tell(e, (struct raft_message){
                .type = RAFT_MSG_PREVOTE, .from = 2, .term = 9, .log_index = 1, .log_term = 1});
    assert_int_equal(term(e, 1), 1);
    assert_true(is_granted(e, RAFT_MSG_PREVOTE_ANSWER, 2));
    assert_null(e->node[1].saves);
    ensemble_free(e);
}

static void a_prevote_for_a_term_that_has_begun_is_refused(void **state)
{
    struct ensemble *e = alone();
    struct raft_message ask = {
        .type = RAFT_MSG_PREVOTE, .from = 2, .term = 1, .log_index = 9, .log_term = 1};

    (void)state;
    tell(e, ask);
    struct raft_message answer = take(e, RAFT_MSG_PREVOTE_ANSWER, 2);
    assert_true(answer.reject);
    assert_int_equal(answer.term, 1);
    ensemble_free(e);
}

static void a_campaign_begins_only_after_a_majority_said_it_would_vote(void **state)
{
    struct ensemble *e = alone();
    struct raft_message yes = {.type = RAFT_MSG_PREVOTE_ANSWER, .from = 2, .term = 2};

    (void)state;
    ensemble_timeout(e, 1);
    assert_null(ensemble_find(e, RAFT_MSG_VOTE, 0));
    yes.term = 3; /* an answer about another term */
    tell(e, yes);
    assert_int_equal(role(e, 1), RAFT_PRE_CANDIDATE);
    yes.term = 2;
    tell(e, yes);
    assert_int_equal(role(e, 1), RAFT_CANDIDATE);
    assert_int_equal(term(e, 1), 2);
    ensemble_free(e);
}

static void no_message_carries_a_term_that_is_not_durable(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    ensemble_timeout(e, 1);
    tell(e, (struct raft_message){.type = RAFT_MSG_PREVOTE_ANSWER, .from = 2, .term = 2});
    assert_null(ensemble_find(e, RAFT_MSG_VOTE, 0));
    ensemble_sync(e, 1);
    assert_int_equal(take(e, RAFT_MSG_VOTE, 2).term, 2);
    /* The same for a follower's answer. */
    tell(e, (struct raft_message){
                .type = RAFT_MSG_VOTE, .from = 2, .term = 5, .log_index = 1, .log_term = 1});
    assert_null(ensemble_find(e, RAFT_MSG_VOTE_ANSWER, 2));
    ensemble_sync(e, 1);
    assert_int_equal(e->node[1].term, 5);
    assert_int_equal(e->node[1].vote, 2);
    assert_true(is_granted(e, RAFT_MSG_VOTE_ANSWER, 2));
    ensemble_free(e);
}

static void messages_of_a_term_that_ended_before_it_was_durable_are_not_sent(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    tell(e, (struct raft_message){
                .type = RAFT_MSG_VOTE, .from = 2, .term = 5, .log_index = 1, .log_term = 1});
    tell(e, (struct raft_message){
                .type = RAFT_MSG_VOTE, .from = 3, .term = 6, .log_index = 1, .log_term = 1});
    ensemble_sync(e, 1);
    assert_null(ensemble_find(e, RAFT_MSG_VOTE_ANSWER, 2));
    assert_true(is_granted(e, RAFT_MSG_VOTE_ANSWER, 3));
    ensemble_free(e);
}

static void one_record_is_on_its_way_to_the_disk_at_a_time(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    hear_leader(e, 3, 5);
    tell(e, (struct raft_message){.type = RAFT_MSG_VOTE,
                                  .from = 2,
                                  .term = 6,
                                  .log_index = 1,
                                  .log_term = 1,
                                  .force = true});
    assert_non_null(e->node[1].saves);
    assert_null(e->node[1].saves->next);
    assert_true(ensemble_sync_one(e, 1));
    assert_null(ensemble_find(e, RAFT_MSG_VOTE_ANSWER, 2));
    assert_true(ensemble_sync_one(e, 1));
    assert_true(is_granted(e, RAFT_MSG_VOTE_ANSWER, 2));
    ensemble_free(e);
}

static void a_replica_votes_once_a_term(void **state)
{
    struct ensemble *e = alone();
    struct raft_message ask = {
        .type = RAFT_MSG_VOTE, .from = 2, .term = 5, .log_index = 1, .log_term = 1};

    (void)state;
    tell(e, ask);
    ensemble_sync(e, 1);
    assert_true(is_granted(e, RAFT_MSG_VOTE_ANSWER, 2));
    ask.from = 3;
    tell(e, ask);
    assert_false(is_granted(e, RAFT_MSG_VOTE_ANSWER, 3));
    ask.from = 2; /* the answer was lost */
    tell(e, ask);
    assert_true(is_granted(e, RAFT_MSG_VOTE_ANSWER, 2));
    ensemble_free(e);
}

static void a_vote_survives_a_crash(void **state)
{
    struct ensemble *e = alone();
    struct raft_message ask = {
        .type = RAFT_MSG_VOTE, .from = 2, .term = 5, .log_index = 1, .log_term = 1};

    (void)state;
    tell(e, ask);
    ensemble_sync(e, 1);
    ensemble_crash(e, 1, 0);
    ensemble_start(e, 1, 1);
    ensemble_drop_all(e, 0, 0);
    ask.from = 3;
    tell(e, ask);
    assert_false(is_granted(e, RAFT_MSG_VOTE_ANSWER, 3));
    assert_int_equal(ensemble_status(e, 1).vote, 2);
    ensemble_free(e);
}

static void an_entry_newer_than_the_record_brings_its_term(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    ensemble_crash(e, 1, 0);
    ensemble_disk_add(e, 1, 7, "x");
    e->node[1].term = 5;
    e->node[1].vote = 2;
    ensemble_start(e, 1, 1);
    assert_int_equal(term(e, 1), 7);
    assert_int_equal(ensemble_status(e, 1).vote, 0);
    ensemble_free(e);
}

static void a_log_that_is_behind_gets_no_vote(void **state)
{
    static const struct {
        uint64_t log_index;
        uint64_t log_term;
        bool granted;
    } cases[] = {{9, 2, false}, {3, 3, true}, {2, 3, false}, {4, 3, true}, {1, 4, true}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ensemble *e = alone();
        ensemble_crash(e, 1, 0);
        ensemble_disk_add(e, 1, 3, "a");
        ensemble_disk_add(e, 1, 3, "b");
        ensemble_start(e, 1, 1);
        tell(e, (struct raft_message){.type = RAFT_MSG_PREVOTE,
                                      .from = 2,
                                      .term = 9,
                                      .log_index = cases[i].log_index,
                                      .log_term = cases[i].log_term});
        assert_int_equal(is_granted(e, RAFT_MSG_PREVOTE_ANSWER, 2), cases[i].granted);
        tell(e, (struct raft_message){.type = RAFT_MSG_VOTE,
                                      .from = 2,
                                      .term = 9,
                                      .log_index = cases[i].log_index,
                                      .log_term = cases[i].log_term});
        ensemble_sync(e, 1);
        assert_int_equal(is_granted(e, RAFT_MSG_VOTE_ANSWER, 2), cases[i].granted);
        ensemble_free(e);
    }
}

/* Entries of term 2 that lie in memory only. */
static void append_unsynced(struct ensemble *e)
{
    struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_COMMAND, "x", 1);

    hear_leader(e, 3, 2);
    ensemble_sync(e, 1);
    entry->index = 2;
    entry->term = 2;
    tell(e, (struct raft_message){.type = RAFT_MSG_APPEND,
                                  .from = 3,
                                  .term = 2,
                                  .log_index = 1,
                                  .log_term = 1,
                                  .entries = &entry,
                                  .entry_count = 1});
    raft_entry_unref(entry);
    assert_int_equal(ensemble_status(e, 1).last_index, 2);
    assert_int_equal(ensemble_status(e, 1).durable_index, 1);
}

static void nobody_campaigns_with_entries_that_are_not_durable(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    append_unsynced(e);
    ensemble_drop_all(e, 0, 0);
    ensemble_wait(e, 1000);
    ensemble_tick(e, 1);
    assert_int_equal(role(e, 1), RAFT_FOLLOWER);
    ensemble_sync(e, 1); /* then it does, at once */
    assert_int_equal(role(e, 1), RAFT_PRE_CANDIDATE);
    assert_int_equal(take(e, RAFT_MSG_PREVOTE, 2).log_index, 2);
    ensemble_free(e);
}

static void a_voter_compares_with_the_durable_end_of_its_log(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    append_unsynced(e);
    closed(e, 1, 3);
    tell(e, (struct raft_message){
                .type = RAFT_MSG_PREVOTE, .from = 2, .term = 3, .log_index = 1, .log_term = 1});
    assert_true(is_granted(e, RAFT_MSG_PREVOTE_ANSWER, 2));
    ensemble_sync(e, 1);
    tell(e, (struct raft_message){
                .type = RAFT_MSG_PREVOTE, .from = 2, .term = 3, .log_index = 1, .log_term = 1});
    assert_false(is_granted(e, RAFT_MSG_PREVOTE_ANSWER, 2));
    ensemble_free(e);
}

static void the_own_vote_counts_when_it_is_durable(void **state)
{
    struct ensemble *e = ensemble_new(1, 0, 1);

    (void)state;
    ensemble_timeout(e, 1);
    assert_int_equal(role(e, 1), RAFT_CANDIDATE);
    assert_true(ensemble_sync_one(e, 1));
    assert_int_equal(role(e, 1), RAFT_LEADER);
    ensemble_free(e);
}

static void a_single_member_elects_itself_without_waiting(void **state)
{
    struct ensemble *e = ensemble_new(1, 0, 1);
    uint64_t begin_ms = e->now_ms;

    (void)state;
    ensemble_elect(e, 1);
    assert_int_equal(e->now_ms, begin_ms);
    assert_true(ensemble_status(e, 1).leader_ready);
    assert_int_equal(ensemble_propose(e, 1, "x"), ERR_OK);
    ensemble_settle(e);
    assert_int_equal(ensemble_status(e, 1).applied_index, 3);
    ensemble_free(e);
}

static void who_hears_its_leader_refuses_votes(void **state)
{
    struct ensemble *e = alone();
    struct raft_message ask = {
        .type = RAFT_MSG_VOTE, .from = 2, .term = 5, .log_index = 9, .log_term = 2};

    (void)state;
    hear_leader(e, 3, 2);
    ensemble_sync(e, 1);
    ensemble_wait(e, 299);
    ask.type = RAFT_MSG_PREVOTE;
    tell(e, ask);
    assert_false(is_granted(e, RAFT_MSG_PREVOTE_ANSWER, 2));
    ask.type = RAFT_MSG_VOTE;
    tell(e, ask);
    assert_int_equal(term(e, 1), 2);
    assert_null(ensemble_find(e, RAFT_MSG_VOTE_ANSWER, 2));
    ensemble_wait(e, 1);
    ask.type = RAFT_MSG_PREVOTE;
    tell(e, ask);
    assert_true(is_granted(e, RAFT_MSG_PREVOTE_ANSWER, 2));
    ensemble_free(e);
}

static void who_lost_the_connection_to_the_leader_does_not_refuse(void **state)
{
    struct ensemble *e = alone();
    struct raft_message ask = {
        .type = RAFT_MSG_PREVOTE, .from = 2, .term = 5, .log_index = 9, .log_term = 2};

    (void)state;
    hear_leader(e, 3, 2);
    ensemble_sync(e, 1);
    closed(e, 1, 2); /* some other connection */
    tell(e, ask);
    assert_false(is_granted(e, RAFT_MSG_PREVOTE_ANSWER, 2));
    closed(e, 1, 3);
    tell(e, ask);
    assert_true(is_granted(e, RAFT_MSG_PREVOTE_ANSWER, 2));
    hear_leader(e, 3, 2); /* it was a short break */
    tell(e, ask);
    assert_false(is_granted(e, RAFT_MSG_PREVOTE_ANSWER, 2));
    ensemble_free(e);
}

static void a_broken_connection_of_the_leader_starts_a_prevote_within_30_ms(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct ensemble *e = ensemble_new(3, 0, seed);
        ensemble_elect(e, 1);
        closed(e, 2, 1);
        assert_in_range(e->node[2].deadline_ms, e->now_ms, e->now_ms + 30);
        ensemble_timeout(e, 2);
        assert_int_equal(role(e, 2), RAFT_PRE_CANDIDATE);
        ensemble_free(e);
    }
}

static void a_forced_vote_is_given_although_the_leader_is_heard(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    hear_leader(e, 3, 2);
    tell(e, (struct raft_message){.type = RAFT_MSG_VOTE,
                                  .from = 2,
                                  .term = 3,
                                  .log_index = 9,
                                  .log_term = 2,
                                  .force = true});
    ensemble_sync(e, 1);
    assert_true(is_granted(e, RAFT_MSG_VOTE_ANSWER, 2));
    ensemble_free(e);
}

static void a_leader_refuses_votes(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    tell(e, (struct raft_message){
                .type = RAFT_MSG_VOTE, .from = 2, .term = 9, .log_index = 9, .log_term = 2});
    tell(e, (struct raft_message){
                .type = RAFT_MSG_PREVOTE, .from = 2, .term = 9, .log_index = 9, .log_term = 2});
    assert_int_equal(role(e, 1), RAFT_LEADER);
    assert_false(is_granted(e, RAFT_MSG_PREVOTE_ANSWER, 2));
    ensemble_free(e);
}

static void a_newer_term_ends_leadership(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    tell(e, (struct raft_message){
                .type = RAFT_MSG_APPEND_ANSWER, .from = 2, .term = 9, .reject = true});
    assert_int_equal(role(e, 1), RAFT_FOLLOWER);
    assert_int_equal(term(e, 1), 9);
    assert_int_equal(ensemble_propose(e, 1, "x"), ERR_NOT_LEADER);
    ensemble_free(e);
}

static void a_leader_of_an_older_term_is_told_the_newer_one(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    hear_leader(e, 3, 5);
    ensemble_sync(e, 1);
    ensemble_drop_all(e, 0, 0);
    hear_leader(e, 2, 4);
    struct raft_message answer = take(e, RAFT_MSG_APPEND_ANSWER, 2);
    assert_int_equal(answer.term, 5);
    assert_true(answer.reject);
    assert_int_equal(ensemble_status(e, 1).leader, 3);
    ensemble_free(e);
}

static void a_candidate_obeys_the_leader_of_its_own_term(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    ensemble_timeout(e, 1);
    tell(e, (struct raft_message){.type = RAFT_MSG_PREVOTE_ANSWER, .from = 2, .term = 2});
    ensemble_sync(e, 1);
    assert_int_equal(role(e, 1), RAFT_CANDIDATE);
    hear_leader(e, 3, 2);
    assert_int_equal(role(e, 1), RAFT_FOLLOWER);
    assert_int_equal(ensemble_status(e, 1).leader, 3);
    assert_int_equal(ensemble_status(e, 1).vote, 1); /* a vote is never taken back */
    ensemble_free(e);
}

static void a_second_leader_of_the_same_term_is_refused(void **state)
{
    struct ensemble *e = alone();
    struct raft_message other = {.type = RAFT_MSG_HEARTBEAT, .from = 2, .to = 1, .term = 5};

    (void)state;
    hear_leader(e, 3, 5);
    assert_int_equal(ensemble_message(e, other), ERR_MALFORMED);
    assert_int_equal(ensemble_status(e, 1).leader, 3);
    ensemble_free(e);
}

static void a_leader_without_a_majority_steps_down(void **state)
{
    struct ensemble *e = ensemble_new(5, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    ensemble_crash(e, 4, 0);
    ensemble_crash(e, 5, 0);
    for (size_t i = 0; i < 40; i++) { /* three of five are a majority */
        ensemble_timeout(e, 1);
        ensemble_settle(e);
        assert_int_equal(role(e, 1), RAFT_LEADER);
    }
    ensemble_crash(e, 3, 0);
    uint64_t begin_ms = e->now_ms;
    while (role(e, 1) == RAFT_LEADER) {
        ensemble_timeout(e, 1);
        ensemble_settle(e);
        assert_true(e->now_ms - begin_ms <= 700);
    }
    assert_true(e->now_ms - begin_ms >= 500);
    assert_int_equal(term(e, 1), 2);
    ensemble_free(e);
}

static void a_leader_that_only_speaks_and_never_hears_is_replaced(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);
    uint64_t begin_ms = 0;
    bool replaced = false;

    (void)state;
    ensemble_elect(e, 1);
    begin_ms = e->now_ms;
    while (!replaced && e->now_ms - begin_ms < 5000) {
        ensemble_wait(e, 10);
        for (uint64_t id = 1; id <= 3; id++) {
            if (e->now_ms >= e->node[id].deadline_ms) {
                ensemble_tick(e, id);
            }
        }
        for (size_t i = 0; i < 20; i++) {
            ensemble_drop_all(e, 0, 1); /* one way */
            ensemble_sync(e, 1);
            ensemble_sync(e, 2);
            ensemble_sync(e, 3);
            if (e->packets != NULL) {
                ensemble_deliver(e, e->packets);
            }
        }
        replaced = role(e, 2) == RAFT_LEADER || role(e, 3) == RAFT_LEADER;
    }
    assert_true(replaced);
    ensemble_free(e);
}

static void a_follower_that_hears_nothing_does_not_disturb(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    for (size_t i = 0; i < 500; i++) {
        ensemble_wait(e, 10);
        for (uint64_t id = 1; id <= 3; id++) {
            if (e->now_ms >= e->node[id].deadline_ms) {
                ensemble_tick(e, id);
            }
        }
        for (size_t k = 0; k < 40; k++) {
            ensemble_drop_all(e, 1, 3); /* one way, from the leader only */
            if (e->packets != NULL) {
                ensemble_deliver(e, e->packets);
            }
        }
        assert_int_equal(role(e, 1), RAFT_LEADER);
    }
    assert_int_equal(term(e, 1), 2);
    assert_int_not_equal(role(e, 3), RAFT_LEADER);
    ensemble_free(e);
}

static void of_two_who_ask_at_the_same_time_one_steps_back(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_crash(e, 1, 0);
    ensemble_wait(e, 1000);
    ensemble_tick(e, 2);
    ensemble_tick(e, 3);
    assert_int_equal(role(e, 2), RAFT_PRE_CANDIDATE);
    assert_int_equal(role(e, 3), RAFT_PRE_CANDIDATE);
    ensemble_settle(e);
    assert_int_equal(role(e, 3), RAFT_LEADER);
    assert_int_equal(role(e, 2), RAFT_FOLLOWER);
    assert_int_equal(term(e, 3), 2); /* no term was wasted */
    ensemble_free(e);
}

static void a_split_vote_is_tried_again_soon(void **state)
{
    struct ensemble *e = alone();

    (void)state;
    hear_leader(e, 3, 2);
    ensemble_sync(e, 1);
    closed(e, 1, 3);
    ensemble_timeout(e, 1);
    tell(e, (struct raft_message){.type = RAFT_MSG_PREVOTE_ANSWER, .from = 2, .term = 3});
    ensemble_sync(e, 1);
    assert_int_equal(role(e, 1), RAFT_CANDIDATE);
    /* 3 is gone and 2 has voted for itself: no need to wait for more answers. */
    tell(e,
         (struct raft_message){.type = RAFT_MSG_VOTE_ANSWER, .from = 2, .term = 3, .reject = true});
    assert_int_equal(role(e, 1), RAFT_FOLLOWER);
    assert_true(e->node[1].deadline_ms - e->now_ms <= 40);
    ensemble_free(e);
}

static void a_vote_counts_once_and_only_for_its_term(void **state)
{
    struct ensemble *e = ensemble_new(5, 0, 1);
    struct raft_message yes = {.type = RAFT_MSG_VOTE_ANSWER, .from = 2, .term = 2};

    (void)state;
    e->by_hand = true;
    ensemble_timeout(e, 1);
    tell(e, (struct raft_message){.type = RAFT_MSG_PREVOTE_ANSWER, .from = 2, .term = 2});
    tell(e, (struct raft_message){.type = RAFT_MSG_PREVOTE_ANSWER, .from = 3, .term = 2});
    ensemble_sync(e, 1);
    assert_int_equal(role(e, 1), RAFT_CANDIDATE);
    tell(e, yes);
    tell(e, yes); /* doubled by the network */
    yes.from = 3;
    yes.term = 1; /* of an older term */
    tell(e, yes);
    yes.from = 9; /* not a member */
    yes.term = 2;
    tell(e, yes);
    assert_int_equal(role(e, 1), RAFT_CANDIDATE);
    yes.from = 3;
    tell(e, yes);
    assert_int_equal(role(e, 1), RAFT_LEADER);
    ensemble_free(e);
}

static void a_learner_never_campaigns_but_votes(void **state)
{
    struct ensemble *e = ensemble_new(3, 1, 1);

    (void)state;
    ensemble_wait(e, 5000);
    ensemble_tick(e, 3);
    assert_int_equal(role(e, 3), RAFT_FOLLOWER);
    ensemble_crash(e, 2, 0);
    ensemble_timeout(e, 1); /* two of three, but there are two voters: its vote does not count */
    ensemble_settle(e);
    assert_int_equal(role(e, 1), RAFT_PRE_CANDIDATE);
    assert_int_equal(ensemble_message(e, (struct raft_message){.type = RAFT_MSG_VOTE,
                                                               .from = 1,
                                                               .to = 3,
                                                               .term = 9,
                                                               .log_index = 9,
                                                               .log_term = 8}),
                     ERR_OK);
    ensemble_sync(e, 3); /* It may be a voter already, and not know it. */
    assert_true(is_granted(e, RAFT_MSG_VOTE_ANSWER, 1));
    ensemble_free(e);
}

static void a_stalled_replica_does_not_campaign_on_old_ticks(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    ensemble_wait(e, 5000);
    (void)ensemble_step(e, 2, (struct raft_event){.type = RAFT_EV_STALLED});
    ensemble_tick(e, 2);
    assert_int_equal(role(e, 2), RAFT_FOLLOWER);
    (void)ensemble_step(e, 1, (struct raft_event){.type = RAFT_EV_STALLED});
    ensemble_tick(e, 1);
    assert_int_equal(role(e, 1), RAFT_LEADER);
    ensemble_free(e);
}

static void each_election_has_its_own_random_timeout(void **state)
{
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct ensemble *e = ensemble_new(3, 0, seed);
        uint64_t timeout_ms = e->node[1].deadline_ms - e->now_ms;
        assert_in_range(timeout_ms, 300, 600);
        least = timeout_ms < least ? timeout_ms : least;
        most = timeout_ms > most ? timeout_ms : most;
        ensemble_free(e);
    }
    assert_true(least < 320 && most > 580);
}

static void a_leader_hands_over_to_a_voter_that_has_everything(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    assert_int_equal(ensemble_propose(e, 1, "x"), ERR_OK);
    assert_int_equal(ensemble_step(e, 1, (struct raft_event){.type = RAFT_EV_TRANSFER, .peer = 2}),
                     ERR_OK);
    assert_null(ensemble_find(e, RAFT_MSG_TRANSFER, 2)); /* 2 does not have x yet */
    assert_int_equal(ensemble_propose(e, 1, "y"), ERR_LIMIT);
    ensemble_settle(e);
    assert_int_equal(role(e, 2), RAFT_LEADER);
    assert_int_equal(term(e, 2), 3);
    ensemble_free(e);
}

static void a_hand_over_that_does_not_happen_is_given_up(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    ensemble_crash(e, 2, 0);
    assert_int_equal(ensemble_step(e, 1, (struct raft_event){.type = RAFT_EV_TRANSFER, .peer = 2}),
                     ERR_OK);
    for (size_t i = 0; i < 13; i++) {
        ensemble_timeout(e, 1);
        ensemble_settle(e);
    }
    assert_int_equal(role(e, 1), RAFT_LEADER);
    assert_int_equal(ensemble_propose(e, 1, "y"), ERR_OK);
    ensemble_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prevote_raises_no_term),
        cmocka_unit_test(who_is_asked_for_a_prevote_keeps_its_term),
        cmocka_unit_test(a_prevote_for_a_term_that_has_begun_is_refused),
        cmocka_unit_test(a_campaign_begins_only_after_a_majority_said_it_would_vote),
        cmocka_unit_test(no_message_carries_a_term_that_is_not_durable),
        cmocka_unit_test(messages_of_a_term_that_ended_before_it_was_durable_are_not_sent),
        cmocka_unit_test(one_record_is_on_its_way_to_the_disk_at_a_time),
        cmocka_unit_test(a_replica_votes_once_a_term),
        cmocka_unit_test(a_vote_survives_a_crash),
        cmocka_unit_test(an_entry_newer_than_the_record_brings_its_term),
        cmocka_unit_test(a_log_that_is_behind_gets_no_vote),
        cmocka_unit_test(nobody_campaigns_with_entries_that_are_not_durable),
        cmocka_unit_test(a_voter_compares_with_the_durable_end_of_its_log),
        cmocka_unit_test(the_own_vote_counts_when_it_is_durable),
        cmocka_unit_test(a_single_member_elects_itself_without_waiting),
        cmocka_unit_test(who_hears_its_leader_refuses_votes),
        cmocka_unit_test(who_lost_the_connection_to_the_leader_does_not_refuse),
        cmocka_unit_test(a_broken_connection_of_the_leader_starts_a_prevote_within_30_ms),
        cmocka_unit_test(a_forced_vote_is_given_although_the_leader_is_heard),
        cmocka_unit_test(a_leader_refuses_votes),
        cmocka_unit_test(a_newer_term_ends_leadership),
        cmocka_unit_test(a_leader_of_an_older_term_is_told_the_newer_one),
        cmocka_unit_test(a_candidate_obeys_the_leader_of_its_own_term),
        cmocka_unit_test(a_second_leader_of_the_same_term_is_refused),
        cmocka_unit_test(a_leader_without_a_majority_steps_down),
        cmocka_unit_test(a_leader_that_only_speaks_and_never_hears_is_replaced),
        cmocka_unit_test(a_follower_that_hears_nothing_does_not_disturb),
        cmocka_unit_test(of_two_who_ask_at_the_same_time_one_steps_back),
        cmocka_unit_test(a_split_vote_is_tried_again_soon),
        cmocka_unit_test(a_vote_counts_once_and_only_for_its_term),
        cmocka_unit_test(a_learner_never_campaigns_but_votes),
        cmocka_unit_test(a_stalled_replica_does_not_campaign_on_old_ticks),
        cmocka_unit_test(each_election_has_its_own_random_timeout),
        cmocka_unit_test(a_leader_hands_over_to_a_voter_that_has_everything),
        cmocka_unit_test(a_hand_over_that_does_not_happen_is_given_up),
    };

    return cmocka_run_group_tests_name("raft election", tests, NULL, NULL);
}
