/* SPDX-License-Identifier: Apache-2.0
 *
 * The connections between simulated clients and replicas: bytes in order, both ways, with delay,
 * until one side closes or the replica dies. What a client sent before it left still arrives.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "common/check.h"
#include "tests/sim/sim.h"

/* A message on its way, in either direction; empty: the connection is closed. */
struct letter {
    struct client_conn *conn;
    struct buffer bytes;
    bool close;
};

static struct letter *letter_new(struct client_conn *conn, const ProtobufCMessage *message)
{
    struct letter *letter = sim_new(sizeof *letter);
    letter->conn = conn;
    letter->close = message == NULL;
    CHECK(message == NULL || wire_pack(message, &letter->bytes) == ERR_OK);
    return letter;
}

static void letter_free(struct letter *letter)
{
    buffer_done(&letter->bytes);
    free(letter);
}

/* Sends in order: not before what was sent last. */
static void letter_post(struct sim *sim, struct letter *letter, uint64_t *last_us, sim_run_fn *run)
{
    uint64_t at = sim->now_us + 20 + sim_random(sim, sim->rates.delay_us_max);
    *last_us = at > *last_us ? at : *last_us;
    sim_note(sim, letter->bytes.len);
    sim_at(sim, *last_us, run, letter);
}

/* ---- to the client ---- */

static void arrives_at_client(struct sim *sim, void *arg)
{
    struct letter *letter = arg;
    ProtobufCMessage *message = NULL;
    (void)sim;
    if (!letter->close) {
        CHECK(wire_unpack(&wire__to_client__descriptor, letter->bytes.data, letter->bytes.len,
                          &message) == ERR_OK);
    }
    sim_client_receive(letter->conn, (const Wire__ToClient *)message);
    wire_free(message);
    letter_free(letter);
}

/* PLANT_EVENT_LATE: events wait while what was said behind them passes. PLANT_RESYNC_LOST. */
static bool is_spoilt(struct sim_node *node, struct client_conn *conn,
                      const Wire__ToClient *message)
{
    struct sim *sim = node->sim;
    if (message->body_case != WIRE__TO_CLIENT__BODY_EVENT) {
        return false;
    }
    if (sim->plant == PLANT_EVENT_LATE) {
        uint64_t late_us = sim->now_us + 20 + sim_random(sim, 2 * sim->rates.delay_us_max);
        letter_post(sim, letter_new(conn, &message->base), &late_us, arrives_at_client);
        return true;
    }
    return sim->plant == PLANT_RESYNC_LOST &&
           message->event->kind == WIRE__EVENT_KIND__EVENT_RESYNC;
}

void sim_serve_send(void *context, struct client_conn *conn, const Wire__ToClient *message)
{
    struct sim_node *node = context;
    if (!node->failed && !is_spoilt(node, conn, message)) {
        letter_post(node->sim, letter_new(conn, &message->base), &conn->to_client_us,
                    arrives_at_client);
    }
}

void sim_serve_close(void *context, struct client_conn *conn, const char *reason)
{
    struct sim_node *node = context;
    sim_trace(node->sim, "node %" PRIu64 " closes client %" PRIu64 ": %s", node->id,
              conn->owner->id, reason);
    letter_post(node->sim, letter_new(conn, NULL), &conn->to_client_us, arrives_at_client);
}

void sim_serve_resume(void *context, struct client_conn *conn)
{
    (void)context;
    (void)conn;
}

void sim_serve_crashed(struct sim_node *node)
{
    struct client_conn *conn = node->sim->conns;
    for (; conn != NULL; conn = conn->next_made) {
        if (conn->node == node && conn->server != NULL) {
            conn->server = NULL;
            letter_post(node->sim, letter_new(conn, NULL), &conn->to_client_us, arrives_at_client);
        }
    }
}

/* ---- to the replica ---- */

static void arrives_at_node(struct sim *sim, void *arg)
{
    struct letter *letter = arg;
    struct client_conn *conn = letter->conn;
    struct sim_node *node = conn->node;
    if (!sim_node_awake(node, arrives_at_node, arg)) {
        return;
    }
    if (node->up && node->life == conn->node_life && conn->server != NULL) {
        sim_node_time(node);
        if (letter->close) {
            replica_client_closed(node->replica, conn->server);
            conn->server = NULL;
        } else {
            ProtobufCMessage *message = NULL;
            CHECK(wire_unpack(&wire__to_replica__descriptor, letter->bytes.data, letter->bytes.len,
                              &message) == ERR_OK);
            enum err err = replica_client_message(node->replica, conn->server,
                                                  (const Wire__ToReplica *)message);
            if (err != ERR_OK) {
                sim_failed(sim, "a replica refused a client's message", (uint64_t)err, node->id);
            }
            wire_free(message);
        }
        sim_node_soon(node);
    }
    letter_free(letter);
}

void sim_serve_post(struct client_conn *conn, const Wire__ToReplica *message)
{
    letter_post(conn->owner->sim, letter_new(conn, message != NULL ? &message->base : NULL),
                &conn->to_node_us, arrives_at_node);
}

struct client_conn *sim_serve_accept(struct sim_client *client, struct sim_node *node)
{
    static const struct client_origin origin = {.trusted = true, .address = "sim"};
    struct client_conn *conn = sim_new(sizeof *conn);
    conn->next_made = client->sim->conns;
    client->sim->conns = conn;
    conn->owner = client;
    conn->node = node;
    conn->node_life = node->life;
    conn->zxid_floor = node->shown_before;
    sim_node_time(node);
    conn->server = replica_client_opened(node->replica, conn, &origin);
    CHECK(conn->server != NULL);
    return conn;
}
