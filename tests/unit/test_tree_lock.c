/* SPDX-License-Identifier: Apache-2.0
 *
 * Tests of the tree: locks, those that wait for them, and what the end of a session does to both.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/version.h"
#include "tests/lib/tree_fixture.h"

#define SESSIONS 3u

/* The sessions of a test, with the number of the newest command. */
struct party {
    struct tree_fixture *fixture;
    uint64_t session[SESSIONS];
    uint64_t sequence;
};

static struct party party_of(void **state)
{
    struct party party = {.fixture = *state};

    assert_int_equal(fixture_raise(*state, FEATURE_FILES), ERR_OK);
    for (uint8_t i = 0; i < SESSIONS; i++) {
        fixture_open(*state, (uint8_t)(100 + i));
        party.session[i] = party.fixture->session;
    }
    return party;
}

static enum err apply_lock(struct party *party, unsigned who, Wire__LockOp *lock)
{
    Wire__Op op = WIRE__OP__INIT;

    party->fixture->session = party->session[who];
    party->fixture->epoch = 1;
    op.body_case = WIRE__OP__BODY_LOCK;
    op.lock = lock;
    return fixture_apply_as(party->fixture, ++party->sequence, &op);
}

/* An flock of the root by owner 1 of a session. */
static enum err flock(struct party *party, unsigned who, enum lock_type type, bool wait)
{
    Wire__LockOp lock = WIRE__LOCK_OP__INIT;

    lock.space = WIRE__LOCK_SPACE__LOCK_SPACE_FLOCK;
    lock.owner = 1;
    lock.type = (Wire__LockType)type;
    lock.end = UINT64_MAX;
    lock.wait = wait;
    lock.pid = 40 + who;
    return apply_lock(party, who, &lock);
}

static enum err range(struct party *party, unsigned who, uint64_t owner, enum lock_type type,
                      uint64_t start, uint64_t end, bool wait)
{
    Wire__LockOp lock = WIRE__LOCK_OP__INIT;

    lock.space = WIRE__LOCK_SPACE__LOCK_SPACE_RANGE;
    lock.owner = owner;
    lock.type = (Wire__LockType)type;
    lock.start = start;
    lock.end = end;
    lock.wait = wait;
    return apply_lock(party, who, &lock);
}

static enum err cancel(struct party *party, unsigned who, enum lock_space space, uint64_t ticket)
{
    Wire__LockOp lock = WIRE__LOCK_OP__INIT;

    lock.space = (Wire__LockSpace)space;
    lock.cancel = ticket;
    return apply_lock(party, who, &lock);
}

/* The ticket of a lock that has to be waited for. */
static uint64_t waiting(struct party *party, unsigned who, enum lock_type type)
{
    assert_int_equal(flock(party, who, type, true), ERR_OK);
    assert_true(party->fixture->result.queued);
    assert_true(tree_lock_waits(party->fixture->tree, 0, LOCK_FLOCK, party->fixture->result.zxid));
    return party->fixture->result.zxid;
}

static void expect_grants(const struct party *party, const uint64_t *tickets, size_t count)
{
    const struct tree_result *result = &party->fixture->result;

    assert_int_equal(result->grant_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(result->grants[i].ticket, tickets[i]);
        assert_int_equal(result->grants[i].ino, 0);
    }
}

/* Whether another owner than one that holds nothing could have this lock. */
static bool is_free(struct party *party, enum lock_space space, enum lock_type type, uint64_t start,
                    uint64_t end)
{
    struct tree_lock wanted = {.type = type, .start = start, .end = end};
    struct tree_lock found;

    return !tree_lock_conflict(party->fixture->tree, 0, space, &wanted, &found);
}

static void readers_share_and_a_writer_is_alone(void **state)
{
    struct party party = party_of(state);

    assert_int_equal(flock(&party, 0, LOCK_READ, false), ERR_OK);
    assert_int_equal(flock(&party, 1, LOCK_READ, false), ERR_OK);
    assert_int_equal(flock(&party, 2, LOCK_WRITE, false), ERR_LOCKED);
    assert_int_equal(flock(&party, 0, LOCK_NONE, false), ERR_OK);
    assert_int_equal(flock(&party, 2, LOCK_WRITE, false), ERR_LOCKED);
    assert_int_equal(flock(&party, 1, LOCK_NONE, false), ERR_OK);
    assert_int_equal(flock(&party, 2, LOCK_WRITE, false), ERR_OK);
    assert_int_equal(flock(&party, 0, LOCK_READ, false), ERR_LOCKED);
}

static void flocks_and_ranges_do_not_meet(void **state)
{
    struct party party = party_of(state);

    assert_int_equal(flock(&party, 0, LOCK_WRITE, false), ERR_OK);
    assert_int_equal(range(&party, 1, 1, LOCK_WRITE, 0, UINT64_MAX, false), ERR_OK);
}

static void those_that_wait_are_served_in_order(void **state)
{
    struct party party = party_of(state);
    uint64_t readers[2];
    uint64_t writer = 0;

    assert_int_equal(flock(&party, 0, LOCK_WRITE, false), ERR_OK);
    readers[0] = waiting(&party, 1, LOCK_READ);
    assert_int_equal(range(&party, 1, 1, LOCK_WRITE, 0, 0, false), ERR_OK); /* not in the way */
    readers[1] = waiting(&party, 2, LOCK_READ);
    assert_int_equal(flock(&party, 0, LOCK_NONE, false), ERR_OK);
    expect_grants(&party, readers, 2);
    assert_false(tree_lock_waits(party.fixture->tree, 0, LOCK_FLOCK, readers[0]));
    assert_int_equal(party.fixture->result.grants[0].session, party.session[1]);

    writer = waiting(&party, 0, LOCK_WRITE);
    assert_int_equal(flock(&party, 1, LOCK_NONE, false), ERR_OK);
    expect_grants(&party, NULL, 0);
    /* A reader does not overtake the writer that waits. */
    assert_int_equal(flock(&party, 1, LOCK_READ, false), ERR_LOCKED);
    assert_int_equal(flock(&party, 2, LOCK_NONE, false), ERR_OK);
    expect_grants(&party, &writer, 1);
    assert_int_equal(tree_lock_fence(party.fixture->tree, 0), party.fixture->result.zxid);
}

static void who_holds_a_lock_is_not_put_behind_those_that_wait_for_it(void **state)
{
    struct party party = party_of(state);

    assert_int_equal(range(&party, 0, 1, LOCK_READ, 0, 9, false), ERR_OK);
    assert_int_equal(range(&party, 1, 1, LOCK_WRITE, 0, 9, true), ERR_OK);
    assert_true(party.fixture->result.queued);
    assert_int_equal(range(&party, 0, 1, LOCK_WRITE, 0, 9, false), ERR_OK);
    assert_false(is_free(&party, LOCK_RANGE, LOCK_READ, 0, 0));
}

static void an_flock_that_cannot_be_turned_is_lost(void **state)
{
    struct party party = party_of(state);

    assert_int_equal(flock(&party, 0, LOCK_READ, false), ERR_OK);
    assert_int_equal(flock(&party, 1, LOCK_READ, false), ERR_OK);
    assert_int_equal(flock(&party, 0, LOCK_WRITE, false), ERR_LOCKED);
    assert_int_equal(flock(&party, 1, LOCK_NONE, false), ERR_OK);
    assert_true(is_free(&party, LOCK_FLOCK, LOCK_WRITE, 0, UINT64_MAX));
    assert_int_equal(flock(&party, 1, LOCK_WRITE, false), ERR_OK);
    assert_int_equal(flock(&party, 1, LOCK_READ, false), ERR_OK);
    assert_true(is_free(&party, LOCK_FLOCK, LOCK_READ, 0, UINT64_MAX));
}

static void ranges_are_parted_and_joined(void **state)
{
    struct party party = party_of(state);
    struct tree_lock wanted = {.type = LOCK_READ, .start = 0, .end = UINT64_MAX};
    struct tree_lock found;

    assert_int_equal(range(&party, 0, 1, LOCK_WRITE, 0, 99, false), ERR_OK);
    assert_int_equal(range(&party, 0, 1, LOCK_NONE, 40, 59, false), ERR_OK);
    assert_true(is_free(&party, LOCK_RANGE, LOCK_WRITE, 40, 59));
    assert_false(is_free(&party, LOCK_RANGE, LOCK_READ, 39, 39));
    assert_false(is_free(&party, LOCK_RANGE, LOCK_READ, 60, 60));
    assert_int_equal(range(&party, 0, 1, LOCK_READ, 10, 19, false), ERR_OK);
    assert_true(is_free(&party, LOCK_RANGE, LOCK_READ, 10, 19));
    assert_int_equal(range(&party, 0, 1, LOCK_WRITE, 10, 59, false), ERR_OK);
    assert_true(tree_lock_conflict(party.fixture->tree, 0, LOCK_RANGE, &wanted, &found));
    assert_int_equal(found.start, 0);
    assert_int_equal(found.end, 99);
    assert_int_equal(found.session, party.session[0]);
    assert_int_equal(range(&party, 0, 1, LOCK_NONE, 0, UINT64_MAX, false), ERR_OK);
    assert_true(is_free(&party, LOCK_RANGE, LOCK_WRITE, 0, UINT64_MAX));
}

static void those_that_would_wait_for_each_other_are_told(void **state)
{
    struct party party = party_of(state);

    assert_int_equal(range(&party, 0, 1, LOCK_WRITE, 0, 0, false), ERR_OK);
    assert_int_equal(range(&party, 1, 1, LOCK_WRITE, 1, 1, false), ERR_OK);
    assert_int_equal(range(&party, 2, 7, LOCK_WRITE, 2, 2, false), ERR_OK);
    assert_int_equal(range(&party, 0, 1, LOCK_WRITE, 1, 1, true), ERR_OK);
    assert_int_equal(range(&party, 1, 1, LOCK_WRITE, 2, 2, true), ERR_OK);
    assert_int_equal(range(&party, 2, 7, LOCK_READ, 0, 0, true), ERR_DEADLOCK);
    assert_int_equal(range(&party, 2, 8, LOCK_READ, 0, 0, true), ERR_OK); /* another owner */
    assert_true(party.fixture->result.queued);
}

static void who_gives_up_no_longer_waits(void **state)
{
    struct party party = party_of(state);
    uint64_t writer = 0;
    uint64_t reader = 0;

    assert_int_equal(flock(&party, 0, LOCK_READ, false), ERR_OK);
    writer = waiting(&party, 1, LOCK_WRITE);
    reader = waiting(&party, 2, LOCK_READ);
    assert_int_equal(cancel(&party, 2, LOCK_FLOCK, writer), ERR_OK); /* not its own: nothing */
    assert_true(tree_lock_waits(party.fixture->tree, 0, LOCK_FLOCK, writer));
    assert_int_equal(cancel(&party, 1, LOCK_FLOCK, writer), ERR_CANCELED);
    expect_grants(&party, &reader, 1);
    assert_int_equal(cancel(&party, 2, LOCK_FLOCK, reader), ERR_OK);
    assert_int_equal(flock(&party, 0, LOCK_NONE, false), ERR_OK);
    assert_false(is_free(&party, LOCK_FLOCK, LOCK_WRITE, 0, UINT64_MAX));
}

static void an_answer_that_is_given_again_says_whether_it_still_waits(void **state)
{
    struct party party = party_of(state);
    uint64_t ticket = 0;

    assert_int_equal(flock(&party, 0, LOCK_WRITE, false), ERR_OK);
    ticket = waiting(&party, 1, LOCK_WRITE);
    party.sequence--;
    assert_int_equal(flock(&party, 1, LOCK_WRITE, true), ERR_OK);
    assert_true(party.fixture->result.replayed);
    assert_true(party.fixture->result.queued);
    assert_int_equal(party.fixture->result.zxid, ticket);
    assert_int_equal(flock(&party, 0, LOCK_NONE, false), ERR_OK);
    party.sequence -= 2;
    assert_int_equal(flock(&party, 1, LOCK_WRITE, true), ERR_OK);
    assert_true(party.fixture->result.replayed);
    assert_false(party.fixture->result.queued);
}

static void the_end_of_a_session_gives_its_locks_on(void **state)
{
    struct party party = party_of(state);
    uint64_t ticket = 0;

    assert_int_equal(flock(&party, 0, LOCK_WRITE, false), ERR_OK);
    for (uint64_t i = 0; i < 50; i++) {
        assert_int_equal(range(&party, 0, i, LOCK_WRITE, 2 * i, 2 * i, false), ERR_OK);
    }
    (void)waiting(&party, 1, LOCK_WRITE);
    ticket = waiting(&party, 2, LOCK_WRITE);
    assert_int_equal(fixture_close(party.fixture, party.session[1], 1), ERR_OK);
    expect_grants(&party, NULL, 0);
    assert_int_equal(fixture_close(party.fixture, party.session[0], 1), ERR_OK);
    expect_grants(&party, &ticket, 1);
    assert_true(is_free(&party, LOCK_RANGE, LOCK_WRITE, 0, UINT64_MAX));
    assert_int_equal(fixture_close(party.fixture, party.session[2], 1), ERR_OK);
    assert_true(is_free(&party, LOCK_FLOCK, LOCK_WRITE, 0, UINT64_MAX));
}

static void a_stranger_locks_what_it_may_read(void **state)
{
    struct party party = party_of(state);
    Wire__LockOp lock = WIRE__LOCK_OP__INIT;

    party.fixture->session = party.session[0];
    party.fixture->epoch = 1;
    party.fixture->sequence = 1000;
    assert_int_equal(fixture_create(party.fixture, "/file", NODE_FILE, "x"), ERR_OK);
    lock.ino = fixture_attr(party.fixture, "/file").ino;
    lock.space = WIRE__LOCK_SPACE__LOCK_SPACE_RANGE;
    lock.type = WIRE__LOCK_TYPE__LOCK_TYPE_READ;
    Wire__SetattrOp mode = WIRE__SETATTR_OP__INIT;
    mode.set_mode = true;
    mode.mode = 0600;
    assert_int_equal(fixture_setattr(party.fixture, "/file", &mode), ERR_OK);
    fixture_become(party.fixture, 1000, 1000);
    assert_int_equal(apply_lock(&party, 1, &lock), ERR_ACCESS);
    fixture_become_trusted(party.fixture);
    assert_int_equal(apply_lock(&party, 1, &lock), ERR_OK);
    lock.ino = 1000000;
    assert_int_equal(apply_lock(&party, 1, &lock), ERR_STALE);
}

static void malformed_locks_are_refused(void **state)
{
    struct party party = party_of(state);
    Wire__LockOp lock = WIRE__LOCK_OP__INIT;

    assert_int_equal(apply_lock(&party, 0, &lock), ERR_MALFORMED); /* no space */
    assert_int_equal(range(&party, 0, 1, LOCK_READ, 5, 4, false), ERR_MALFORMED);
    assert_int_equal(range(&party, 0, 1, LOCK_NONE, 0, 4, true), ERR_MALFORMED);
    lock.space = WIRE__LOCK_SPACE__LOCK_SPACE_FLOCK;
    lock.type = WIRE__LOCK_TYPE__LOCK_TYPE_READ;
    assert_int_equal(apply_lock(&party, 0, &lock), ERR_MALFORMED); /* a part of the node */
    lock.end = UINT64_MAX;
    lock.cancel = 1;
    assert_int_equal(apply_lock(&party, 0, &lock), ERR_MALFORMED);
}

/* ---- against a model: what each owner has of each byte ---- */

#define OWNERS 6u /* two of each session */
#define BYTES  12u
#define WAITS  64u
#define STEPS  20000u

struct model_wait {
    uint64_t ticket;
    unsigned owner;
    enum lock_type type;
    unsigned start;
    unsigned end;
};

struct model {
    enum lock_type held[OWNERS][BYTES];
    struct model_wait waits[WAITS];
    size_t wait_count;
};

static bool model_holds(const struct model *model, unsigned owner)
{
    for (unsigned byte = 0; byte < BYTES; byte++) {
        if (model->held[owner][byte] != LOCK_NONE) {
            return true;
        }
    }
    return false;
}

/* Whether `owner` is in the way of the wait: by what it holds, or by waiting as one of the first
 * `before`. */
static bool model_blocks(const struct model *model, unsigned owner, const struct model_wait *wait,
                         size_t before)
{
    if (owner == wait->owner) {
        return false;
    }
    for (unsigned byte = wait->start; byte <= wait->end; byte++) {
        if (model->held[owner][byte] == LOCK_WRITE ||
            (model->held[owner][byte] == LOCK_READ && wait->type == LOCK_WRITE)) {
            return true;
        }
    }
    for (size_t i = 0; i < before && !model_holds(model, wait->owner); i++) {
        const struct model_wait *other = &model->waits[i];
        bool is_apart = other->start > wait->end || other->end < wait->start;
        if (other->owner == owner && !is_apart &&
            (other->type == LOCK_WRITE || wait->type == LOCK_WRITE)) {
            return true;
        }
    }
    return false;
}

static bool model_is_blocked(const struct model *model, const struct model_wait *wait,
                             size_t before)
{
    for (unsigned owner = 0; owner < OWNERS; owner++) {
        if (model_blocks(model, owner, wait, before)) {
            return true;
        }
    }
    return false;
}

static void model_take(struct model *model, const struct model_wait *wait)
{
    for (unsigned byte = wait->start; byte <= wait->end; byte++) {
        model->held[wait->owner][byte] = wait->type;
    }
}

/* Checks the grants of the newest entry, and does them. */
static void model_grant(struct model *model, const struct tree_result *result)
{
    size_t granted = 0;

    for (size_t i = 0; i < model->wait_count;) {
        struct model_wait wait = model->waits[i];
        if (model_is_blocked(model, &wait, i)) {
            i++;
            continue;
        }
        memmove(&model->waits[i], &model->waits[i + 1], (model->wait_count - i - 1) * sizeof(wait));
        model->wait_count--;
        model_take(model, &wait);
        assert_true(granted < result->grant_count);
        assert_int_equal(result->grants[granted].ticket, wait.ticket);
        granted++;
        i = 0;
    }
    assert_int_equal(granted, result->grant_count);
}

/* Whether `from` waits for `to`, over whatever others. */
static bool model_waits_for(const struct model *model, unsigned from, unsigned to)
{
    bool reached[OWNERS] = {false};
    bool is_more = true;

    reached[from] = true;
    while (is_more) {
        is_more = false;
        for (size_t i = 0; i < model->wait_count; i++) {
            const struct model_wait *wait = &model->waits[i];
            for (unsigned owner = 0; owner < OWNERS && reached[wait->owner]; owner++) {
                if (!reached[owner] && model_blocks(model, owner, wait, i)) {
                    reached[owner] = true;
                    is_more = true;
                }
            }
        }
    }
    return from != to && reached[to];
}

static bool model_is_deadlock(const struct model *model, const struct model_wait *wanted)
{
    for (unsigned owner = 0; owner < OWNERS; owner++) {
        if (model_blocks(model, owner, wanted, model->wait_count) &&
            model_waits_for(model, owner, wanted->owner)) {
            return true;
        }
    }
    return false;
}

static void model_check(const struct model *model, struct party *party)
{
    for (unsigned byte = 0; byte < BYTES; byte++) {
        bool is_read = false;
        bool is_written = false;
        for (unsigned owner = 0; owner < OWNERS; owner++) {
            is_read = is_read || model->held[owner][byte] != LOCK_NONE;
            is_written = is_written || model->held[owner][byte] == LOCK_WRITE;
        }
        assert_int_equal(is_free(party, LOCK_RANGE, LOCK_READ, byte, byte), !is_written);
        assert_int_equal(is_free(party, LOCK_RANGE, LOCK_WRITE, byte, byte), !is_read);
    }
}

static void model_step(struct model *model, struct party *party, uint64_t random)
{
    struct model_wait wanted = {
        .owner = (unsigned)(random % OWNERS),
        .type = (enum lock_type)((random >> 8) % 3),
        .start = (unsigned)((random >> 16) % BYTES),
    };
    bool wait = wanted.type != LOCK_NONE && (random >> 24) % 2 == 0 && model->wait_count < WAITS;
    enum err expected = ERR_OK;
    bool is_queued = false;

    wanted.end = wanted.start + (unsigned)((random >> 32) % (BYTES - wanted.start));
    if (wanted.type == LOCK_NONE && (random >> 40) % 2 == 0) {
        wanted.start = 0;
        wanted.end = BYTES - 1;
    }
    if (wanted.type != LOCK_NONE && model_is_blocked(model, &wanted, model->wait_count)) {
        expected = !wait ? ERR_LOCKED : model_is_deadlock(model, &wanted) ? ERR_DEADLOCK : ERR_OK;
        is_queued = expected == ERR_OK;
    } else {
        model_take(model, &wanted);
    }
    assert_int_equal(range(party, wanted.owner / 2, wanted.owner % 2, wanted.type, wanted.start,
                           wanted.end, wait),
                     expected);
    assert_int_equal(party->fixture->result.queued, is_queued);
    if (is_queued) {
        wanted.ticket = party->fixture->result.zxid;
        model->waits[model->wait_count++] = wanted;
    }
    model_grant(model, &party->fixture->result);
}

static void random_locks_are_as_the_model_says(void **state)
{
    struct party party = party_of(state);
    struct model model = {0};
    uint64_t random = 4242;

    for (unsigned i = 0; i < STEPS; i++) {
        model_step(&model, &party, fixture_random(&random));
        model_check(&model, &party);
        if (i % 1000 == 0) {
            fixture_reopen(party.fixture);
        }
    }
    for (unsigned i = 0; i < SESSIONS; i++) {
        assert_int_equal(fixture_close(party.fixture, party.session[i], 1), ERR_OK);
    }
    assert_true(is_free(&party, LOCK_RANGE, LOCK_WRITE, 0, UINT64_MAX));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(readers_share_and_a_writer_is_alone),
        TEST(flocks_and_ranges_do_not_meet),
        TEST(those_that_wait_are_served_in_order),
        TEST(who_holds_a_lock_is_not_put_behind_those_that_wait_for_it),
        TEST(an_flock_that_cannot_be_turned_is_lost),
        TEST(ranges_are_parted_and_joined),
        TEST(those_that_would_wait_for_each_other_are_told),
        TEST(who_gives_up_no_longer_waits),
        TEST(an_answer_that_is_given_again_says_whether_it_still_waits),
        TEST(the_end_of_a_session_gives_its_locks_on),
        TEST(a_stranger_locks_what_it_may_read),
        TEST(malformed_locks_are_refused),
        TEST(random_locks_are_as_the_model_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
