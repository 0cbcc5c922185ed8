/* SPDX-License-Identifier: Apache-2.0
 *
 * What replicas must agree on beside the log: the verdict over digests that differ (CONSENSUS 32),
 * and the level of features that all members know (CONSENSUS 33).
 *
 * The replica under test is number 1 of an ensemble whose core does not run; the test says which
 * entries it has applied and what the others tell. Its tree is empty, so its own digest is the same
 * at every index: OWN here, and a digest of others that differs is any other number.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/logging.h"
#include "common/version.h"
#include "server/replica_internal.h"
#include "tests/lib/kv_memory.h"

#define OTHER        77u
#define ANOTHER      78u
#define PEERS        4u
#define INCARNATION  100u /* of replica 1; one more for each of the next */
#define TIME_TO_TELL 1000u

struct fixture {
    struct replica *replica;
    struct omap *rows;
    uint64_t own;      /* digest */
    size_t fail_count; /* how often the replica said that it must stop */
    enum err fail_err;
    size_t told_count[PEERS + 1]; /* messages with digests, by replica */
    uint64_t told_first;          /* index in the newest of them */
    size_t told_len;
    uint64_t now_ms;
};

/* ---- the environment ---- */

static void send_peer(void *context, uint64_t replica, const Wire__PeerMessage *message)
{
    struct fixture *fixture = context;

    assert_int_equal(message->body_case, WIRE__PEER_MESSAGE__BODY_STATE_DIGESTS);
    assert_int_equal(message->state_digests->n_index, message->state_digests->n_digest);
    assert_in_range(replica, 2, PEERS);
    fixture->told_count[replica]++;
    fixture->told_len = message->state_digests->n_index;
    fixture->told_first = message->state_digests->index[0];
}

static void dial(void *context, const struct raft_members *members)
{
    (void)context;
    (void)members;
}

static void failed(void *context, enum err err, const char *what)
{
    struct fixture *fixture = context;

    (void)what;
    fixture->fail_count++;
    fixture->fail_err = err;
}

/* ---- the fixture ---- */

static void meet_as(struct fixture *fixture, uint64_t id, uint64_t incarnation, uint32_t level)
{
    struct replica_hello hello = {
        .id = id,
        .incarnation = incarnation,
        .ensemble_len = ENSEMBLE_ID_BYTES,
        .feature_level = level,
    };

    assert_int_equal(replica_peer_hello(fixture->replica, &hello), ERR_OK);
}

static void meet(struct fixture *fixture, uint64_t id, uint32_t level)
{
    meet_as(fixture, id, INCARNATION + id - 1, level);
}

static struct replica *make_replica(struct fixture *fixture, size_t count, size_t voters,
                                    uint32_t level)
{
    struct kv kv = kv_memory(fixture->rows);
    struct replica_env env = {
        .context = fixture, .peer_send = send_peer, .members = dial, .fail = failed};
    struct replica_options options = {
        .identity = {.id = 1, .incarnation = INCARNATION, .formed = true},
        .feature_level = level,
    };

    for (size_t i = 0; i < count; i++) {
        options.identity.founders.member[options.identity.founders.count++] =
            (struct raft_member){.id = i + 1, .incarnation = INCARNATION + i, .voter = i < voters};
    }
    options.configured = options.identity.founders;
    return replica_new(&options, &env, &kv, 0);
}

/* So many members, of which the first ones are voters; all have met and know all levels. */
static struct fixture *fixture_of(void **state, size_t count, size_t voters)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);

    assert_non_null(fixture);
    logging_set_level(LOG_LEVEL_ERROR);
    fixture->rows = omap_new();
    assert_non_null(fixture->rows);
    fixture->replica = make_replica(fixture, count, voters, FEATURE_LEVEL_MAX);
    assert_non_null(fixture->replica);
    fixture->own = tree_digest(fixture->replica->tree);
    assert_true(fixture->own != OTHER && fixture->own != ANOTHER);
    for (uint64_t id = 2; id <= count; id++) {
        meet(fixture, id, FEATURE_LEVEL_MAX);
    }
    *state = fixture;
    return fixture;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    replica_free(fixture->replica);
    omap_free(fixture->rows);
    free(fixture);
    return 0;
}

static void apply(struct fixture *fixture, uint64_t index)
{
    fixture->replica->applied_index = index;
    agreement_applied(fixture->replica);
}

static enum err tell_many(struct fixture *fixture, uint64_t id, uint64_t *index, size_t index_count,
                          uint64_t *digest, size_t digest_count)
{
    Wire__StateDigests digests = WIRE__STATE_DIGESTS__INIT;

    digests.n_index = index_count;
    digests.index = index;
    digests.n_digest = digest_count;
    digests.digest = digest;
    return agreement_take_digests(fixture->replica, peers_find(fixture->replica, id), &digests);
}

static void tell(struct fixture *fixture, uint64_t id, uint64_t index, uint64_t digest)
{
    assert_int_equal(tell_many(fixture, id, &index, 1, &digest, 1), ERR_OK);
}

static enum peer_alarm alarm_of(struct fixture *fixture, uint64_t id)
{
    return peers_find(fixture->replica, id)->alarm;
}

/* ---- digests: who is right ---- */

static void a_replica_that_differs_from_the_majority_stops(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    apply(fixture, DIGEST_EVERY);
    tell(fixture, 2, DIGEST_EVERY, OTHER);
    assert_int_equal(fixture->fail_count, 0); /* One against one. */
    tell(fixture, 3, DIGEST_EVERY, OTHER);
    assert_true(fixture->fail_count > 0);
    assert_int_equal(fixture->fail_err, ERR_CORRUPT);
}

static void a_replica_that_comes_later_to_the_entry_than_the_majority_stops_there(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    tell(fixture, 2, DIGEST_EVERY, OTHER);
    tell(fixture, 3, DIGEST_EVERY, OTHER);
    apply(fixture, DIGEST_EVERY - 1);
    assert_int_equal(fixture->fail_count, 0);
    apply(fixture, DIGEST_EVERY);
    assert_true(fixture->fail_count > 0);
}

static void replicas_that_agree_say_nothing(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    tell(fixture, 2, DIGEST_EVERY, fixture->own);
    apply(fixture, DIGEST_EVERY);
    tell(fixture, 3, DIGEST_EVERY, fixture->own);
    assert_int_equal(fixture->fail_count, 0);
    assert_int_equal(alarm_of(fixture, 2), PEER_AGREES);
    assert_int_equal(alarm_of(fixture, 3), PEER_AGREES);
}

static void digests_of_different_entries_are_not_compared(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    apply(fixture, DIGEST_EVERY);
    tell(fixture, 2, 2u * DIGEST_EVERY, OTHER);
    tell(fixture, 3, 3u * DIGEST_EVERY, OTHER);
    /* The same place in the ring as the own one. */
    tell(fixture, 2, (uint64_t)(DIGEST_NOTES + 1) * DIGEST_EVERY, OTHER);
    tell(fixture, 3, (uint64_t)(DIGEST_NOTES + 1) * DIGEST_EVERY, OTHER);
    assert_int_equal(fixture->fail_count, 0);
    assert_int_equal(alarm_of(fixture, 2), PEER_AGREES);
}

static void of_two_replicas_that_differ_none_stops(void **state)
{
    struct fixture *fixture = fixture_of(state, 2, 2);

    apply(fixture, DIGEST_EVERY);
    tell(fixture, 2, DIGEST_EVERY, OTHER);
    assert_int_equal(fixture->fail_count, 0);
    assert_int_equal(alarm_of(fixture, 2), PEER_DIFFERS);
}

static void of_three_replicas_that_all_differ_none_stops(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    apply(fixture, DIGEST_EVERY);
    tell(fixture, 2, DIGEST_EVERY, OTHER);
    tell(fixture, 3, DIGEST_EVERY, ANOTHER);
    assert_int_equal(fixture->fail_count, 0);
    assert_int_equal(alarm_of(fixture, 2), PEER_DIFFERS);
    assert_int_equal(alarm_of(fixture, 3), PEER_DIFFERS);
}

static void of_four_replicas_two_are_no_majority(void **state)
{
    struct fixture *fixture = fixture_of(state, 4, 4);

    apply(fixture, DIGEST_EVERY);
    tell(fixture, 2, DIGEST_EVERY, OTHER);
    tell(fixture, 3, DIGEST_EVERY, OTHER);
    assert_int_equal(fixture->fail_count, 0);
    tell(fixture, 4, DIGEST_EVERY, OTHER);
    assert_true(fixture->fail_count > 0);
}

static void the_one_that_differs_is_named_when_it_tells_last(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    apply(fixture, DIGEST_EVERY);
    tell(fixture, 3, DIGEST_EVERY, fixture->own);
    tell(fixture, 2, DIGEST_EVERY, OTHER);
    assert_int_equal(alarm_of(fixture, 2), PEER_DIVERGED);
    assert_int_equal(alarm_of(fixture, 3), PEER_AGREES);
    assert_int_equal(fixture->fail_count, 0);
}

/* Before the third has told, nobody can say who is right; after that it must be said. */
static void the_one_that_differs_is_named_when_it_tells_first(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    apply(fixture, DIGEST_EVERY);
    tell(fixture, 2, DIGEST_EVERY, OTHER);
    assert_int_equal(alarm_of(fixture, 2), PEER_DIFFERS);
    tell(fixture, 3, DIGEST_EVERY, fixture->own);
    assert_int_equal(alarm_of(fixture, 2), PEER_DIVERGED);
    assert_int_equal(fixture->fail_count, 0);
}

static void a_learner_that_differs_makes_no_majority(void **state)
{
    struct fixture *fixture = fixture_of(state, 4, 2);

    apply(fixture, DIGEST_EVERY);
    tell(fixture, 3, DIGEST_EVERY, OTHER);
    tell(fixture, 4, DIGEST_EVERY, OTHER);
    assert_int_equal(fixture->fail_count, 0);
    tell(fixture, 2, DIGEST_EVERY, fixture->own);
    assert_int_equal(alarm_of(fixture, 3), PEER_DIVERGED);
    assert_int_equal(alarm_of(fixture, 4), PEER_DIVERGED);
}

static void a_stranger_to_the_members_is_not_heard(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    apply(fixture, DIGEST_EVERY);
    meet_as(fixture, 2, 999, FEATURE_LEVEL_MAX);
    meet_as(fixture, 3, 998, FEATURE_LEVEL_MAX);
    tell(fixture, 2, DIGEST_EVERY, OTHER);
    tell(fixture, 3, DIGEST_EVERY, OTHER);
    assert_int_equal(fixture->fail_count, 0);
}

/* CONSENSUS 0: what was said belongs to the incarnation that said it. */
static void what_a_replica_told_in_a_former_life_is_forgotten(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    apply(fixture, DIGEST_EVERY);
    tell(fixture, 2, DIGEST_EVERY, OTHER);
    meet_as(fixture, 2, 999, FEATURE_LEVEL_MAX);
    assert_int_equal(alarm_of(fixture, 2), PEER_AGREES);
    tell(fixture, 3, DIGEST_EVERY, OTHER);
    assert_int_equal(fixture->fail_count, 0);
}

static void a_connection_that_begins_again_forgets_nothing(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    apply(fixture, DIGEST_EVERY);
    tell(fixture, 2, DIGEST_EVERY, OTHER);
    meet(fixture, 2, FEATURE_LEVEL_MAX);
    tell(fixture, 3, DIGEST_EVERY, OTHER);
    assert_true(fixture->fail_count > 0);
}

static void digests_that_nobody_could_have_told_are_malformed(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);
    uint64_t index[DIGEST_NOTES + 1];
    uint64_t digest[DIGEST_NOTES + 1];

    for (size_t i = 0; i < DIGEST_NOTES + 1; i++) {
        index[i] = (i + 1) * DIGEST_EVERY;
        digest[i] = fixture->own;
    }
    assert_int_equal(tell_many(fixture, 2, index, DIGEST_NOTES, digest, DIGEST_NOTES), ERR_OK);
    assert_int_equal(tell_many(fixture, 2, index, DIGEST_NOTES + 1, digest, DIGEST_NOTES + 1),
                     ERR_MALFORMED);
    assert_int_equal(tell_many(fixture, 2, index, 2, digest, 1), ERR_MALFORMED);
    index[0] = DIGEST_EVERY + 1;
    assert_int_equal(tell_many(fixture, 2, index, 1, digest, 1), ERR_MALFORMED);
}

/* Index 0 marks a place of the ring that is empty: told, it would differ from our empty one. */
static void a_digest_of_entry_0_is_malformed_and_no_verdict(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);
    uint64_t index = 0;
    uint64_t digest = OTHER;

    assert_int_equal(tell_many(fixture, 2, &index, 1, &digest, 1), ERR_MALFORMED);
    assert_int_equal(tell_many(fixture, 3, &index, 1, &digest, 1), ERR_MALFORMED);
    assert_int_equal(fixture->fail_count, 0);
    assert_int_equal(alarm_of(fixture, 2), PEER_AGREES);
}

/* ---- digests: to whom they are told ---- */

static void raise_tree(struct fixture *fixture, uint32_t level)
{
    Wire__Command command = WIRE__COMMAND__INIT;
    Wire__FeatureLevelOp raise = WIRE__FEATURE_LEVEL_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    struct buffer bytes = {0};
    struct tree_entry entry = {.index = 1, .term = 1, .time_ns = 1, .command = true};
    struct tree_result result;

    raise.level = level;
    op.body_case = WIRE__OP__BODY_FEATURE_LEVEL;
    op.feature_level = &raise;
    command.op = &op;
    assert_int_equal(wire_pack(&command.base, &bytes), ERR_OK);
    entry.data = bytes.data;
    entry.len = bytes.len;
    tree_apply(fixture->replica->tree, &entry, &result);
    assert_int_equal(result.err, ERR_OK);
    buffer_done(&bytes);
}

static void pass(struct fixture *fixture, uint64_t ms)
{
    fixture->now_ms += ms;
    fixture->replica->now_ms = fixture->now_ms;
    agreement_turn(fixture->replica);
}

static void a_digest_is_told_once_to_each_other_replica(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    raise_tree(fixture, FEATURE_DIGESTS);
    apply(fixture, DIGEST_EVERY);
    pass(fixture, TIME_TO_TELL);
    pass(fixture, TIME_TO_TELL);
    assert_int_equal(fixture->told_count[2], 1);
    assert_int_equal(fixture->told_count[3], 1);
    apply(fixture, 2u * DIGEST_EVERY);
    pass(fixture, TIME_TO_TELL - 1);
    assert_int_equal(fixture->told_count[2], 1);
    pass(fixture, 1);
    assert_int_equal(fixture->told_count[2], 2);
    assert_int_equal(fixture->told_len, 1);
    assert_int_equal(fixture->told_first, 2u * DIGEST_EVERY);
}

static void no_digest_is_told_below_its_level(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    apply(fixture, DIGEST_EVERY);
    pass(fixture, TIME_TO_TELL);
    assert_int_equal(fixture->told_count[2], 0);
    raise_tree(fixture, FEATURE_DIGESTS);
    pass(fixture, TIME_TO_TELL);
    assert_int_equal(fixture->told_count[2], 1);
}

/* A guest or a newcomer may be older than the members of the ensemble. */
static void no_digest_is_told_to_a_replica_that_does_not_know_them(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    raise_tree(fixture, FEATURE_DIGESTS);
    meet(fixture, 2, FEATURE_BASE);
    apply(fixture, DIGEST_EVERY);
    pass(fixture, TIME_TO_TELL);
    assert_int_equal(fixture->told_count[2], 0);
    assert_int_equal(fixture->told_count[3], 1);
}

/* ---- levels ---- */

static void the_level_of_all_is_that_of_the_lowest(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    assert_int_equal(agreement_common_level(fixture->replica), FEATURE_LEVEL_MAX);
    meet(fixture, 2, FEATURE_BASE);
    assert_int_equal(agreement_common_level(fixture->replica), FEATURE_BASE);
    meet(fixture, 2, FEATURE_LEVEL_MAX + 5); /* From the future. */
    assert_int_equal(agreement_common_level(fixture->replica), FEATURE_LEVEL_MAX);
    fixture->replica->feature_level = FEATURE_BASE; /* Held back by its configuration. */
    assert_int_equal(agreement_common_level(fixture->replica), FEATURE_BASE);
}

static void a_replica_that_says_nothing_of_levels_knows_the_first(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    meet(fixture, 3, 0);
    assert_true(agreement_common_level(fixture->replica) <= FEATURE_BASE);
}

static void a_learner_holds_the_level_too(void **state)
{
    struct fixture *fixture = fixture_of(state, 4, 3);

    meet(fixture, 4, FEATURE_BASE);
    assert_int_equal(agreement_common_level(fixture->replica), FEATURE_BASE);
}

static void a_member_that_was_not_met_holds_the_level(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    peers_find(fixture->replica, 3)->known = false;
    assert_int_equal(agreement_common_level(fixture->replica), 0);
}

static void a_stranger_under_the_id_of_a_member_does_not_speak_for_it(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);

    meet_as(fixture, 3, 999, FEATURE_LEVEL_MAX);
    assert_int_equal(agreement_common_level(fixture->replica), 0);
}

static void who_does_not_know_the_level_of_its_tree_does_not_start(void **state)
{
    struct fixture *fixture = fixture_of(state, 3, 3);
    struct log_state log_state = {.first_index = 1, .last_index = 1, .last_term = 1};

    raise_tree(fixture, FEATURE_DIGESTS);
    assert_true(agreement_knows_level(fixture->replica));
    replica_free(fixture->replica);
    logging_set_level(LOG_LEVEL_ERROR);
    fixture->replica = make_replica(fixture, 3, 3, FEATURE_BASE);
    assert_non_null(fixture->replica);
    assert_int_equal(replica_start(fixture->replica, &log_state, 0), ERR_UNSUPPORTED);
}

#define test(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_replica_that_differs_from_the_majority_stops),
        test(a_replica_that_comes_later_to_the_entry_than_the_majority_stops_there),
        test(replicas_that_agree_say_nothing),
        test(digests_of_different_entries_are_not_compared),
        test(of_two_replicas_that_differ_none_stops),
        test(of_three_replicas_that_all_differ_none_stops),
        test(of_four_replicas_two_are_no_majority),
        test(the_one_that_differs_is_named_when_it_tells_last),
        test(the_one_that_differs_is_named_when_it_tells_first),
        test(a_learner_that_differs_makes_no_majority),
        test(a_stranger_to_the_members_is_not_heard),
        test(what_a_replica_told_in_a_former_life_is_forgotten),
        test(a_connection_that_begins_again_forgets_nothing),
        test(digests_that_nobody_could_have_told_are_malformed),
        test(a_digest_of_entry_0_is_malformed_and_no_verdict),
        test(a_digest_is_told_once_to_each_other_replica),
        test(no_digest_is_told_below_its_level),
        test(no_digest_is_told_to_a_replica_that_does_not_know_them),
        test(the_level_of_all_is_that_of_the_lowest),
        test(a_replica_that_says_nothing_of_levels_knows_the_first),
        test(a_learner_holds_the_level_too),
        test(a_member_that_was_not_met_holds_the_level),
        test(a_stranger_under_the_id_of_a_member_does_not_speak_for_it),
        test(who_does_not_know_the_level_of_its_tree_does_not_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
