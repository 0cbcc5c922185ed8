/* SPDX-License-Identifier: Apache-2.0
 *
 * A client between fake replicas: what the tests of fs/client share. Included once by a test
 * program.
 */
#ifndef QUORUMFS_TESTS_CLIENT_BENCH_H
#define QUORUMFS_TESTS_CLIENT_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/logging.h"
#include "fs/client/client_internal.h"
#include "tests/lib/fake_replica.h"

#define BENCH_FAKES     3
#define BENCH_CALLS_MAX 512u
#define BENCH_LIMIT_MS  10000u

/* The outcome of one call. */
struct bench_call {
    struct call *call;
    size_t done; /* how often it ended: 1 in the end */
    enum err err;
    bool has_answer;
    uint64_t grant;
    size_t order; /* the how-manieth call to end, from 1 */
};

struct bench {
    uv_loop_t loop;
    uv_timer_t limit;
    bool too_late;
    char folder[64];
    struct fake_replica fake[BENCH_FAKES];
    int fakes;
    struct client *client;
    struct bench_call call[BENCH_CALLS_MAX];
    size_t call_count;
    size_t ended;
    size_t states[3]; /* how often each state was told */
    size_t events;
    uint64_t last_event_zxid;
    enum err reclaim_err;
    size_t reclaims_ended;
    bool closed;
};

/* Runs the loop until the condition holds. */
#define RUN_UNTIL(bench, condition)                                            \
    do {                                                                       \
        bench_limit(bench);                                                    \
        while (!(condition)) {                                                 \
            (void)uv_run(&(bench)->loop, UV_RUN_ONCE);                         \
            if ((bench)->too_late) {                                           \
                fail_msg("line %d: did not happen: %s", __LINE__, #condition); \
            }                                                                  \
        }                                                                      \
    } while (0)

/* Waits short enough for tests and long enough for a slow machine. */
static const struct client_timers bench_timers = {
    .connect_ms = 2000,
    .open_ms = 2000,
    .ping_ms = 20,
    .ping_busy_ms = 10,
    .ping_leaderless_ms = 5,
    .pong_limit_ms = 2000,
    .backoff_min_ms = 1,
    .backoff_max_ms = 10,
    .probe_after_ms = 10,
    .probe_ms = 10,
    .cancel_ms = 2000,
    .close_ms = 1000,
};

static inline void bench_too_late(uv_timer_t *timer)
{
    struct bench *bench = timer->data;
    bench->too_late = true;
}

static inline void bench_limit(struct bench *bench)
{
    assert_int_equal(0, uv_timer_start(&bench->limit, bench_too_late, BENCH_LIMIT_MS, 0));
}

static inline void bench_event(void *arg, const Wire__Event *event)
{
    struct bench *bench = arg;
    bench->events++;
    bench->last_event_zxid = event->zxid;
}

static inline void bench_state(void *arg, enum client_state state)
{
    struct bench *bench = arg;
    bench->states[state]++;
}

static inline void bench_closed(void *arg)
{
    struct bench *bench = arg;
    bench->closed = true;
}

static inline void bench_reclaimed(void *arg, enum err err)
{
    struct bench *bench = arg;
    bench->reclaim_err = err;
    bench->reclaims_ended++;
}

/* There is one at a time: calls need no pointer back. */
static struct bench *the_bench;

static inline void bench_done(void *arg, enum err err, const Wire__Answer *answer)
{
    struct bench_call *call = arg;
    call->done++;
    call->err = err;
    call->has_answer = answer != NULL;
    call->grant = answer != NULL ? answer->grant : 0;
    call->order = ++the_bench->ended;
}

/* Makes `fakes` replicas; bench_client makes the client when they are as the test wants them. */
static inline struct bench *bench_new(int fakes)
{
    struct bench *bench = calloc(1, sizeof *bench);
    assert_non_null(bench);
    logging_set_level(LOG_LEVEL_ERROR);
    assert_int_equal(0, uv_loop_init(&bench->loop));
    assert_int_equal(0, uv_timer_init(&bench->loop, &bench->limit));
    bench->limit.data = bench;
    (void)snprintf(bench->folder, sizeof bench->folder, "/tmp/quorumfs-client-XXXXXX");
    assert_non_null(mkdtemp(bench->folder));
    for (bench->fakes = 0; bench->fakes < fakes; bench->fakes++) {
        fake_start(&bench->fake[bench->fakes], &bench->loop, bench->folder, bench->fakes);
    }
    the_bench = bench;
    return bench;
}

static inline void bench_client(struct bench *bench, bool session,
                                const struct client_timers *timers)
{
    struct buffer servers = {0};
    struct buffer error = {0};
    for (int i = 0; i < bench->fakes; i++) {
        assert_int_equal(
            ERR_OK, buffer_printf(&servers, "%sunix:%s", i > 0 ? "," : "", bench->fake[i].path));
    }
    struct client_options options = {.servers = (const char *)servers.data,
                                     .program = "test",
                                     .session = session,
                                     .promises = session,
                                     .event = bench_event,
                                     .state = bench_state,
                                     .arg = bench};
    assert_int_equal(ERR_OK, client_new(&bench->loop, &options, &bench->client, &error));
    client_set_timers(bench->client, timers != NULL ? timers : &bench_timers);
    buffer_done(&servers);
    buffer_done(&error);
}

static inline struct bench_call *bench_request(struct bench *bench, Wire__Request *request,
                                               uint32_t timeout_ms)
{
    assert_true(bench->call_count < BENCH_CALLS_MAX);
    struct bench_call *call = &bench->call[bench->call_count++];
    struct call_options options = {.timeout_ms = timeout_ms, .done = bench_done, .arg = call};
    enum err err = ERR_OK;
    call->call = client_call(bench->client, request, &options, &err);
    assert_int_equal(ERR_OK, err);
    assert_non_null(call->call);
    assert_int_equal(0, call->done); /* Never from within client_call. */
    return call;
}

static inline struct bench_call *bench_write(struct bench *bench, uint32_t timeout_ms)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__WriteOp write = WIRE__WRITE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    at.path = wire_bytes("/a", 2);
    write.at = &at;
    write.append = wire_bytes("data", 4);
    op.body_case = WIRE__OP__BODY_WRITE;
    op.write = &write;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    return bench_request(bench, &request, timeout_ms);
}

static inline struct bench_call *bench_read(struct bench *bench, uint32_t timeout_ms)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    Wire__LookupRead lookup = WIRE__LOOKUP_READ__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    at.path = wire_bytes("/a", 2);
    lookup.at = &at;
    request.body_case = WIRE__REQUEST__BODY_LOOKUP;
    request.lookup = &lookup;
    return bench_request(bench, &request, timeout_ms);
}

/* A client with a session at the first replica. */
static inline struct bench *bench_attached(int fakes)
{
    struct bench *bench = bench_new(fakes);
    bench_client(bench, true, NULL);
    RUN_UNTIL(bench, bench->states[CLIENT_READY] == 1);
    return bench;
}

static inline void bench_free(struct bench *bench)
{
    if (bench->client != NULL && !bench->closed) {
        bench->client->timers.close_ms = 10; /* Not every fake answers. */
        client_close(bench->client, bench_closed, bench);
        RUN_UNTIL(bench, bench->closed);
    }
    for (size_t i = 0; i < bench->call_count; i++) {
        assert_int_equal(1, bench->call[i].done); /* Every call ends exactly once. */
    }
    for (int i = 0; i < bench->fakes; i++) {
        fake_stop(&bench->fake[i]);
    }
    uv_close((uv_handle_t *)&bench->limit, NULL);
    assert_int_equal(0, uv_run(&bench->loop, UV_RUN_DEFAULT));
    assert_int_equal(0, uv_loop_close(&bench->loop));
    for (int i = 0; i < bench->fakes; i++) {
        (void)unlink(bench->fake[i].path);
    }
    assert_int_equal(0, rmdir(bench->folder));
    free(bench);
}

#endif
