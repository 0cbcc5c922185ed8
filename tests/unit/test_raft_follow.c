/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of replication, seen from the follower: dissertation 3.5 (log matching), 3.6;
 * CONSENSUS 2, 8, 10. Node 1 is real, the test is its leader.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/lib/raft_ensemble.h"

#define ENTRIES_MAX 8u

/* Node 1 of three; its disk holds entry 1 and then entries of these terms (0 ends them). */
static struct ensemble *follower(const uint64_t *terms)
{
    struct ensemble *e = ensemble_new(3, 0, 1);

    e->by_hand = true;
    for (uint64_t id = 1; id <= 3; id++) {
        ensemble_crash(e, id, 0);
    }
    for (; *terms != 0; terms++) {
        ensemble_disk_add(e, 1, *terms, "d");
    }
    ensemble_start(e, 1, 1);
    return e;
}

/* An append of leader 2: entries of these terms (0 ends them) behind (index, term). */
static enum err append(struct ensemble *e, uint64_t term, uint64_t index, uint64_t index_term,
                       const uint64_t *terms, uint64_t commit)
{
    struct raft_entry *entries[ENTRIES_MAX];
    size_t count = 0;
    enum err err = ERR_OK;

    for (; terms[count] != 0; count++) {
        entries[count] = raft_entry_new(RAFT_ENTRY_COMMAND, "x", 1);
        entries[count]->index = index + 1 + count;
        entries[count]->term = terms[count];
    }
    err = ensemble_message(e, (struct raft_message){.type = RAFT_MSG_APPEND,
                                                    .from = 2,
                                                    .to = 1,
                                                    .term = term,
                                                    .log_index = index,
                                                    .log_term = index_term,
                                                    .commit = commit,
                                                    .entries = entries,
                                                    .entry_count = count});
    for (size_t i = 0; i < count; i++) {
        raft_entry_unref(entries[i]);
    }
    return err;
}

/* A row of terms; a 0 ends it. */
#define TERMS(...) ((const uint64_t[]){__VA_ARGS__})

/* The newest answer to an append; UINT64_MAX: none, or a rejection if that is not wanted. */
static struct raft_message answer(const struct ensemble *e)
{
    struct raft_message found = {.log_index = UINT64_MAX};

    for (const struct ensemble_packet *p = e->packets; p != NULL; p = p->next) {
        if (p->message.type == RAFT_MSG_APPEND_ANSWER) {
            found = p->message;
        }
    }
    return found;
}

static void assert_acknowledged(struct ensemble *e, uint64_t index)
{
    struct raft_message found = answer(e);

    assert_false(found.reject);
    assert_int_equal(found.log_index, index);
    ensemble_drop_all(e, 0, 0);
}

static void assert_rejected(struct ensemble *e, uint64_t index, uint64_t hint, uint64_t hint_term)
{
    struct raft_message found = answer(e);

    assert_true(found.reject);
    assert_int_equal(found.log_index, index);
    assert_int_equal(found.hint_index, hint);
    assert_int_equal(found.hint_term, hint_term);
    ensemble_drop_all(e, 0, 0);
}

static void follower_rejects_entries_of_an_older_term(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    assert_int_equal(append(e, 5, 2, 2, TERMS(5, 0), 1), ERR_OK);
    ensemble_sync(e, 1);
    ensemble_drop_all(e, 0, 0);
    assert_int_equal(append(e, 4, 2, 2, TERMS(4, 4, 0), 4), ERR_OK);
    ensemble_sync(e, 1);
    assert_int_equal(ensemble_status(e, 1).last_index, 3);
    assert_int_equal(ensemble_entry_term(e, 1, 3), 5);
    assert_int_equal(ensemble_status(e, 1).commit_index, 1);
    assert_int_equal(answer(e).term, 5);
    assert_true(answer(e).reject);
    ensemble_free(e);
}

static void follower_acknowledges_only_what_is_durable(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    assert_int_equal(append(e, 2, 2, 2, TERMS(2, 2, 0), 1), ERR_OK);
    assert_acknowledged(e, 2); /* the place before the entries fits, and is durable */
    assert_int_equal(append(e, 2, 4, 2, TERMS(2, 0), 1), ERR_OK);
    assert_int_equal(answer(e).log_index, UINT64_MAX);
    assert_true(ensemble_sync_one(e, 1));
    assert_acknowledged(e, 4);
    assert_true(ensemble_sync_one(e, 1));
    assert_acknowledged(e, 5);
    ensemble_free(e);
}

static void follower_rejects_a_gap_and_says_where_it_ends(void **state)
{
    struct ensemble *e = follower(TERMS(2, 2, 0));

    (void)state;
    assert_int_equal(append(e, 3, 9, 3, TERMS(3, 0), 9), ERR_OK);
    ensemble_sync(e, 1);
    assert_rejected(e, 9, 3, 2);
    assert_int_equal(ensemble_status(e, 1).last_index, 3);
    assert_int_equal(ensemble_status(e, 1).commit_index, 1);
    ensemble_free(e);
}

static void follower_rejects_a_place_of_another_term_with_a_hint_that_skips_it(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    /* 3 to 6 are of term 3, seen by this process. */
    assert_int_equal(append(e, 3, 2, 2, TERMS(3, 3, 3, 3, 0), 1), ERR_OK);
    ensemble_sync(e, 1);
    ensemble_drop_all(e, 0, 0);
    /* The leader of term 5 has term 2 up to 6. */
    assert_int_equal(append(e, 5, 6, 2, TERMS(5, 0), 1), ERR_OK);
    ensemble_sync(e, 1);
    assert_rejected(e, 6, 2, 2);
    assert_int_equal(ensemble_status(e, 1).last_index, 6);
    ensemble_free(e);
}

static void follower_replaces_a_suffix_that_conflicts_in_one_save(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    assert_int_equal(append(e, 3, 2, 2, TERMS(3, 3, 3, 0), 1), ERR_OK);
    ensemble_sync(e, 1);
    assert_int_equal(append(e, 5, 3, 3, TERMS(5, 0), 1), ERR_OK);
    assert_int_equal(ensemble_status(e, 1).durable_index, 3);
    ensemble_sync(e, 1);
    assert_int_equal(ensemble_status(e, 1).last_index, 4);
    assert_int_equal(e->node[1].entry_count, 4);
    assert_int_equal(e->node[1].entries[2]->term, 3);
    assert_int_equal(e->node[1].entries[3]->term, 5);
    assert_acknowledged(e, 4);
    ensemble_free(e);
}

static void an_older_and_shorter_append_removes_nothing(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    assert_int_equal(append(e, 2, 2, 2, TERMS(2, 2, 2, 0), 1), ERR_OK);
    ensemble_sync(e, 1);
    ensemble_drop_all(e, 0, 0);
    assert_int_equal(append(e, 2, 2, 2, TERMS(2, 0), 1), ERR_OK); /* reordered by the network */
    assert_int_equal(ensemble_status(e, 1).last_index, 5);
    assert_int_equal(ensemble_status(e, 1).durable_index, 5);
    assert_null(e->node[1].saves);
    assert_acknowledged(e, 5);
    ensemble_free(e);
}

static void what_an_older_leader_sent_is_not_acknowledged_to_the_new_one(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    assert_int_equal(append(e, 2, 2, 2, TERMS(2, 2, 0), 1), ERR_OK);
    /* Entries 3 and 4 are on their way to the disk. The next leader's log ends with 2. */
    assert_int_equal(append(e, 3, 2, 2, TERMS(0), 1), ERR_OK);
    ensemble_sync(e, 1);
    assert_int_equal(ensemble_status(e, 1).durable_index, 4);
    assert_acknowledged(e, 2);
    ensemble_free(e);
}

static void a_save_that_was_overtaken_does_not_count_for_what_replaced_it(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    assert_int_equal(append(e, 3, 2, 2, TERMS(3, 3, 0), 1), ERR_OK); /* save: term; entries */
    assert_int_equal(append(e, 4, 2, 2, TERMS(4, 0), 1), ERR_OK);
    assert_int_equal(append(e, 5, 2, 2, TERMS(3, 3, 0), 1), ERR_OK); /* the first ones again: ABA */
    ensemble_drop_all(e, 0, 0);
    assert_true(ensemble_sync_one(e, 1));
    assert_int_equal(e->node[1].entry_count, 4);
    assert_int_equal(ensemble_status(e, 1).durable_index, 2);
    assert_int_equal(answer(e).log_index, UINT64_MAX);
    ensemble_sync(e, 1);
    assert_int_equal(ensemble_status(e, 1).durable_index, 4);
    assert_acknowledged(e, 4);
    ensemble_free(e);
}

static void a_truncation_waits_until_the_saves_before_it_are_done(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    assert_int_equal(append(e, 2, 2, 2, TERMS(2, 2, 0), 1), ERR_OK);
    size_t saved = e->node[1].saved_entries;
    assert_int_equal(append(e, 3, 2, 2, TERMS(3, 0), 1), ERR_OK);
    assert_int_equal(e->node[1].saved_entries, saved);
    assert_true(ensemble_sync_one(e, 1));
    assert_int_equal(e->node[1].saved_entries, saved + 1);
    ensemble_sync(e, 1);
    assert_int_equal(e->node[1].entry_count, 3);
    assert_int_equal(e->node[1].entries[2]->term, 3);
    ensemble_free(e);
}

static void entries_on_disk_that_fit_are_not_written_again(void **state)
{
    struct ensemble *e = follower(TERMS(2, 2, 3, 3, 0));

    (void)state;
    /* Their terms are not known at first; an entry behind them that fits says that all fit. */
    assert_int_equal(append(e, 4, 1, 1, TERMS(2, 2, 3, 3, 4, 0), 1), ERR_OK);
    assert_int_equal(e->node[1].fetches, 0);
    assert_int_equal(e->node[1].saved_entries, 1);
    ensemble_sync(e, 1);
    assert_acknowledged(e, 6);
    ensemble_free(e);
}

static void terms_on_disk_are_read_before_anything_is_removed(void **state)
{
    struct ensemble *e = follower(TERMS(2, 2, 3, 3, 0));

    (void)state;
    assert_int_equal(append(e, 4, 1, 1, TERMS(2, 2, 0), 1), ERR_OK);
    assert_int_equal(e->node[1].fetches, 1);
    ensemble_sync(e, 1);
    assert_int_equal(ensemble_status(e, 1).last_index, 5);
    assert_int_equal(append(e, 4, 1, 1, TERMS(2, 2, 0), 1), ERR_OK); /* sent again */
    assert_acknowledged(e, 3);
    assert_int_equal(ensemble_status(e, 1).last_index, 5);
    assert_int_equal(append(e, 4, 3, 2, TERMS(4, 0), 1), ERR_OK);
    ensemble_sync(e, 1);
    assert_int_equal(e->node[1].entry_count, 4);
    assert_int_equal(e->node[1].entries[3]->term, 4);
    assert_int_equal(e->node[1].fetches, 1);
    ensemble_free(e);
}

static void many_entries_on_disk_are_read_in_parts(void **state)
{
    struct ensemble *e = follower(TERMS(2, 2, 3, 3, 3, 4, 4, 5, 5, 5, 5, 6, 0));

    (void)state;
    assert_int_equal(append(e, 7, 9, 4, TERMS(7, 0), 1), ERR_OK);
    assert_int_equal(e->node[1].fetches, 3); /* of four entries each */
    assert_int_equal(append(e, 7, 9, 4, TERMS(7, 0), 1), ERR_OK);
    ensemble_sync(e, 1);
    assert_rejected(e, 9, 8, 4);
    ensemble_free(e);
}

static void the_commit_index_goes_no_further_than_what_the_append_covers(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    assert_int_equal(append(e, 3, 2, 2, TERMS(3, 3, 3, 0), 1), ERR_OK);
    ensemble_sync(e, 1);
    /* The next leader has committed up to 5, but of other entries. */
    assert_int_equal(append(e, 5, 2, 2, TERMS(0), 5), ERR_OK);
    assert_int_equal(ensemble_status(e, 1).commit_index, 2);
    assert_int_equal(append(e, 5, 2, 2, TERMS(4, 0), 5), ERR_OK);
    assert_int_equal(ensemble_status(e, 1).commit_index, 3);
    ensemble_free(e);
}

static void only_durable_entries_are_applied(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    assert_int_equal(append(e, 2, 2, 2, TERMS(2, 2, 0), 4), ERR_OK);
    assert_int_equal(ensemble_status(e, 1).commit_index, 4);
    assert_int_equal(e->node[1].applied_index, 2);
    ensemble_sync(e, 1);
    assert_int_equal(e->node[1].applied_index, 4);
    ensemble_free(e);
}

static void what_contradicts_a_committed_entry_is_refused(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    assert_int_equal(append(e, 2, 2, 2, TERMS(2, 2, 0), 4), ERR_OK);
    ensemble_sync(e, 1);
    assert_int_equal(append(e, 3, 2, 2, TERMS(3, 0), 3), ERR_MALFORMED);
    assert_int_equal(ensemble_entry_term(e, 1, 3), 2);
    assert_int_equal(ensemble_status(e, 1).last_index, 4);
    ensemble_free(e);
}

static void malformed_messages_are_refused_and_change_nothing(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));
    struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_COMMAND, "x", 1);
    struct raft_message good = {.type = RAFT_MSG_APPEND,
                                .from = 2,
                                .to = 1,
                                .term = 9,
                                .log_index = 2,
                                .log_term = 2,
                                .entries = &entry,
                                .entry_count = 1};
    struct raft_message bad = good;

    (void)state;
    entry->index = 4; /* a hole */
    entry->term = 3;
    assert_int_equal(ensemble_message(e, bad), ERR_MALFORMED);
    entry->index = 3;
    entry->term = 1; /* older than the one before */
    assert_int_equal(ensemble_message(e, bad), ERR_MALFORMED);
    entry->term = 10; /* newer than the leader */
    assert_int_equal(ensemble_message(e, bad), ERR_MALFORMED);
    entry->term = 3;
    entry->type = 7;
    assert_int_equal(ensemble_message(e, bad), ERR_MALFORMED);
    entry->type = RAFT_ENTRY_MEMBERS; /* "x" is no list of members */
    assert_int_equal(ensemble_message(e, bad), ERR_MALFORMED);
    entry->type = RAFT_ENTRY_COMMAND;
    bad.type = RAFT_MSG_HEARTBEAT; /* with entries */
    assert_int_equal(ensemble_message(e, bad), ERR_MALFORMED);
    bad = good;
    bad.from = 1;
    assert_int_equal(ensemble_message(e, bad), ERR_MALFORMED);
    bad = good;
    bad.term = 0;
    assert_int_equal(ensemble_message(e, bad), ERR_MALFORMED);
    bad = good;
    bad.log_index = UINT64_MAX;
    assert_int_equal(ensemble_message(e, bad), ERR_MALFORMED);
    assert_int_equal(ensemble_status(e, 1).term, 2);
    assert_int_equal(ensemble_status(e, 1).last_index, 2);
    assert_int_equal(ensemble_message(e, good), ERR_OK);
    raft_entry_unref(entry);
    ensemble_free(e);
}

static void an_entry_that_is_already_there_is_not_saved_twice(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(append(e, 2, 2, 2, TERMS(2, 2, 0), 1), ERR_OK);
    }
    assert_int_equal(e->node[1].saved_entries, 2);
    ensemble_sync(e, 1);
    assert_acknowledged(e, 4);
    ensemble_free(e);
}

static void a_heartbeat_with_a_round_is_answered_and_one_without_is_not(void **state)
{
    struct ensemble *e = follower(TERMS(2, 0));
    struct raft_message heartbeat = {
        .type = RAFT_MSG_HEARTBEAT, .from = 2, .to = 1, .term = 2, .commit = 2};

    (void)state;
    assert_int_equal(ensemble_message(e, heartbeat), ERR_OK);
    assert_int_equal(ensemble_packet_count(e), 0);
    assert_int_equal(e->node[1].applied_index, 2);
    heartbeat.context = 17;
    assert_int_equal(ensemble_message(e, heartbeat), ERR_OK);
    assert_int_equal(ensemble_find(e, RAFT_MSG_HEARTBEAT_ANSWER, 2)->message.context, 17);
    ensemble_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follower_rejects_entries_of_an_older_term),
        cmocka_unit_test(follower_acknowledges_only_what_is_durable),
        cmocka_unit_test(follower_rejects_a_gap_and_says_where_it_ends),
        cmocka_unit_test(follower_rejects_a_place_of_another_term_with_a_hint_that_skips_it),
        cmocka_unit_test(follower_replaces_a_suffix_that_conflicts_in_one_save),
        cmocka_unit_test(an_older_and_shorter_append_removes_nothing),
        cmocka_unit_test(what_an_older_leader_sent_is_not_acknowledged_to_the_new_one),
        cmocka_unit_test(a_save_that_was_overtaken_does_not_count_for_what_replaced_it),
        cmocka_unit_test(a_truncation_waits_until_the_saves_before_it_are_done),
        cmocka_unit_test(entries_on_disk_that_fit_are_not_written_again),
        cmocka_unit_test(terms_on_disk_are_read_before_anything_is_removed),
        cmocka_unit_test(many_entries_on_disk_are_read_in_parts),
        cmocka_unit_test(the_commit_index_goes_no_further_than_what_the_append_covers),
        cmocka_unit_test(only_durable_entries_are_applied),
        cmocka_unit_test(what_contradicts_a_committed_entry_is_refused),
        cmocka_unit_test(malformed_messages_are_refused_and_change_nothing),
        cmocka_unit_test(an_entry_that_is_already_there_is_not_saved_twice),
        cmocka_unit_test(a_heartbeat_with_a_round_is_answered_and_one_without_is_not),
    };

    return cmocka_run_group_tests_name("raft follow", tests, NULL, NULL);
}
