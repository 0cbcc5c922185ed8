/* SPDX-License-Identifier: Apache-2.0
 *
 * fs/client/watch: what is asked of which replica, and what is handed over when.
 */
#include "tests/lib/client_bench.h"

#include "fs/client/watch.h"

/* What one watch has been given. */
struct seen {
    struct client_watch *watch;
    size_t batches;
    size_t changes;
    uint64_t last_zxid;
    uint32_t last_number;
    size_t gaps;
    uint64_t gap_from;
    uint64_t gap_to;
    size_t tolds;
    uint64_t told_zxid;
    size_t fails;
    enum err err;
    bool end_in_changes;
};

static void on_changes(void *arg, Wire__Change *const *changes, size_t count)
{
    struct seen *seen = arg;
    seen->batches++;
    seen->changes += count;
    seen->last_zxid = changes[count - 1]->zxid;
    seen->last_number = changes[count - 1]->number;
    if (seen->end_in_changes) {
        client_watch_end(seen->watch);
        seen->watch = NULL;
    }
}

static void on_gap(void *arg, uint64_t from, uint64_t to)
{
    struct seen *seen = arg;
    seen->gaps++;
    seen->gap_from = from;
    seen->gap_to = to;
}

static void on_told(void *arg, uint64_t zxid)
{
    struct seen *seen = arg;
    seen->tolds++;
    seen->told_zxid = zxid;
}

static void on_failed(void *arg, enum err err)
{
    struct seen *seen = arg;
    seen->fails++;
    seen->err = err;
}

static void begin(struct bench *bench, struct seen *seen, bool has_since, uint64_t since_zxid)
{
    struct client_watch_options options = {.path = "/a",
                                           .path_len = 2,
                                           .has_since = has_since,
                                           .since_zxid = since_zxid,
                                           .changes = on_changes,
                                           .gap = on_gap,
                                           .told = on_told,
                                           .failed = on_failed,
                                           .arg = seen};
    assert_int_equal(ERR_OK, client_watch(bench->client, &options, &seen->watch));
}

/* Sends changes number first..last of entry `of`; all up to `zxid` has been told then. */
static void send_changes(struct fake_replica *fake, uint64_t of, uint32_t first, uint32_t last,
                         uint64_t zxid)
{
    Wire__Change change[8];
    Wire__Change *pointers[8];
    Wire__WatchChanges changes = WIRE__WATCH_CHANGES__INIT;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;

    for (uint32_t number = first; number <= last; number++) {
        Wire__Change *one = &change[changes.n_changes];
        wire__change__init(one);
        one->zxid = of;
        one->number = number;
        one->kind = WIRE__EVENT_KIND__EVENT_DATA;
        one->path = wire_bytes("/a", 2);
        pointers[changes.n_changes++] = one;
    }
    changes.watch = fake->watch;
    changes.changes = pointers;
    changes.zxid = zxid;
    message.body_case = WIRE__TO_CLIENT__BODY_WATCH_CHANGES;
    message.watch_changes = &changes;
    fake_send(fake, &message);
}

static void send_told(struct fake_replica *fake, uint64_t zxid)
{
    send_changes(fake, 0, 1, 0, zxid);
}

static void send_end(struct fake_replica *fake, enum err err)
{
    Wire__WatchChanges changes = WIRE__WATCH_CHANGES__INIT;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;

    changes.watch = fake->watch;
    changes.err = (int32_t)err;
    message.body_case = WIRE__TO_CLIENT__BODY_WATCH_CHANGES;
    message.watch_changes = &changes;
    fake_send(fake, &message);
}

static void send_gap(struct fake_replica *fake, uint64_t from, uint64_t to)
{
    Wire__WatchChanges changes = WIRE__WATCH_CHANGES__INIT;
    Wire__ToClient message = WIRE__TO_CLIENT__INIT;

    changes.watch = fake->watch;
    changes.gap = true;
    changes.gap_from = from;
    changes.gap_to = to;
    changes.zxid = to;
    message.body_case = WIRE__TO_CLIENT__BODY_WATCH_CHANGES;
    message.watch_changes = &changes;
    fake_send(fake, &message);
}

/* A client without a session, and a watch that the first replica was asked for. */
static struct bench *bench_watching(int fakes, struct seen *seen, bool has_since, uint64_t zxid)
{
    struct bench *bench = bench_new(fakes);
    bench_client(bench, false, NULL);
    begin(bench, seen, has_since, zxid);
    RUN_UNTIL(bench, bench->fake[0].watches == 1);
    return bench;
}

static void bad_paths_are_refused_at_once(void **state)
{
    (void)state;
    struct bench *bench = bench_new(1);
    bench_client(bench, false, NULL);
    struct client_watch_options options = {.path = "a", .path_len = 1};
    struct client_watch *watch = NULL;
    assert_int_equal(ERR_BAD_NAME, client_watch(bench->client, &options, &watch));
    assert_null(watch);
    bench_free(bench);
}

static void nothing_is_asked_for_before_the_owner_is_ready(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct bench *bench = bench_watching(1, &seen, false, 0);
    assert_false(bench->fake[0].watch_has_since);
    send_told(&bench->fake[0], 40);
    RUN_UNTIL(bench, seen.tolds == 1);
    assert_int_equal(40, seen.told_zxid);
    assert_int_equal(40, client_watch_zxid(seen.watch));
    assert_int_equal(0, bench->fake[0].watch_mores);
    client_watch_more(seen.watch);
    client_watch_more(seen.watch);
    RUN_UNTIL(bench, bench->fake[0].watch_mores == 1);
    send_changes(&bench->fake[0], 41, 1, 2, 45);
    RUN_UNTIL(bench, seen.batches == 1);
    assert_int_equal(2, seen.changes);
    assert_int_equal(45, seen.told_zxid);
    send_told(&bench->fake[0], 50);
    RUN_UNTIL(bench, seen.told_zxid == 50);
    assert_int_equal(1, bench->fake[0].watch_mores);
    client_watch_more(seen.watch);
    RUN_UNTIL(bench, bench->fake[0].watch_mores == 2);
    client_watch_end(seen.watch);
    RUN_UNTIL(bench, bench->fake[0].unwatches == 1);
    bench_free(bench);
}

static void the_next_replica_is_asked_from_where_the_stream_stands(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct bench *bench = bench_watching(2, &seen, false, 0);
    send_told(&bench->fake[0], 40);
    client_watch_more(seen.watch);
    RUN_UNTIL(bench, bench->fake[0].watch_mores == 1 && seen.tolds == 1);
    send_changes(&bench->fake[0], 41, 1, 3, 47);
    RUN_UNTIL(bench, seen.batches == 1);
    client_watch_more(seen.watch);
    RUN_UNTIL(bench, bench->fake[0].watch_mores == 2);
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->fake[1].watch_mores == 1);
    assert_int_equal(1, bench->fake[1].watches);
    assert_true(bench->fake[1].watch_has_since);
    assert_int_equal(47, bench->fake[1].watch_zxid);
    assert_int_equal(0, bench->fake[1].watch_skip);
    client_watch_end(seen.watch);
    bench_free(bench);
}

static void a_stream_that_breaks_in_the_middle_of_an_entry_goes_on_there(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct bench *bench = bench_watching(3, &seen, true, 40);
    assert_true(bench->fake[0].watch_has_since);
    assert_int_equal(40, bench->fake[0].watch_zxid);
    client_watch_more(seen.watch);
    RUN_UNTIL(bench, bench->fake[0].watch_mores == 1);
    send_changes(&bench->fake[0], 42, 1, 5, 41);
    RUN_UNTIL(bench, seen.batches == 1);
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->fake[1].watches == 1);
    assert_int_equal(41, bench->fake[1].watch_zxid);
    assert_int_equal(5, bench->fake[1].watch_skip);
    /* That the new replica stands there too takes nothing away. */
    send_told(&bench->fake[1], 41);
    RUN_UNTIL(bench, seen.tolds == 2);
    fake_break(&bench->fake[1]);
    RUN_UNTIL(bench, bench->fake[2].watches == 1);
    assert_int_equal(41, bench->fake[2].watch_zxid);
    assert_int_equal(5, bench->fake[2].watch_skip);
    client_watch_end(seen.watch);
    bench_free(bench);
}

static void a_gap_is_told_and_the_stream_goes_on_behind_it(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct bench *bench = bench_watching(2, &seen, true, 10);
    client_watch_more(seen.watch);
    RUN_UNTIL(bench, bench->fake[0].watch_mores == 1);
    send_gap(&bench->fake[0], 11, 30);
    RUN_UNTIL(bench, seen.gaps == 1);
    assert_int_equal(11, seen.gap_from);
    assert_int_equal(30, seen.gap_to);
    assert_int_equal(30, client_watch_zxid(seen.watch));
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->fake[1].watches == 1);
    assert_int_equal(30, bench->fake[1].watch_zxid);
    assert_int_equal(0, bench->fake[1].watch_mores); /* The owner is not ready again. */
    client_watch_end(seen.watch);
    bench_free(bench);
}

static void reads_wait_for_the_state_that_the_stream_has_told(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct bench *bench = bench_watching(1, &seen, true, 4000);
    send_told(&bench->fake[0], 4000); /* Only what the owner gave: it may never be. */
    RUN_UNTIL(bench, seen.tolds == 1);
    bench_read(bench, 0);
    RUN_UNTIL(bench, bench->fake[0].request_count == 1);
    assert_true(bench->fake[0].request[0].zxid_seen < 4000);
    client_watch_more(seen.watch);
    RUN_UNTIL(bench, bench->fake[0].watch_mores == 1);
    send_changes(&bench->fake[0], 4001, 1, 1, 4001);
    RUN_UNTIL(bench, seen.batches == 1);
    bench_read(bench, 0);
    RUN_UNTIL(bench, bench->fake[0].request_count == 2);
    assert_int_equal(4001, bench->fake[0].request[1].zxid_seen);
    RUN_UNTIL(bench, bench->ended == 2);
    client_watch_end(seen.watch);
    bench_free(bench);
}

static void a_watch_may_be_ended_by_its_own_callback(void **state)
{
    (void)state;
    struct seen seen = {.end_in_changes = true};
    struct seen other = {0};
    struct bench *bench = bench_watching(1, &seen, true, 1);
    client_watch_more(seen.watch);
    RUN_UNTIL(bench, bench->fake[0].watch_mores == 1);
    send_changes(&bench->fake[0], 2, 1, 1, 2);
    send_changes(&bench->fake[0], 3, 1, 1, 3); /* On its way when the first one ended it. */
    RUN_UNTIL(bench, bench->fake[0].unwatches == 1);
    begin(bench, &other, false, 0);
    RUN_UNTIL(bench, bench->fake[0].watches == 2);
    assert_int_equal(1, seen.batches);
    assert_int_equal(0, seen.tolds);
    client_watch_end(other.watch);
    bench_free(bench);
}

static void a_batch_that_nobody_asked_for_breaks_the_connection(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct bench *bench = bench_watching(2, &seen, true, 1);
    send_changes(&bench->fake[0], 2, 1, 1, 2);
    RUN_UNTIL(bench, bench->fake[1].watches == 1);
    assert_int_equal(0, seen.batches);
    client_watch_end(seen.watch);
    bench_free(bench);
}

static void what_the_replica_refuses_is_told_and_not_asked_again(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct bench *bench = bench_watching(2, &seen, false, 0);
    send_end(&bench->fake[0], ERR_LIMIT);
    RUN_UNTIL(bench, seen.fails == 1);
    assert_int_equal(ERR_LIMIT, seen.err);
    fake_break(&bench->fake[0]);
    RUN_UNTIL(bench, bench->fake[1].pings > 0);
    assert_int_equal(0, bench->fake[1].watches);
    client_watch_end(seen.watch);
    bench_free(bench);
}

static void a_replica_that_knows_no_watches_is_not_asked(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct bench *bench = bench_new(1);
    bench->fake[0].old = true;
    bench_client(bench, false, NULL);
    begin(bench, &seen, false, 0);
    RUN_UNTIL(bench, seen.fails == 1);
    assert_int_equal(ERR_UNSUPPORTED, seen.err);
    assert_int_equal(0, bench->fake[0].watches);
    client_watch_end(seen.watch);
    bench_free(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_paths_are_refused_at_once),
        cmocka_unit_test(nothing_is_asked_for_before_the_owner_is_ready),
        cmocka_unit_test(the_next_replica_is_asked_from_where_the_stream_stands),
        cmocka_unit_test(a_stream_that_breaks_in_the_middle_of_an_entry_goes_on_there),
        cmocka_unit_test(a_gap_is_told_and_the_stream_goes_on_behind_it),
        cmocka_unit_test(reads_wait_for_the_state_that_the_stream_has_told),
        cmocka_unit_test(a_watch_may_be_ended_by_its_own_callback),
        cmocka_unit_test(a_batch_that_nobody_asked_for_breaks_the_connection),
        cmocka_unit_test(what_the_replica_refuses_is_told_and_not_asked_again),
        cmocka_unit_test(a_replica_that_knows_no_watches_is_not_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
