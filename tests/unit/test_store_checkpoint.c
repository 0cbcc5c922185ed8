/* SPDX-License-Identifier: Apache-2.0
 *
 * Checkpoints of the store: each holds the rows of the moment at which it was begun, whatever is
 * applied while it is made; and what is durable of the rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/limits.h"
#include "common/parse.h"
#include "tests/lib/store_fixture.h"

#define ROUNDS 100u

struct state {
    struct store_fixture fixture;
    struct omap *model;
    char folder[96]; /* of the checkpoint */
    uint64_t now_ms;
    unsigned seed;
};

static int setup(void **out)
{
    struct state *state = calloc(1, sizeof(*state));

    assert_non_null(state);
    store_fixture_init(&state->fixture);
    store_fixture_open(&state->fixture);
    state->model = omap_new();
    assert_non_null(state->model);
    (void)snprintf(state->folder, sizeof(state->folder), "%s.checkpoint", state->fixture.folder);
    state->seed = 1;
    *out = state;
    return 0;
}

static int teardown(void **out)
{
    struct state *state = *out;

    if (access(state->folder, F_OK) == 0) {
        store_fixture_remove_folder(state->folder);
    }
    store_fixture_done(&state->fixture);
    omap_free(state->model);
    free(state);
    return 0;
}

static void change(struct state *state, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        store_fixture_change(&state->fixture, state->model, &state->seed);
    }
}

/* Waits for the end of the checkpoint. */
static enum err wait_for_checkpoint(struct state *state)
{
    enum err err = ERR_INTERNAL;

    while (!store_checkpoint_poll(state->fixture.store, &err)) {
        store_fixture_wait(&state->fixture);
    }
    return err;
}

/* Opens the checkpoint as a store and compares it. */
static void check_checkpoint(struct state *state, const struct omap *model)
{
    struct store_fixture copy;

    store_fixture_init_at(&copy, state->folder);
    store_fixture_open(&copy);
    store_fixture_check(&copy, model);
    store_fixture_close(&copy);
    store_fixture_done(&copy);
}

static void checkpoint_holds_the_rows_of_its_moment(void **arg)
{
    struct state *state = *arg;
    const char *given = getenv("SEED");
    uint64_t seed = 27182;
    unsigned beside = 0;

    if (given != NULL) {
        assert_int_equal(parse_u64(given, 0, UINT32_MAX, &seed), ERR_OK);
    }
    printf("# seed %u\n", (unsigned)seed);
    state->seed = (unsigned)seed;
    for (unsigned round = 0; round < ROUNDS; round++) {
        enum err err = ERR_OK;
        /* Perhaps with an overlay on its way, taken back or not, and with an empty active one. */
        unsigned before = (unsigned)rand_r(&state->seed) % 40;
        for (unsigned i = 0; i < before; i++) {
            change(state, (unsigned)rand_r(&state->seed) % 20);
            state->now_ms += (unsigned)rand_r(&state->seed) % OVERLAY_FREEZE_MS;
            store_poll(state->fixture.store, state->now_ms, 0);
        }
        change(state, (unsigned)rand_r(&state->seed) % 3 * 10);
        struct omap *then = store_fixture_copy(state->model);
        assert_int_equal(store_checkpoint_start(state->fixture.store, state->folder), ERR_OK);
        while (!store_checkpoint_poll(state->fixture.store, &err)) {
            change(state, 5);
            beside++;
            state->now_ms += 20;
            store_poll(state->fixture.store, state->now_ms, beside * MIB);
            store_fixture_check(&state->fixture, state->model);
        }
        assert_int_equal(err, ERR_OK);
        change(state, 5);
        check_checkpoint(state, then);
        omap_free(then);
        store_fixture_check(&state->fixture, state->model);
    }
    assert_true(beside > ROUNDS); /* rows did change while checkpoints were made */
}

static void checkpoint_waits_behind_an_overlay_on_its_way(void **arg)
{
    struct state *state = *arg;
    struct store *store = state->fixture.store;
    struct omap *then = NULL;

    change(state, 50);
    store_poll(store, 0, 0);
    store_poll(store, OVERLAY_FREEZE_MS, 0); /* on its way */
    change(state, 50);
    then = store_fixture_copy(state->model);
    assert_int_equal(store_checkpoint_start(store, state->folder), ERR_OK);
    change(state, 50); /* now there may be three maps */
    store_fixture_check(&state->fixture, state->model);
    assert_int_equal(wait_for_checkpoint(state), ERR_OK);
    store_fixture_check(&state->fixture, state->model);
    check_checkpoint(state, then);
    omap_free(then);
}

static void checkpoint_of_an_empty_store_is_an_empty_store(void **arg)
{
    struct state *state = *arg;

    assert_int_equal(store_checkpoint_start(state->fixture.store, state->folder), ERR_OK);
    assert_int_equal(wait_for_checkpoint(state), ERR_OK);
    check_checkpoint(state, state->model);
}

static void only_one_checkpoint_is_made_at_a_time(void **arg)
{
    struct state *state = *arg;
    struct store *store = state->fixture.store;
    enum err err = ERR_INTERNAL;

    assert_false(store_checkpoint_poll(store, &err));
    change(state, 5);
    assert_int_equal(store_checkpoint_start(store, state->folder), ERR_OK);
    assert_int_equal(store_checkpoint_start(store, "/tmp/another"), ERR_BUSY);
    assert_int_equal(wait_for_checkpoint(state), ERR_OK);
    assert_false(store_checkpoint_poll(store, &err));
    store_fixture_remove_folder(state->folder);
    change(state, 5);
    assert_int_equal(store_checkpoint_start(store, state->folder), ERR_OK);
    assert_int_equal(wait_for_checkpoint(state), ERR_OK);
    check_checkpoint(state, state->model);
}

static void checkpoint_that_fails_leaves_nothing(void **arg)
{
    struct state *state = *arg;
    struct store *store = state->fixture.store;
    char path[128];
    FILE *file = NULL;

    /* What is there already is not ours to remove. */
    assert_int_equal(mkdir(state->folder, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/kept", state->folder);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    change(state, 5);
    assert_int_equal(store_checkpoint_start(store, state->folder), ERR_OK);
    assert_int_equal(wait_for_checkpoint(state), ERR_EXISTS);
    assert_int_equal(access(path, F_OK), 0);
    (void)snprintf(path, sizeof(path), "%s/missing/checkpoint", state->folder);
    assert_int_equal(store_checkpoint_start(store, path), ERR_OK);
    change(state, 5);
    assert_int_equal(wait_for_checkpoint(state), ERR_IO);
    (void)snprintf(path, sizeof(path), "%s/missing", state->folder);
    assert_int_not_equal(access(path, F_OK), 0);
    store_fixture_check(&state->fixture, state->model);
    store_fixture_close(&state->fixture);
    store_fixture_open(&state->fixture);
    store_fixture_check(&state->fixture, state->model);
}

/* Values that lie in blob files, rewritten until old files are garbage, while checkpoints are made. */
static void large_rows_that_are_rewritten_are_whole_in_a_checkpoint(void **arg)
{
    static char value[16 * KIB];
    struct state *state = *arg;
    struct store *store = state->fixture.store;
    enum err err = ERR_OK;

    for (unsigned round = 0; round < 8; round++) {
        for (unsigned i = 0; i < 100; i++) {
            char key[16];
            (void)snprintf(key, sizeof(key), "large-%u", i);
            memset(value, 'a' + (int)((round + i) % 26), sizeof(value) - 1);
            store_fixture_put(&state->fixture, key, value);
            assert_int_equal(omap_put(state->model, key, strlen(key), value, sizeof(value) - 1),
                             ERR_OK);
        }
        struct omap *then = store_fixture_copy(state->model);
        assert_int_equal(store_checkpoint_start(store, state->folder), ERR_OK);
        while (!store_checkpoint_poll(store, &err)) {
            state->now_ms += OVERLAY_FREEZE_MS;
            store_poll(store, state->now_ms, 0);
            store_fixture_wait(&state->fixture);
        }
        assert_int_equal(err, ERR_OK);
        check_checkpoint(state, then);
        omap_free(then);
    }
    store_fixture_check(&state->fixture, state->model);
}

static void what_an_ended_process_left_is_in_nobodys_way(void **arg)
{
    struct state *state = *arg;
    char path[128];
    FILE *file = NULL;

    (void)snprintf(path, sizeof(path), "%s.tmp", state->folder);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s.tmp/CURRENT", state->folder);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    change(state, 20);
    assert_int_equal(store_checkpoint_start(state->fixture.store, state->folder), ERR_OK);
    assert_int_equal(wait_for_checkpoint(state), ERR_OK);
    assert_int_not_equal(access(path, F_OK), 0);
    check_checkpoint(state, state->model);
}

static void close_in_the_middle_of_a_checkpoint_loses_no_row(void **arg)
{
    struct state *state = *arg;

    for (unsigned round = 0; round < 10; round++) {
        change(state, 20);
        store_poll(state->fixture.store, 0, 0);
        if (round % 2 == 0) {
            store_poll(state->fixture.store, OVERLAY_FREEZE_MS, 0);
        }
        change(state, 20);
        assert_int_equal(store_checkpoint_start(state->fixture.store, state->folder), ERR_OK);
        change(state, 20);
        store_fixture_close(&state->fixture);
        store_fixture_open(&state->fixture);
        store_fixture_check(&state->fixture, state->model);
        if (access(state->folder, F_OK) == 0) {
            store_fixture_remove_folder(state->folder);
        }
    }
}

static bool has_persisted(struct state *state, const char *key, const char *expected)
{
    struct buffer value = {.data = NULL};
    bool found = store_get_persisted(state->fixture.store, key, strlen(key), &value);

    if (found) {
        assert_int_equal(value.len, strlen(expected));
        assert_memory_equal(value.data, expected, value.len);
    }
    buffer_done(&value);
    return found;
}

static void persisted_rows_are_those_of_the_last_flush(void **arg)
{
    struct state *state = *arg;
    struct store_fixture *fixture = &state->fixture;

    store_fixture_put(fixture, "applied", "1");
    assert_false(has_persisted(state, "applied", ""));
    store_fixture_drain(fixture, &state->now_ms);
    assert_string_equal(store_fixture_get(fixture, "applied"), "1");
    assert_false(has_persisted(state, "applied", "")); /* it is in a memtable */
    assert_int_equal(store_checkpoint_start(fixture->store, state->folder), ERR_OK);
    assert_int_equal(wait_for_checkpoint(state), ERR_OK);
    assert_true(has_persisted(state, "applied", "1")); /* a checkpoint flushes */
    store_fixture_put(fixture, "applied", "2");
    store_fixture_drain(fixture, &state->now_ms);
    assert_true(has_persisted(state, "applied", "1"));
    store_fixture_close(fixture);
    store_fixture_open(fixture);
    assert_true(has_persisted(state, "applied", "2"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(checkpoint_holds_the_rows_of_its_moment),
        TEST(checkpoint_waits_behind_an_overlay_on_its_way),
        TEST(checkpoint_of_an_empty_store_is_an_empty_store),
        TEST(only_one_checkpoint_is_made_at_a_time),
        TEST(checkpoint_that_fails_leaves_nothing),
        TEST(large_rows_that_are_rewritten_are_whole_in_a_checkpoint),
        TEST(what_an_ended_process_left_is_in_nobodys_way),
        TEST(close_in_the_middle_of_a_checkpoint_loses_no_row),
        TEST(persisted_rows_are_those_of_the_last_flush),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
