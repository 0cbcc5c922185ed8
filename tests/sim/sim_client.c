/* SPDX-License-Identifier: Apache-2.0
 *
 * A simulated client: its connection, session and lease. It changes replicas at every trouble,
 * sometimes without any, ends its session or forgets it. What it asks is in sim_load.c.
 *
 * What it checks (sim_failed otherwise):
 *   1. A confirmed ping was sent on this connection, and its session lived on for its whole timeout.
 *   2. States shown on one connection never go back.
 *   3. A replica welcomes nobody before it has what clients had seen anywhere when it started.
 *   4. A session that is used is never told that it has expired while all is well.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "tests/sim/sim.h"

#define TICK_US     20000u
#define PING_US     200000u
#define LEAVE_US    700000u  /* without a word */
#define ATTACH_US   1000000u /* without a session */
#define TIMEOUT_US  (SIM_SESSION_MS * 1000u)
#define ROUNDING_US 2000u    /* clocks of replicas show milliseconds */
#define WELL_US     2500000u /* after the healing all is well */
#define WHIMS_US    2000000u

/* ---- connections ---- */

void sim_client_leave(struct sim_client *client)
{
    struct client_conn *conn = client->conn;
    if (conn == NULL) {
        return;
    }
    sim_trace(client->sim, "client %" PRIu64 " leaves node %" PRIu64, client->id, conn->node->id);
    conn->closed = true;
    sim_serve_post(conn, NULL);
    client->conn = NULL;
    client->attached = false;
    client->read_call = 0;
}

static void say_hello(struct sim_client *client)
{
    struct sim *sim = client->sim;
    struct sim_node *node = &sim->node[sim_random(sim, sim->node_count)];
    if (!sim_node_is_running(node) || (node->id == client->silent && sim->node_count > 1)) {
        return;
    }
    if (sim->healing && !replica_is_serving(node->replica)) {
        return; /* Whoever knows who the members are does not ask others. */
    }
    client->silent = node->id; /* until it says something */
    client->conn = sim_serve_accept(client, node);
    client->hello_us = sim->now_us;
    client->ping = 0;
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    hello.version = 1;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_HELLO;
    message.hello = &hello;
    sim_serve_post(client->conn, &message);
}

/* Opens a session or attaches to the own one. Asked without an answer before: sometimes with the
 * same nonce again. */
static void ask_session(struct sim_client *client)
{
    struct sim *sim = client->sim;
    if (!client->holds_nonce || sim_chance(sim, 500000)) {
        for (size_t i = 0; i < sizeof client->nonce; i++) {
            client->nonce[i] = (uint8_t)sim_random(sim, 256);
        }
        client->nonce_us = sim->now_us;
        client->holds_nonce = true;
    }
    Wire__OpenSession open = WIRE__OPEN_SESSION__INIT;
    open.session = client->session;
    open.password = wire_bytes(client->password, client->session != 0 ? PASSWORD_BYTES : 0);
    open.timeout_ms = SIM_SESSION_MS;
    open.nonce = wire_bytes(client->nonce, sizeof client->nonce);
    open.zxid_seen = client->zxid_seen;
    open.promises = client->promises;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_OPEN;
    message.open = &open;
    sim_serve_post(client->conn, &message);
}

/* ---- session ---- */

/* The session is gone, or this client forgets it. What was unanswered stays unknown. */
static void session_lost(struct sim_client *client)
{
    sim_trace(client->sim, "client %" PRIu64 " is without session %" PRIu64, client->id,
              client->session);
    client->session = 0;
    client->holds_nonce = false;
    client->closing = false;
    client->has_lock = false;
    client->lease_us = 0;
    client->last_sequence = 0;
    memset(client->write, 0, sizeof client->write);
    memset(client->cached, 0, sizeof client->cached);
}

static void expired(struct sim_client *client)
{
    struct sim *sim = client->sim;
    if (sim->healing && sim->now_us > sim->healed_us + WELL_US && !client->closing) {
        sim_failed(sim, "a session expired while all was well", client->id, client->session);
    }
    if (sim_model_closed_us(sim, client->session) == UINT64_MAX) {
        sim_failed(sim, "a living session is said to have expired", client->id, client->session);
    }
    session_lost(client);
    ask_session(client);
}

bool sim_client_has_lease(const struct sim_client *client)
{
    return client->session != 0 && client->sim->now_us < client->lease_us + TIMEOUT_US * 3 / 4;
}

/* The leader has confirmed what was sent then. */
static void lease_from(struct sim_client *client, uint64_t sent_us)
{
    struct sim *sim = client->sim;
    uint64_t closed_us = sim_model_closed_us(sim, client->session);
    if (!client->closing && closed_us != UINT64_MAX &&
        closed_us + ROUNDING_US < sent_us + TIMEOUT_US) {
        sim_failed(sim, "a ping was confirmed for a session that has ended", client->session,
                   sent_us);
    }
    client->lease_us = sent_us > client->lease_us ? sent_us : client->lease_us;
}

static void opened(struct sim_client *client, const Wire__Opened *answer)
{
    enum err err = err_from_number(answer->err);
    if (err == ERR_SESSION_EXPIRED) {
        expired(client);
        return;
    }
    if (err != ERR_OK) {
        if (err != ERR_NO_LEADER) {
            sim_failed(client->sim, err_name(err), client->id, client->session);
        }
        sim_client_leave(client);
        return;
    }
    CHECK(answer->password.len == PASSWORD_BYTES);
    client->session = answer->session;
    client->epoch = answer->epoch;
    memcpy(client->password, answer->password.data, PASSWORD_BYTES);
    client->attached = true;
    sim_trace(client->sim,
              "client %" PRIu64 " has session %" PRIu64 " epoch %" PRIu64 " at node %" PRIu64,
              client->id, client->session, client->epoch, client->conn->node->id);
    client->holds_nonce = false;
    lease_from(client, client->nonce_us);
    sim_load_reclaim(client);
    sim_load_resend(client);
}

/* ---- pings ---- */

static void ping(struct sim_client *client)
{
    Wire__Ping body = WIRE__PING__INIT;
    client->ping++;
    client->ping_us[client->ping % SIM_PINGS] = client->sim->now_us;
    client->ping_at_us = client->sim->now_us + PING_US;
    body.ping = client->ping;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_PING;
    message.ping = &body;
    sim_serve_post(client->conn, &message);
}

static void ponged(struct sim_client *client, const Wire__Pong *pong)
{
    uint64_t confirmed = pong->confirmed_ping;
    if (confirmed > client->ping || pong->ping > client->ping) {
        sim_failed(client->sim, "a ping was answered that was never sent", confirmed, client->ping);
    }
    if (client->attached && confirmed != 0 && client->ping - confirmed < SIM_PINGS) {
        lease_from(client, client->ping_us[confirmed % SIM_PINGS]);
    }
}

/* ---- messages ---- */

/* The connection shows a state; `now`: the state of that moment, not of something past. */
static void shown(struct sim_client *client, uint64_t zxid, bool now)
{
    struct sim *sim = client->sim;
    if (now && zxid < client->conn->zxid) {
        sim_failed(sim, "a connection goes back in time", client->conn->zxid, zxid);
    }
    client->conn->zxid = zxid > client->conn->zxid ? zxid : client->conn->zxid;
    client->zxid_seen = zxid > client->zxid_seen ? zxid : client->zxid_seen;
    sim->zxid_shown = zxid > sim->zxid_shown ? zxid : sim->zxid_shown;
    sim_load_shown(client, zxid);
}

static void receive(struct sim_client *client, const Wire__ToClient *message)
{
    client->last_heard_us = client->sim->now_us;
    switch (message->body_case) {
    case WIRE__TO_CLIENT__BODY_WELCOME:
        client->silent = 0;
        if (message->welcome->applied_zxid < client->conn->zxid_floor) {
            sim_failed(client->sim, "a replica serves an old state", client->conn->node->id,
                       message->welcome->applied_zxid);
        }
        ask_session(client);
        break;
    case WIRE__TO_CLIENT__BODY_OPENED:
        opened(client, message->opened);
        if (client->attached) {
            shown(client, message->opened->zxid, false);
        }
        break;
    case WIRE__TO_CLIENT__BODY_ANSWER:
        sim_load_answered(client, message->answer);
        if (client->conn != NULL) {
            bool is_read = (message->answer->call & 1) != 0;
            shown(client, message->answer->zxid, is_read);
        }
        break;
    case WIRE__TO_CLIENT__BODY_PONG:
        ponged(client, message->pong);
        shown(client, message->pong->applied_zxid, true);
        break;
    case WIRE__TO_CLIENT__BODY_EVENT:
        sim_load_event(client, message->event);
        break;
    case WIRE__TO_CLIENT__BODY_RECLAIMED:
        client->reclaiming = false;
        shown(client, message->reclaimed->zxid, true);
        break;
    case WIRE__TO_CLIENT__BODY_WATCH_CHANGES:
        sim_failed(client->sim, "changes that nobody watches", client->id, 0);
        break;
    case WIRE__TO_CLIENT__BODY__NOT_SET:
    case _WIRE__TO_CLIENT__BODY__CASE_IS_INT_SIZE:
        sim_failed(client->sim, "an empty message", client->id, 0);
    }
}

void sim_client_receive(struct client_conn *conn, const Wire__ToClient *message)
{
    struct sim_client *client = conn->owner;
    if (conn->closed) {
        return;
    }
    if (message != NULL) {
        receive(client, message);
        return;
    }
    sim_client_leave(client);
    if (client->closing && sim_model_closed_us(client->sim, client->session) != UINT64_MAX) {
        session_lost(client);
    }
}

/* ---- life ---- */

/* Things that clients do of themselves. */
static void whims(struct sim_client *client)
{
    struct sim *sim = client->sim;
    if (sim->healing && sim->now_us > sim->healed_us + WHIMS_US) {
        return; /* All are to find their places before the end. */
    }
    if (sim_chance(sim, sim->rates.leave_ppm)) {
        sim_client_leave(client);
    } else if (sim_chance(sim, sim->rates.abandon_ppm) && !sim->healing) {
        sim_client_leave(client);
        session_lost(client);
    } else if (sim_chance(sim, sim->rates.close_ppm) && client->attached && !client->closing) {
        sim_load_close(client);
    }
}

static void tick(struct sim *sim, void *arg)
{
    struct sim_client *client = arg;
    if (sim->ended) {
        return;
    }
    uint64_t patience_us = client->attached ? LEAVE_US : ATTACH_US;
    uint64_t since_us = client->attached ? client->last_heard_us : client->hello_us;
    if (client->conn != NULL && sim->now_us - since_us > patience_us) {
        sim_client_leave(client);
    }
    whims(client);
    if (client->conn == NULL) {
        say_hello(client);
    } else if (sim->now_us >= client->ping_at_us) {
        ping(client);
    }
    if (client->attached && !client->closing && !sim->quiet) {
        sim_load_tick(client);
    }
    sim_at(sim, sim->now_us + TICK_US / 2 + sim_random(sim, TICK_US), tick, client);
}

void sim_client_init(struct sim *sim, struct sim_client *client, uint64_t id)
{
    client->sim = sim;
    client->id = id;
    client->promises = id % 2 == 0;
    sim_at(sim, sim->now_us + sim_random(sim, TICK_US), tick, client);
}
