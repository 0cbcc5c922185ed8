/* SPDX-License-Identifier: Apache-2.0
 *
 * Members: their bytes, majorities, and when a change of them is allowed and takes effect
 * (dissertation 4.1, 4.3; CONSENSUS 14). Also what the core does when there is no memory.
 *
 * link: -Wl,--wrap=realloc -Wl,--wrap=calloc -Wl,--wrap=malloc
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "server/raft/raft_internal.h"
#include "tests/lib/raft_ensemble.h"

/* Allocations until one fails; SIZE_MAX: none does. */
static size_t allocations_left = SIZE_MAX;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool may_allocate(void)
{
    if (allocations_left == SIZE_MAX) {
        return true;
    }
    if (allocations_left == 0) {
        return false;
    }
    allocations_left--;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return may_allocate() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return may_allocate() ? __real_calloc(count, size) : NULL;
}

void *__wrap_realloc(void *old, size_t size)
{
    return may_allocate() ? __real_realloc(old, size) : NULL;
}

static struct raft_members some_members(size_t count)
{
    struct raft_members members = {.count = count};

    for (size_t i = 0; i < count; i++) {
        members.member[i] = (struct raft_member){
            .id = i + 1, .incarnation = 100 + i, .voter = true, .address = "host:2888"};
    }
    return members;
}

static void members_come_back_as_they_were(void **state)
{
    struct raft_members members = some_members(MEMBERS_MAX);
    struct raft_members back;
    struct buffer bytes = {0};

    (void)state;
    members.member[2].voter = false;
    members.member[2].was_voter = true;
    members.member[6].joining = true;
    members.member[6].leaving = true;
    members.member[3].address[0] = 0;
    memset(members.member[4].address, 'a', ADDRESS_BYTES_MAX);
    members.member[5].id = 6;
    members.member[15].id = UINT64_MAX;
    assert_int_equal(raft_members_encode(&members, &bytes), ERR_OK);
    assert_int_equal(raft_members_decode(bytes.data, bytes.len, &back), ERR_OK);
    assert_int_equal(back.count, MEMBERS_MAX);
    for (size_t i = 0; i < MEMBERS_MAX; i++) {
        assert_int_equal(back.member[i].id, members.member[i].id);
        assert_int_equal(back.member[i].incarnation, members.member[i].incarnation);
        assert_int_equal(back.member[i].voter, members.member[i].voter);
        assert_int_equal(back.member[i].was_voter, members.member[i].was_voter);
        assert_int_equal(back.member[i].leaving, members.member[i].leaving);
        assert_int_equal(back.member[i].joining, members.member[i].joining);
        assert_string_equal(back.member[i].address, members.member[i].address);
    }
    assert_ptr_equal(raft_members_find(&back, 3), &back.member[2]);
    assert_null(raft_members_find(&back, 99));
    buffer_done(&bytes);
}

static void malformed_members_are_refused(void **state)
{
    struct raft_members members = some_members(3);
    struct raft_members back;
    struct buffer bytes = {0};

    (void)state;
    assert_int_equal(raft_members_encode(&members, &bytes), ERR_OK);
    for (size_t len = 0; len < bytes.len; len++) {
        uint8_t *copy = malloc(len + 1); /* so that the sanitizer sees a byte too far */
        memcpy(copy, bytes.data, len);
        assert_int_equal(raft_members_decode(copy, len, &back), ERR_MALFORMED);
        free(copy);
    }
    assert_int_equal(buffer_append_u8(&bytes, 0), ERR_OK);
    assert_int_equal(raft_members_decode(bytes.data, bytes.len, &back), ERR_MALFORMED);
    bytes.len--;
    static const struct {
        size_t at;
        uint8_t value;
    } bad[] = {
        {0, 1},   /* another format */
        {8, 2},   /* a last id below the last one */
        {9, 0},   /* nobody */
        {9, 17},  /* too many */
        {9, 4},   /* more than there are */
        {17, 0},  /* id 0 */
        {17, 2},  /* the id of the next one */
        {26, 16}, /* an unknown flag */
        {28, 0},  /* NUL in an address */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t good = bytes.data[bad[i].at];
        bytes.data[bad[i].at] = bad[i].value;
        assert_int_equal(raft_members_decode(bytes.data, bytes.len, &back), ERR_MALFORMED);
        bytes.data[bad[i].at] = good;
    }
    assert_int_equal(raft_members_decode(bytes.data, bytes.len, &back), ERR_OK);
    buffer_done(&bytes);
}

static void a_majority_is_more_than_half(void **state)
{
    (void)state;
    assert_int_equal(raft_quorum((uint64_t[]){0}, 0), 0);
    assert_int_equal(raft_quorum((uint64_t[]){7}, 1), 7);
    assert_int_equal(raft_quorum((uint64_t[]){7, 9}, 2), 7);
    assert_int_equal(raft_quorum((uint64_t[]){1, 9, 7}, 3), 7);
    assert_int_equal(raft_quorum((uint64_t[]){9, 1, 7, 8}, 4), 7);
    assert_int_equal(raft_quorum((uint64_t[]){5, 4, 1, 2, 3}, 5), 3);
}

static void wanted_members_have_voters_of_known_incarnations(void **state)
{
    struct raft_members now = some_members(3);
    struct raft_members wanted = some_members(5);

    (void)state;
    assert_true(raft_members_can_follow(&now, &wanted));
    wanted.member[0].incarnation = 999; /* out with one, in with another, under one id */
    assert_false(raft_members_can_follow(&now, &wanted));
    wanted.member[0].voter = false; /* the old one still votes in the joint members */
    assert_false(raft_members_can_follow(&now, &wanted));
    now.member[0].voter = false; /* a learner's place may be taken */
    assert_true(raft_members_can_follow(&now, &wanted));
    wanted.member[0].incarnation = 0;
    assert_true(raft_members_can_follow(&now, &wanted));
    wanted.member[0].voter = true;
    assert_false(raft_members_can_follow(&now, &wanted));
    wanted = some_members(1);
    wanted.member[0].voter = false;
    assert_false(raft_members_can_follow(&now, &wanted)); /* nobody would be left */
    wanted = some_members(3);
    wanted.member[1].was_voter = true;
    assert_false(raft_members_can_follow(&now, &wanted));
    wanted = some_members(3);
    wanted.member[1].id = 1;
    assert_false(raft_members_can_follow(&now, &wanted));
    wanted.count = 0;
    assert_false(raft_members_can_follow(&now, &wanted));
}

static void joint_members_lie_between_two_sets_of_voters(void **state)
{
    static const char *const flags[] = {"wl", "w", "v", "v", "v", "v"};
    struct raft_members now = some_members(3);
    struct raft_members wanted = some_members(6);
    struct raft_members joint;
    struct raft_members final;

    (void)state;
    now.member[2].voter = false;
    wanted.member[1].voter = false;
    memmove(&wanted.member[0], &wanted.member[1], 5 * sizeof(wanted.member[0]));
    wanted.count = 5; /* 1 leaves */
    assert_int_equal(raft_members_between(&now, &wanted, &joint), ERR_OK);
    assert_true(raft_members_is_joint(&joint));
    assert_int_equal(joint.count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(joint.member[i].id, i + 1);
        assert_int_equal(joint.member[i].voter, strchr(flags[i], 'v') != NULL);
        assert_int_equal(joint.member[i].was_voter, strchr(flags[i], 'w') != NULL);
        assert_int_equal(joint.member[i].leaving, strchr(flags[i], 'l') != NULL);
    }
    final = raft_members_final(&joint);
    assert_int_equal(final.count, 5);
    assert_memory_equal(final.member, wanted.member, 5 * sizeof(wanted.member[0]));
    /* The voters stay: nothing lies between. */
    wanted = now;
    wanted.member[2].incarnation = 0;
    wanted.last_id = 1;
    now.last_id = 9;
    assert_int_equal(wanted.count, now.count);
    assert_int_equal(raft_members_between(&now, &wanted, &joint), ERR_OK);
    assert_false(raft_members_is_joint(&joint));
    assert_int_equal(joint.last_id, 9);
}

static void a_learner_is_promoted_by_an_entry(void **state)
{
    struct ensemble *e = ensemble_new(4, 1, 1);
    struct raft_members members = *raft_members(e->node[1].raft);

    (void)state;
    ensemble_elect(e, 1);
    members.member[3].voter = true;
    assert_int_equal(ensemble_change(e, 1, &members), ERR_OK);
    /* It counts from the moment when it is in the log. */
    assert_true(raft_members(e->node[1].raft)->member[3].voter);
    assert_int_equal(ensemble_change(e, 1, &members), ERR_LIMIT); /* one at a time */
    ensemble_settle(e);
    for (uint64_t id = 1; id <= 4; id++) {
        assert_true(raft_members(e->node[id].raft)->member[3].voter);
    }
    ensemble_crash(e, 2, 0);
    assert_int_equal(ensemble_propose(e, 1, "x"), ERR_OK);
    ensemble_settle(e);
    assert_int_equal(ensemble_status(e, 1).commit_index, 5);
    ensemble_crash(e, 4, 0); /* two of four are no majority */
    assert_int_equal(ensemble_propose(e, 1, "y"), ERR_OK);
    ensemble_settle(e);
    assert_int_equal(ensemble_status(e, 1).commit_index, 5);
    ensemble_free(e);
}

static void members_change_only_after_the_no_op_of_the_term(void **state)
{
    struct ensemble *e = ensemble_new(3, 1, 1);
    struct raft_members members = *raft_members(e->node[1].raft);

    (void)state;
    members.member[2].voter = true;
    ensemble_timeout(e, 1);
    while (ensemble_status(e, 1).role != RAFT_LEADER) {
        ensemble_sync(e, 1);
        ensemble_sync(e, 2);
        ensemble_deliver(e, e->packets);
    }
    assert_int_equal(ensemble_change(e, 1, &members), ERR_LIMIT);
    ensemble_settle(e);
    assert_int_equal(ensemble_change(e, 1, &members), ERR_OK);
    ensemble_free(e);
}

static void members_that_are_truncated_are_forgotten(void **state)
{
    struct ensemble *e = ensemble_new(4, 1, 1);
    struct raft_members members = *raft_members(e->node[1].raft);

    (void)state;
    ensemble_elect(e, 1);
    members.member[3].voter = true;
    assert_int_equal(ensemble_change(e, 1, &members), ERR_OK);
    ensemble_drop_all(e, 0, 0); /* nobody gets it */
    ensemble_sync(e, 1);
    assert_true(raft_members(e->node[1].raft)->member[3].voter);
    (void)ensemble_step(e, 2, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 1});
    (void)ensemble_step(e, 3, (struct raft_event){.type = RAFT_EV_PEER_CLOSED, .peer = 1});
    ensemble_wait(e, 400);
    ensemble_elect(e, 2);
    for (size_t i = 0; i < 3; i++) {
        ensemble_timeout(e, 2);
        ensemble_settle(e);
    }
    assert_int_equal(ensemble_entry_term(e, 1, 3), 3);
    assert_false(raft_members(e->node[1].raft)->member[3].voter);
    ensemble_free(e);
}

/* Failing at every single allocation: the core says so or goes on, and frees all. */
static void without_memory_the_core_says_so(void **state)
{
    struct raft_config config = {.id = 1,
                                 .incarnation = 100,
                                 .seed = 1,
                                 .heartbeat_ms = 50,
                                 .election_min_ms = 300,
                                 .election_max_ms = 600};
    struct raft_start start = {.term = 1, .first_index = 2, .members = some_members(1)};
    bool told = true;

    (void)state;
    for (size_t n = 0; told; n++) {
        assert_true(n < 1000);
        struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_COMMAND, "x", 1);
        struct raft_event events[] = {
            {.type = RAFT_EV_TICK},
            {.type = RAFT_EV_TERM_SAVED, .term = 2},
            {.type = RAFT_EV_READ, .context = 1},
            {.type = RAFT_EV_PROPOSE, .entry = entry},
            {.type = RAFT_EV_LOG_SAVED, .index = 2, .term = 2},
        };
        allocations_left = n;
        struct raft *raft = raft_new(&config, &start);
        told = raft == NULL;
        for (size_t i = 0; i < sizeof(events) / sizeof(events[0]) && !told; i++) {
            told = raft_step(raft, &events[i]) == ERR_MEMORY;
            (void)raft_effects(raft);
            raft_effects_done(raft);
        }
        if (!told) {
            told = raft_step(raft, &events[0]) == ERR_MEMORY; /* raft_effects had none */
        }
        raft_free(raft);
        allocations_left = SIZE_MAX;
        assert_int_equal(entry->references, 1);
        raft_entry_unref(entry);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_back_as_they_were),
        cmocka_unit_test(malformed_members_are_refused),
        cmocka_unit_test(a_majority_is_more_than_half),
        cmocka_unit_test(wanted_members_have_voters_of_known_incarnations),
        cmocka_unit_test(joint_members_lie_between_two_sets_of_voters),
        cmocka_unit_test(a_learner_is_promoted_by_an_entry),
        cmocka_unit_test(members_change_only_after_the_no_op_of_the_term),
        cmocka_unit_test(members_that_are_truncated_are_forgotten),
        cmocka_unit_test(without_memory_the_core_says_so),
    };

    return cmocka_run_group_tests_name("raft members", tests, NULL, NULL);
}
