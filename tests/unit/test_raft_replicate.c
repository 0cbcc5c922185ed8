/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of replication, seen from the leader: dissertation 3.5, 3.6.2; CONSENSUS 5, 10, 11, 13.
 * In most tests node 1 leads and the test speaks for the others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tests/lib/raft_ensemble.h"

/* Node 1 of `count` leads term 2, has entries 1 and 2; the others are silent. */
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

static void tell(struct ensemble *e, struct raft_message message)
{
    message.to = 1;
    message.term = message.term != 0 ? message.term : 2;
    assert_int_equal(ensemble_message(e, message), ERR_OK);
}

static void acknowledge(struct ensemble *e, uint64_t from, uint64_t index)
{
    tell(e,
         (struct raft_message){.type = RAFT_MSG_APPEND_ANSWER, .from = from, .log_index = index});
}

static uint64_t commit(const struct ensemble *e, uint64_t id)
{
    return ensemble_status(e, id).commit_index;
}

static void propose(struct ensemble *e, const char *data)
{
    assert_int_equal(ensemble_propose(e, 1, data), ERR_OK);
}

/* An entry of `len` bytes. */
static enum err propose_bytes(struct ensemble *e, size_t len)
{
    char *data = calloc(1, len + 1);
    struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_COMMAND, data, len);
    enum err err =
        ensemble_step(e, 1, (struct raft_event){.type = RAFT_EV_PROPOSE, .entry = entry});

    raft_entry_unref(entry);
    free(data);
    return err;
}

static size_t count_of(const struct ensemble *e, enum raft_message_type type, uint64_t to)
{
    size_t count = 0;

    for (const struct ensemble_packet *p = e->packets; p != NULL; p = p->next) {
        count += p->message.type == type && p->message.to == to ? 1 : 0;
    }
    return count;
}

static void an_entry_is_committed_when_a_majority_has_it_durable(void **state)
{
    struct ensemble *e = leader_of(5);

    (void)state;
    propose(e, "x");
    acknowledge(e, 2, 3);
    assert_int_equal(commit(e, 1), 2);
    ensemble_sync(e, 1); /* the leader's own disk counts like the others */
    assert_int_equal(commit(e, 1), 2);
    acknowledge(e, 2, 3); /* doubled */
    assert_int_equal(commit(e, 1), 2);
    acknowledge(e, 3, 3);
    assert_int_equal(commit(e, 1), 3);
    ensemble_free(e);
}

static void a_leader_commits_without_its_own_disk_but_does_not_apply(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    propose(e, "x");
    acknowledge(e, 2, 3);
    acknowledge(e, 3, 3);
    assert_int_equal(commit(e, 1), 3);
    assert_int_equal(e->node[1].applied_index, 2);
    ensemble_sync(e, 1);
    assert_int_equal(e->node[1].applied_index, 3);
    ensemble_free(e);
}

/* Figure 8 of the paper: (c) the entry of term 2 is on a majority, and still not committed. */
static void an_entry_of_an_older_term_is_not_committed_by_counting(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    for (uint64_t id = 1; id <= 3; id++) {
        ensemble_crash(e, id, 0);
    }
    ensemble_disk_add(e, 1, 2, "old");
    ensemble_start(e, 1, 1);
    e->by_hand = true;
    ensemble_timeout(e, 1);
    tell(e, (struct raft_message){.type = RAFT_MSG_PREVOTE_ANSWER, .from = 2, .term = 3});
    ensemble_sync(e, 1);
    tell(e, (struct raft_message){.type = RAFT_MSG_VOTE_ANSWER, .from = 2, .term = 3});
    assert_int_equal(ensemble_status(e, 1).role, RAFT_LEADER);
    tell(e, (struct raft_message){
                .type = RAFT_MSG_APPEND_ANSWER, .from = 2, .term = 3, .log_index = 2});
    tell(e, (struct raft_message){
                .type = RAFT_MSG_APPEND_ANSWER, .from = 3, .term = 3, .log_index = 2});
    assert_int_equal(commit(e, 1), 1);
    assert_false(ensemble_status(e, 1).leader_ready);
    tell(e, (struct raft_message){
                .type = RAFT_MSG_APPEND_ANSWER, .from = 2, .term = 3, .log_index = 3});
    tell(e, (struct raft_message){
                .type = RAFT_MSG_APPEND_ANSWER, .from = 3, .term = 3, .log_index = 3});
    assert_int_equal(commit(e, 1), 3); /* with the no-op of the own term, the older one too */
    assert_true(ensemble_status(e, 1).leader_ready);
    ensemble_free(e);
}

static void an_acknowledgement_of_an_older_term_does_not_count(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    propose(e, "x");
    ensemble_sync(e, 1);
    tell(e, (struct raft_message){
                .type = RAFT_MSG_APPEND_ANSWER, .from = 2, .term = 1, .log_index = 3});
    assert_int_equal(commit(e, 1), 2);
    ensemble_free(e);
}

static void an_acknowledgement_beyond_the_log_is_refused(void **state)
{
    struct ensemble *e = leader_of(3);
    struct raft_message answer = {
        .type = RAFT_MSG_APPEND_ANSWER, .from = 2, .to = 1, .term = 2, .log_index = 99};

    (void)state;
    assert_int_equal(ensemble_message(e, answer), ERR_MALFORMED);
    assert_int_equal(commit(e, 1), 2);
    ensemble_free(e);
}

static void proposals_of_a_turn_are_one_save_and_one_append(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    for (size_t i = 0; i < 10; i++) {
        struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_COMMAND, "x", 1);
        assert_int_equal(
            ensemble_step_only(e, 1, (struct raft_event){.type = RAFT_EV_PROPOSE, .entry = entry}),
            ERR_OK);
        raft_entry_unref(entry);
    }
    ensemble_turn(e, 1);
    assert_non_null(e->node[1].saves);
    assert_int_equal(e->node[1].saves->count, 10);
    assert_null(e->node[1].saves->next);
    assert_int_equal(count_of(e, RAFT_MSG_APPEND, 2), 1);
    assert_int_equal(ensemble_find(e, RAFT_MSG_APPEND, 2)->message.entry_count, 10);
    ensemble_free(e);
}

static void appends_go_out_before_the_own_disk_is_done(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    propose(e, "x");
    assert_int_equal(count_of(e, RAFT_MSG_APPEND, 2), 1);
    assert_int_equal(count_of(e, RAFT_MSG_APPEND, 3), 1);
    assert_int_equal(ensemble_status(e, 1).durable_index, 2);
    ensemble_free(e);
}

static void a_commit_index_that_moved_is_told_in_the_same_turn(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    propose(e, "x");
    ensemble_sync(e, 1);
    ensemble_drop_all(e, 0, 0);
    acknowledge(e, 2, 3);
    assert_int_equal(ensemble_find(e, RAFT_MSG_HEARTBEAT, 2)->message.commit, 3);
    /* 3 has not said that it has the entry: it is not told. */
    assert_null(ensemble_find(e, RAFT_MSG_HEARTBEAT, 3));
    acknowledge(e, 3, 3);
    assert_int_equal(ensemble_find(e, RAFT_MSG_HEARTBEAT, 3)->message.commit, 3);
    ensemble_free(e);
}

static void no_heartbeat_tells_more_than_the_follower_has(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    propose(e, "x");
    ensemble_sync(e, 1);
    acknowledge(e, 2, 3);
    ensemble_drop_all(e, 0, 0);
    ensemble_timeout(e, 1);
    assert_int_equal(ensemble_find(e, RAFT_MSG_HEARTBEAT, 2)->message.commit, 3);
    assert_int_equal(ensemble_find(e, RAFT_MSG_HEARTBEAT, 3)->message.commit, 2);
    ensemble_free(e);
}

static void the_window_bounds_messages_in_flight(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    ensemble_drop_all(e, 0, 0);
    for (size_t i = 0; i < INFLIGHT_MESSAGES_MAX + 10; i++) {
        propose(e, "x");
    }
    assert_int_equal(count_of(e, RAFT_MSG_APPEND, 2), INFLIGHT_MESSAGES_MAX);
    acknowledge(e, 2, 4); /* two of them: room for one more message with all that waits */
    assert_int_equal(count_of(e, RAFT_MSG_APPEND, 2), INFLIGHT_MESSAGES_MAX + 1);
    assert_int_equal(ensemble_status(e, 1).peer[0].next_index,
                     ensemble_status(e, 1).last_index + 1);
    ensemble_free(e);
}

static void the_window_bounds_bytes_in_flight(void **state)
{
    struct ensemble *e = leader_of(3);
    size_t bytes = 0;

    (void)state;
    ensemble_drop_all(e, 0, 0);
    for (size_t i = 0; i < 14; i++) {
        assert_int_equal(propose_bytes(e, 1 * MIB), ERR_OK);
    }
    for (const struct ensemble_packet *p = e->packets; p != NULL; p = p->next) {
        bytes += p->message.to == 2 ? p->message.entry_count * MIB : 0;
    }
    assert_in_range(bytes, INFLIGHT_BYTES_MAX - MIB, INFLIGHT_BYTES_MAX);
    ensemble_free(e);
}

static void heartbeats_do_not_wait_for_the_window(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    for (size_t i = 0; i < INFLIGHT_MESSAGES_MAX + 10; i++) {
        propose(e, "x");
    }
    ensemble_drop_all(e, 0, 0);
    ensemble_timeout(e, 1);
    assert_int_equal(count_of(e, RAFT_MSG_HEARTBEAT, 2), 1);
    assert_int_equal(count_of(e, RAFT_MSG_APPEND, 2), 0);
    assert_int_equal(ensemble_find(e, RAFT_MSG_HEARTBEAT, 2)->message.entry_count, 0);
    ensemble_free(e);
}

static void an_append_has_a_maximum(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    /* While the peer is probed, entries gather. */
    (void)ensemble_step(e, 1, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 2});
    ensemble_drop_all(e, 0, 0);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(propose_bytes(e, 500 * KIB), ERR_OK);
    }
    for (size_t i = 0; i < APPEND_ENTRIES_MAX + 100; i++) {
        assert_int_equal(propose_bytes(e, 1), ERR_OK);
    }
    ensemble_drop_all(e, 0, 0);
    acknowledge(e, 2, 2);
    for (const struct ensemble_packet *p = e->packets; p != NULL; p = p->next) {
        size_t bytes = 0;
        for (size_t i = 0; i < p->message.entry_count; i++) {
            bytes += p->message.entries[i]->len;
        }
        assert_true(bytes <= APPEND_BYTES_MAX);
        assert_true(p->message.entry_count <= APPEND_ENTRIES_MAX);
    }
    assert_int_equal(ensemble_status(e, 1).peer[0].next_index,
                     ensemble_status(e, 1).last_index + 1);
    ensemble_free(e);
}

static void uncommitted_entries_have_a_maximum(void **state)
{
    struct ensemble *e = leader_of(3);
    size_t taken = 0;

    (void)state;
    while (propose_bytes(e, 1 * MIB) == ERR_OK) {
        taken++;
        assert_true(taken <= 16);
    }
    assert_true(taken >= 14);
    assert_int_equal(propose_bytes(e, 1 * MIB), ERR_LIMIT);
    assert_int_equal(ensemble_status(e, 1).last_index, 2 + taken);
    ensemble_sync(e, 1);
    acknowledge(e, 2, 2 + taken);
    assert_int_equal(propose_bytes(e, 1 * MIB), ERR_OK); /* committed: room again */
    ensemble_free(e);
}

static void a_rejection_that_was_overtaken_changes_nothing(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    propose(e, "x");
    acknowledge(e, 2, 3);
    ensemble_drop_all(e, 0, 0);
    tell(e, (struct raft_message){.type = RAFT_MSG_APPEND_ANSWER,
                                  .from = 2,
                                  .log_index = 3,
                                  .reject = true,
                                  .hint_index = 1,
                                  .hint_term = 1});
    assert_int_equal(ensemble_status(e, 1).peer[0].next_index, 4);
    assert_int_equal(ensemble_packet_count(e), 0);
    ensemble_free(e);
}

static void a_follower_that_lost_the_end_of_its_log_is_sent_it_again(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    propose(e, "x");
    propose(e, "y");
    acknowledge(e, 2, 4);
    /* It starts again; recovery has dropped a torn last group, which it had acknowledged. */
    (void)ensemble_step(e, 1, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 2});
    ensemble_drop_all(e, 0, 0);
    tell(e, (struct raft_message){.type = RAFT_MSG_APPEND_ANSWER,
                                  .from = 2,
                                  .log_index = 4,
                                  .reject = true,
                                  .hint_index = 3,
                                  .hint_term = 2});
    assert_int_equal(ensemble_status(e, 1).peer[0].match_index, 3);
    assert_int_equal(ensemble_find(e, RAFT_MSG_APPEND, 2)->message.log_index, 3);
    acknowledge(e, 2, 4);
    assert_int_equal(ensemble_status(e, 1).peer[0].match_index, 4);
    ensemble_free(e);
}

static void appends_that_were_lost_are_sent_again(void **state)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    (void)state;
    ensemble_elect(e, 1);
    propose(e, "x");
    ensemble_drop_all(e, 1, 2);
    for (size_t i = 0; i < 40 && ensemble_status(e, 2).commit_index < 3; i++) {
        ensemble_timeout(e, 1);
        ensemble_settle(e);
    }
    assert_int_equal(ensemble_status(e, 2).applied_index, 3);
    ensemble_free(e);
}

static void a_leader_only_appends_to_its_log(void **state)
{
    struct ensemble *e = leader_of(3);
    struct raft_message other = {.type = RAFT_MSG_APPEND, .from = 2, .to = 1, .term = 2};

    (void)state;
    propose(e, "x");
    /* Nobody else may append in its term. */
    assert_int_equal(ensemble_message(e, other), ERR_MALFORMED);
    /* Rejections make it send older entries, not change them. */
    tell(e, (struct raft_message){
                .type = RAFT_MSG_APPEND_ANSWER, .from = 2, .log_index = 3, .reject = true});
    assert_int_equal(ensemble_status(e, 1).last_index, 3);
    assert_int_equal(ensemble_entry_term(e, 1, 3), 2);
    ensemble_free(e);
}

static void time_never_goes_back_in_the_log(void **state)
{
    struct ensemble *e = leader_of(3);
    struct raft_entry *late = raft_entry_new(RAFT_ENTRY_COMMAND, "x", 1);
    struct raft_entry *early = raft_entry_new(RAFT_ENTRY_COMMAND, "y", 1);

    (void)state;
    late->time_ns = 5000;
    early->time_ns = 3000;
    (void)ensemble_step(e, 1, (struct raft_event){.type = RAFT_EV_PROPOSE, .entry = late});
    (void)ensemble_step(e, 1, (struct raft_event){.type = RAFT_EV_PROPOSE, .entry = early});
    assert_int_equal(late->time_ns, 5000);
    assert_int_equal(early->time_ns, 5000);
    assert_int_equal(early->index, 4);
    assert_int_equal(early->term, 2);
    raft_entry_unref(late);
    raft_entry_unref(early);
    ensemble_free(e);
}

/* Node 1 leads term 3; entries 1 to 12 are on its disk only, nodes 2 and 3 have the first. */
static struct ensemble *leader_with_old_entries(void)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    for (uint64_t id = 1; id <= 3; id++) {
        ensemble_crash(e, id, 0);
    }
    for (size_t i = 0; i < 11; i++) {
        ensemble_disk_add(e, 1, 2, "x");
    }
    for (uint64_t id = 1; id <= 3; id++) {
        ensemble_start(e, id, 1);
    }
    return e;
}

static void a_rejection_leads_to_the_place_of_its_hint(void **state)
{
    struct ensemble *e = leader_with_old_entries();

    (void)state;
    e->by_hand = true;
    ensemble_crash(e, 2, 0);
    ensemble_crash(e, 3, 0);
    ensemble_timeout(e, 1);
    tell(e, (struct raft_message){.type = RAFT_MSG_PREVOTE_ANSWER, .from = 2, .term = 3});
    ensemble_sync(e, 1);
    tell(e, (struct raft_message){.type = RAFT_MSG_VOTE_ANSWER, .from = 2, .term = 3});
    ensemble_drop_all(e, 0, 0);
    /* The probe stood behind entry 12; the follower ends with 9, of the same term. */
    tell(e, (struct raft_message){.type = RAFT_MSG_APPEND_ANSWER,
                                  .from = 2,
                                  .term = 3,
                                  .log_index = 12,
                                  .reject = true,
                                  .hint_index = 9,
                                  .hint_term = 2});
    assert_int_equal(ensemble_find(e, RAFT_MSG_APPEND, 2)->message.log_index, 9);
    assert_int_equal(ensemble_find(e, RAFT_MSG_APPEND, 2)->message.log_term, 2);
    ensemble_drop_all(e, 0, 0);
    /* The other has a term that the leader's log does not have: what is older is tried. */
    tell(e, (struct raft_message){.type = RAFT_MSG_APPEND_ANSWER,
                                  .from = 3,
                                  .term = 3,
                                  .log_index = 12,
                                  .reject = true,
                                  .hint_index = 1,
                                  .hint_term = 1});
    assert_int_equal(ensemble_find(e, RAFT_MSG_APPEND, 3)->message.log_index, 1);
    ensemble_free(e);
}

static void entries_that_left_memory_are_fetched(void **state)
{
    struct ensemble *e = leader_with_old_entries();

    (void)state;
    ensemble_elect(e, 1);
    assert_true(e->node[1].fetches > 0);
    for (uint64_t id = 1; id <= 3; id++) {
        assert_int_equal(ensemble_status(e, id).applied_index, 13);
    }
    ensemble_free(e);
}

static void entries_that_are_not_available_are_asked_for_again_later(void **state)
{
    struct ensemble *e = leader_with_old_entries();

    (void)state;
    e->no_fetch = true;
    ensemble_timeout(e, 1);
    ensemble_settle(e);
    size_t fetches = e->node[1].fetches;
    assert_int_equal(fetches, 2); /* one for each follower */
    ensemble_timeout(e, 1);
    ensemble_settle(e);
    assert_int_equal(e->node[1].fetches, fetches);
    e->no_fetch = false;
    for (size_t i = 0; i < 20; i++) {
        ensemble_timeout(e, 1);
        ensemble_settle(e);
    }
    assert_int_equal(ensemble_status(e, 3).applied_index, 13);
    ensemble_free(e);
}

/* Commits `count` entries of 1 MiB with the help of node 2. */
static void fill(struct ensemble *e, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(propose_bytes(e, 1 * MIB), ERR_OK);
        ensemble_sync(e, 1);
        acknowledge(e, 2, ensemble_status(e, 1).last_index);
        ensemble_drop_all(e, 0, 0);
    }
}

static void fetched(struct ensemble *e, uint64_t log_term, uint64_t index, uint64_t term)
{
    struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_COMMAND, "f", 1);

    entry->index = index;
    entry->term = term;
    (void)ensemble_step(e, 1,
                        (struct raft_event){.type = RAFT_EV_FETCHED,
                                            .peer = 3,
                                            .log_term = log_term,
                                            .entries = &entry,
                                            .entry_count = 1});
    raft_entry_unref(entry);
}

static void what_was_fetched_for_an_earlier_question_is_not_sent(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    fill(e, 40);
    assert_null(raft_entry_at(e->node[1].raft, 3));
    e->ignore_fetch = true;
    (void)ensemble_step(e, 1, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 3});
    assert_int_equal(e->node[1].fetches, 1);
    fetched(e, 2, 5, 2); /* another place */
    assert_null(ensemble_find(e, RAFT_MSG_APPEND, 3));
    fetched(e, 2, 3, 3); /* an entry that is not in the log any more */
    assert_null(ensemble_find(e, RAFT_MSG_APPEND, 3));
    assert_int_equal(e->node[1].fetches, 2); /* so it is asked for again */
    fetched(e, 1, 3, 2);                     /* behind another one */
    assert_null(ensemble_find(e, RAFT_MSG_APPEND, 3));
    fetched(e, 2, 3, 2);
    assert_int_equal(ensemble_find(e, RAFT_MSG_APPEND, 3)->message.log_index, 2);
    ensemble_free(e);
}

static void memory_keeps_what_is_not_durable_or_not_committed(void **state)
{
    struct ensemble *e = leader_of(3);
    struct raft *raft = e->node[1].raft;
    uint64_t last = 2;

    (void)state;
    for (size_t round = 0; round < 5; round++) {
        for (size_t i = 0; i < 10; i++) {
            assert_int_equal(propose_bytes(e, 1 * MIB), ERR_OK);
            last++;
            assert_non_null(raft_entry_at(raft, last));
        }
        ensemble_sync(e, 1);
        acknowledge(e, 2, last);
        ensemble_drop_all(e, 0, 0);
    }
    assert_int_equal(commit(e, 1), last);
    ensemble_tick(e, 1);
    assert_null(raft_entry_at(raft, 3)); /* 50 MiB do not stay in memory */
    assert_null(raft_entry_at(raft, last - 32));
    assert_non_null(raft_entry_at(raft, last - 30));
    assert_null(raft_entry_at(raft, last + 1));
    ensemble_free(e);
}

static void effects_may_be_looked_at_twice(void **state)
{
    struct ensemble *e = leader_of(3);
    struct raft *raft = e->node[1].raft;
    struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_COMMAND, "x", 1);
    struct raft_event event = {.type = RAFT_EV_PROPOSE, .now_ms = e->now_ms, .entry = entry};

    (void)state;
    assert_int_equal(raft_step(raft, &event), ERR_OK);
    assert_int_equal(raft_effects(raft)->save_count, 1);
    assert_int_equal(raft_effects(raft)->save_count, 1);
    assert_int_equal(raft_effects(raft)->message_count, 2);
    raft_entry_unref(entry);
    entry = raft_entry_new(RAFT_ENTRY_COMMAND, "y", 1);
    event.entry = entry;
    assert_int_equal(raft_step(raft, &event), ERR_OK); /* an event between looking and taking */
    raft_effects_done(raft);
    assert_int_equal(raft_effects(raft)->save_count, 1);
    assert_int_equal(raft_effects(raft)->save[0]->index, 4);
    assert_int_equal(raft_effects(raft)->message_count, 2);
    assert_int_equal(raft_effects(raft)->messages[1].entries[0]->index, 4);
    raft_effects_done(raft);
    assert_int_equal(raft_effects(raft)->save_count, 0);
    assert_int_equal(raft_effects(raft)->message_count, 0);
    raft_entry_unref(entry);
    ensemble_free(e);
}

static void a_report_of_a_save_that_is_not_in_flight_is_ignored(void **state)
{
    struct ensemble *e = leader_of(3);

    (void)state;
    propose(e, "x");
    (void)ensemble_step(e, 1,
                        (struct raft_event){.type = RAFT_EV_LOG_SAVED, .index = 3, .term = 1});
    assert_int_equal(ensemble_status(e, 1).durable_index, 2); /* another entry 3 */
    (void)ensemble_step(e, 1,
                        (struct raft_event){.type = RAFT_EV_LOG_SAVED, .index = 4, .term = 2});
    assert_int_equal(ensemble_status(e, 1).durable_index, 2); /* there is no such entry */
    (void)ensemble_step(e, 1,
                        (struct raft_event){.type = RAFT_EV_LOG_SAVED, .index = 3, .term = 2});
    assert_int_equal(ensemble_status(e, 1).durable_index, 3);
    ensemble_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_is_committed_when_a_majority_has_it_durable),
        cmocka_unit_test(a_leader_commits_without_its_own_disk_but_does_not_apply),
        cmocka_unit_test(an_entry_of_an_older_term_is_not_committed_by_counting),
        cmocka_unit_test(an_acknowledgement_of_an_older_term_does_not_count),
        cmocka_unit_test(an_acknowledgement_beyond_the_log_is_refused),
        cmocka_unit_test(proposals_of_a_turn_are_one_save_and_one_append),
        cmocka_unit_test(appends_go_out_before_the_own_disk_is_done),
        cmocka_unit_test(a_commit_index_that_moved_is_told_in_the_same_turn),
        cmocka_unit_test(no_heartbeat_tells_more_than_the_follower_has),
        cmocka_unit_test(the_window_bounds_messages_in_flight),
        cmocka_unit_test(the_window_bounds_bytes_in_flight),
        cmocka_unit_test(heartbeats_do_not_wait_for_the_window),
        cmocka_unit_test(an_append_has_a_maximum),
        cmocka_unit_test(uncommitted_entries_have_a_maximum),
        cmocka_unit_test(a_rejection_leads_to_the_place_of_its_hint),
        cmocka_unit_test(a_rejection_that_was_overtaken_changes_nothing),
        cmocka_unit_test(a_follower_that_lost_the_end_of_its_log_is_sent_it_again),
        cmocka_unit_test(appends_that_were_lost_are_sent_again),
        cmocka_unit_test(a_leader_only_appends_to_its_log),
        cmocka_unit_test(time_never_goes_back_in_the_log),
        cmocka_unit_test(entries_that_left_memory_are_fetched),
        cmocka_unit_test(entries_that_are_not_available_are_asked_for_again_later),
        cmocka_unit_test(what_was_fetched_for_an_earlier_question_is_not_sent),
        cmocka_unit_test(memory_keeps_what_is_not_durable_or_not_committed),
        cmocka_unit_test(effects_may_be_looked_at_twice),
        cmocka_unit_test(a_report_of_a_save_that_is_not_in_flight_is_ignored),
    };

    return cmocka_run_group_tests_name("raft replicate", tests, NULL, NULL);
}
