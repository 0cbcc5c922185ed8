/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a client: made, turned by the loop, closed. Joins attach.c, call.c and events.c, as
 * they do not know when a turn ends.
 *
 * A turn: the loop gives time (timer) or bytes (link.c), which change state and give answers; then
 * client_turn ends what ended without an answer, sends what may be sent and sets the timer. It runs
 * before the loop waits (prepare) and after (check), so that calls made anywhere leave in time.
 *
 * Invariant: done and state callbacks come from the loop only, never from client_call.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "fs/client/client_internal.h"

/* The timer came so much too late: this process stood still. */
#define STALL_MS 100u

static const struct client_timers timers_default = {
    .connect_ms = 1000,
    .open_ms = 1000,
    .ping_ms = 500,
    .ping_busy_ms = 150,
    .ping_leaderless_ms = 20,
    .pong_limit_ms = 500,
    .backoff_min_ms = 20,
    .backoff_max_ms = 500,
    .probe_after_ms = 500,
    .probe_ms = 200,
    .cancel_ms = 2000,
    .close_ms = 1000,
};

void client_set_timers(struct client *client, const struct client_timers *timers)
{
    client->timers = *timers;
}

void client_tell_state(struct client *client, enum client_state state)
{
    client->state = state;
    if (client->options.state != NULL && !client->closing) {
        client->options.state(client->options.arg, state);
    }
}

/* ---- the turn ---- */

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* Its being active keeps the loop from waiting. */
}

/* True when the session is closed, or need not be, or does not want to be in time. */
static bool close_is_over(const struct client *client)
{
    return client->ending == NULL &&
           (client->close_call == 0 || uv_now(client->loop) >= client->close_ms);
}

static uint64_t next_due_ms(const struct client *client)
{
    uint64_t due = attach_due_ms(client);

    due = client->calls_wake_ms < due ? client->calls_wake_ms : due;
    if (client->closing) {
        due = client->close_ms < due ? client->close_ms : due;
    }
    return due;
}

static void on_timer(uv_timer_t *timer);

static void arm_timer(struct client *client)
{
    uint64_t due = next_due_ms(client);
    uint64_t now_ms = uv_now(client->loop);

    if (due == client->timer_ms) {
        return;
    }
    client->timer_ms = due;
    if (due == UINT64_MAX) {
        (void)uv_timer_stop(&client->timer);
    } else {
        (void)uv_timer_start(&client->timer, on_timer, due > now_ms ? due - now_ms : 0,
                             /* repeat */ 0);
    }
}

static void client_turn(struct client *client)
{
    if (client->torn_down) {
        return;
    }
    calls_drain(client);
    if (client->closing && close_is_over(client)) {
        attach_stop(client);
        client->torn_down = true;
        client_tear_down(client);
        return;
    }
    calls_pump(client);
    events_pump(client);
    watches_pump(client);
    if (client->link != NULL) {
        link_flush(client->link);
    }
    if (client->probe != NULL) {
        link_flush(client->probe);
    }
    if (client->ending != NULL) {
        (void)uv_idle_start(&client->idle, on_idle);
    } else {
        (void)uv_idle_stop(&client->idle);
    }
    arm_timer(client);
}

static void on_prepare(uv_prepare_t *prepare)
{
    client_turn(prepare->data);
}

static void on_check(uv_check_t *check)
{
    client_turn(check->data);
}

static void on_timer(uv_timer_t *timer)
{
    struct client *client = timer->data;
    uint64_t now_ms = uv_now(client->loop);
    uint64_t planned_ms = client->timer_ms;

    client->timer_ms = UINT64_MAX;
    if (now_ms > planned_ms + STALL_MS) {
        attach_shift(client, now_ms - planned_ms);
    }
    attach_tick(client, now_ms);
    if (now_ms >= client->calls_wake_ms) {
        calls_expire(client, now_ms);
    }
}

/* ---- life ---- */

static void client_free(struct client *client)
{
    CHECK(client->watches == NULL);
    servers_done(&client->servers);
    events_done(client);
    free((char *)(uintptr_t)client->options.program);
    free(client);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;

    client->handles--;
    client_tear_down(client);
}

void client_tear_down(struct client *client)
{
    uv_handle_t *handles[] = {(uv_handle_t *)&client->timer, (uv_handle_t *)&client->prepare,
                              (uv_handle_t *)&client->check, (uv_handle_t *)&client->idle};

    for (size_t i = 0; i < sizeof handles / sizeof handles[0]; i++) {
        if (!uv_is_closing(handles[i])) {
            uv_close(handles[i], on_handle_closed);
        }
    }
    if (client->handles == 0) {
        void (*closed)(void *arg) = client->closed;
        void *arg = client->closed_arg;
        client_free(client);
        if (closed != NULL) {
            closed(arg);
        }
    }
}

/* libuv writes without MSG_NOSIGNAL: a replica that ends would end this process too. A handler that
 * the program has set is left alone. */
static void ignore_sigpipe(void)
{
    struct sigaction action;

    if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL) {
        action.sa_handler = SIG_IGN;
        (void)sigaction(SIGPIPE, &action, NULL);
    }
}

static void handles_start(struct client *client)
{
    /* None of these can fail. */
    (void)uv_timer_init(client->loop, &client->timer);
    (void)uv_prepare_init(client->loop, &client->prepare);
    (void)uv_check_init(client->loop, &client->check);
    (void)uv_idle_init(client->loop, &client->idle);
    client->timer.data = client;
    client->prepare.data = client;
    client->check.data = client;
    client->idle.data = client;
    client->handles = 4;
    (void)uv_prepare_start(&client->prepare, on_prepare);
    (void)uv_check_start(&client->check, on_check);
}

enum err client_new(uv_loop_t *loop, const struct client_options *options, struct client **out,
                    struct buffer *error)
{
    struct client *client = calloc(1, sizeof *client);

    if (client == NULL) {
        return ERR_MEMORY;
    }
    client->loop = loop;
    client->options = *options;
    client->options.servers = NULL;
    client->options.program = strdup(options->program);
    enum err err = client->options.program == NULL
                       ? ERR_MEMORY
                       : servers_parse(options->servers, &client->servers, error);
    if (err != ERR_OK) {
        client_free(client);
        return err;
    }
    ignore_sigpipe();
    uv_update_time(loop);
    client->timers = timers_default;
    client->timer_ms = UINT64_MAX;
    client->calls_wake_ms = UINT64_MAX;
    client->next_sequence = 1;
    client->stale_since_ms = clock_boottime_ms();
    handles_start(client);
    *out = client;
    return ERR_OK;
}

/* Asks for the end of the session. It has no sequence: it is not one of the session's commands. */
static void send_close(struct client *client)
{
    Wire__SessionCloseOp close = WIRE__SESSION_CLOSE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;

    close.session = client->session;
    close.epoch = client->epoch;
    op.body_case = WIRE__OP__BODY_SESSION_CLOSE;
    op.session_close = &close;
    request.call = ++client->last_call;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = &op;
    message.body_case = WIRE__TO_REPLICA__BODY_REQUEST;
    message.request = &request;
    link_send(client->link, &message);
    client->close_call = request.call;
}

void client_close(struct client *client, void (*done)(void *arg), void *arg)
{
    CHECK(!client->closing);
    client->closing = true;
    client->closed = done;
    client->closed_arg = arg;
    client->close_ms = uv_now(client->loop) + client->timers.close_ms;
    calls_end_all(client, ERR_CLOSED);
    if (client->phase == PHASE_OPENED && client->leader != 0) {
        send_close(client);
    }
}

void client_status(const struct client *client, struct client_status *out)
{
    bool connected = client->phase >= PHASE_WELCOMED;

    *out = (struct client_status){
        .state = client->state,
        .session = client->session,
        .epoch = client->epoch,
        .replica = client->replica,
        .leader = client->leader,
        .zxid_seen = client->zxid_seen,
        .replica_zxid = client->replica_zxid,
        .reconnects = client->reconnects,
        .file_bytes_max = client->file_bytes_max,
        .lease_valid = client->session != 0 && clock_boottime_ms() < client->lease_until_ms,
        .stale_since_ms = client->stale_since_ms,
        .server = connected ? client->servers.list[client->server].text : "",
        .trusted = client->trusted,
    };
}
