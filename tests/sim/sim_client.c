/* SPDX-License-Identifier: Apache-2.0
 *
 * A simulated client: one session, some writes in flight, one read at a time. It changes replicas
 * at every trouble and sends its unanswered writes again under the same numbers.
 *
 * What it checks (sim_failed otherwise):
 *   1. A register is written by one client only, with growing values. A read never shows a value
 *      older than one this session has seen (reads never go back), nor one never written.
 *   2. A read behind a read barrier shows at least what was acknowledged to the writer before the
 *      barrier was asked for (linearizable).
 *   3. A session that is used is never told that it has expired while all is well.
 * What it notes: the data of acknowledged creates, which must each stand once in the end.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/parse.h"
#include "tests/sim/sim.h"

#define TICK_US 20000u
#define PING_US 200000u
#define LEAVE_US 700000u
#define SESSION_MS 3000u
#define SETUP_WRITES 2u

/* ---- the wire ---- */

struct letter {
    struct client_conn *conn;
    struct buffer bytes;
};

static void letter_arrives(struct sim *sim, void *arg)
{
    struct letter *letter = arg;
    struct client_conn *conn = letter->conn;
    struct sim_node *node = conn->node;
    if (node->up && sim->now_us < node->paused_until_us) {
        sim_at(sim, node->paused_until_us, letter_arrives, arg);
        return;
    }
    if (node->up && node->life == conn->node_life && conn->server != NULL) {
        ProtobufCMessage *message = NULL;
        CHECK(wire_unpack(&wire__to_replica__descriptor, letter->bytes.data, letter->bytes.len,
                          &message) == ERR_OK);
        enum err err = replica_client_message(node->replica, conn->server,
                                              (const Wire__ToReplica *)message);
        if (err != ERR_OK) {
            sim_failed(sim, "a replica refused a client's message", (uint64_t)err, node->id);
        }
        wire_free(message);
        sim_node_turn(node);
    }
    buffer_done(&letter->bytes);
    free(letter);
}

static void post(struct sim_client *client, const Wire__ToReplica *message)
{
    struct sim *sim = client->sim;
    struct client_conn *conn = client->conn;
    struct letter *letter = calloc(1, sizeof *letter);
    CHECK(letter != NULL);
    letter->conn = conn;
    CHECK(wire_pack(&message->base, &letter->bytes) == ERR_OK);
    uint64_t at = sim->now_us + 20 + sim_random(sim, sim->rates.delay_us_max);
    conn->to_node_us = at > conn->to_node_us ? at : conn->to_node_us;
    sim_at(sim, conn->to_node_us, letter_arrives, letter);
}

/* ---- connections ---- */

static void leave(struct sim_client *client)
{
    struct client_conn *conn = client->conn;
    if (conn == NULL) {
        return;
    }
    conn->closed = true;
    if (conn->server != NULL && conn->node->up && conn->node->life == conn->node_life) {
        replica_client_closed(conn->node->replica, conn->server);
    }
    conn->server = NULL;
    client->conn = NULL;
    client->attached = false;
    client->read_call = 0;
}

static void say_hello(struct sim_client *client)
{
    struct sim *sim = client->sim;
    struct sim_node *node = &sim->node[sim_random(sim, SIM_NODES)];
    if (!sim_node_is_running(node)) {
        return;
    }
    struct client_conn *conn = calloc(1, sizeof *conn);
    CHECK(conn != NULL);
    conn->next_made = sim->conns;
    sim->conns = conn;
    conn->owner = client;
    conn->node = node;
    conn->node_life = node->life;
    struct client_origin origin = {.trusted = true, .address = "sim"};
    conn->server = replica_client_opened(node->replica, conn, &origin);
    CHECK(conn->server != NULL);
    client->conn = conn;
    client->last_heard_us = sim->now_us;
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    hello.version = 1;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_HELLO;
    message.hello = &hello;
    post(client, &message);
}

static void ask_session(struct sim_client *client)
{
    for (size_t i = 0; i < sizeof client->nonce; i++) {
        client->nonce[i] = (uint8_t)sim_random(client->sim, 256);
    }
    Wire__OpenSession open = WIRE__OPEN_SESSION__INIT;
    open.session = client->session;
    open.password = wire_bytes(client->password, client->session != 0 ? PASSWORD_BYTES : 0);
    open.timeout_ms = SESSION_MS;
    open.nonce = wire_bytes(client->nonce, sizeof client->nonce);
    open.zxid_seen = client->zxid_seen;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_OPEN;
    message.open = &open;
    post(client, &message);
}

/* ---- writes ---- */

static void send_op(struct sim_client *client, const struct sim_write *write, Wire__Op *op)
{
    uint64_t below = client->last_sequence + 1;
    for (size_t i = 0; i < SIM_WINDOW; i++) {
        if (client->write[i].sequence != 0 && client->write[i].sequence < below) {
            below = client->write[i].sequence;
        }
    }
    Wire__Request request = WIRE__REQUEST__INIT;
    request.call = write->sequence << 1;
    request.sequence = write->sequence;
    request.answered_below = below;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = op;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_REQUEST;
    message.request = &request;
    post(client, &message);
}

static void send_create(struct sim_client *client, const struct sim_write *write, const char *path,
                        enum _Wire__Kind kind)
{
    char data[48];
    (void)snprintf(data, sizeof data, "%" PRIu64 ":%" PRIu64, client->id, write->value);
    Wire__Address at = WIRE__ADDRESS__INIT;
    at.path = wire_bytes(path, strlen(path));
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    create.at = &at;
    create.kind = kind;
    create.mode = 0755;
    create.sequential = write->kind == SIM_WRITE_CREATE;
    if (write->kind == SIM_WRITE_CREATE) {
        create.data = wire_bytes(data, strlen(data));
    }
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_CREATE;
    op.create = &create;
    send_op(client, write, &op);
}

static void send_set(struct sim_client *client, const struct sim_write *write)
{
    char path[32];
    char data[32];
    (void)snprintf(path, sizeof path, "/r%" PRIu64, client->id);
    (void)snprintf(data, sizeof data, "%" PRIu64, write->value);
    Wire__Address at = WIRE__ADDRESS__INIT;
    at.path = wire_bytes(path, strlen(path));
    Wire__WriteOp patch = WIRE__WRITE_OP__INIT;
    patch.at = &at;
    patch.truncate = true;
    patch.append = wire_bytes(data, strlen(data));
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_WRITE;
    op.write = &patch;
    send_op(client, write, &op);
}

static void send_write(struct sim_client *client, const struct sim_write *write)
{
    char path[32];
    switch (write->kind) {
    case SIM_WRITE_SETUP:
        (void)snprintf(path, sizeof path, "/r%" PRIu64, client->id);
        send_create(client, write, write->value == 0 ? "/q" : path,
                    write->value == 0 ? WIRE__KIND__KIND_DIR : WIRE__KIND__KIND_FILE);
        break;
    case SIM_WRITE_CREATE:
        send_create(client, write, "/q/n-", WIRE__KIND__KIND_FILE);
        break;
    case SIM_WRITE_SET:
        send_set(client, write);
        break;
    }
}

static struct sim_write *find_write(struct sim_client *client, uint64_t sequence)
{
    for (size_t i = 0; i < SIM_WINDOW; i++) {
        if (client->write[i].sequence == sequence) {
            return &client->write[i];
        }
    }
    return NULL;
}

static bool set_in_flight(const struct sim_client *client)
{
    for (size_t i = 0; i < SIM_WINDOW; i++) {
        if (client->write[i].sequence != 0 && client->write[i].kind == SIM_WRITE_SET) {
            return true;
        }
    }
    return false;
}

/* Starts a write if there is room. Setup goes alone; one set of the register at a time. */
static void begin_write(struct sim_client *client)
{
    struct sim_write *free_place = find_write(client, 0);
    bool idle = true;
    for (size_t i = 0; i < SIM_WINDOW; i++) {
        idle = idle && client->write[i].sequence == 0;
    }
    if (free_place == NULL || (client->setup < SETUP_WRITES && !idle)) {
        return;
    }
    if (client->setup < SETUP_WRITES) {
        *free_place = (struct sim_write){.kind = SIM_WRITE_SETUP, .value = client->setup};
    } else if (!set_in_flight(client) && sim_chance(client->sim, 500000)) {
        *free_place = (struct sim_write){.kind = SIM_WRITE_SET, .value = ++client->value_sent};
    } else {
        *free_place = (struct sim_write){.kind = SIM_WRITE_CREATE, .value = ++client->created};
    }
    free_place->sequence = ++client->last_sequence;
    send_write(client, free_place);
}

static void write_answered(struct sim_client *client, struct sim_write *write,
                           const Wire__Answer *answer)
{
    struct sim *sim = client->sim;
    enum err err = err_from_number(answer->err);
    struct sim_write done = *write;
    if (err == ERR_SESSION_MOVED || err == ERR_SESSION_EXPIRED) {
        leave(client); /* Attached elsewhere, or about to learn that it has expired. */
        return;
    }
    write->sequence = 0;
    if (err != ERR_OK && !(done.kind == SIM_WRITE_SETUP && err == ERR_EXISTS)) {
        sim_failed(sim, err_name(err), client->id, done.sequence);
    }
    client->writes_done++;
    client->zxid_seen = answer->zxid > client->zxid_seen ? answer->zxid : client->zxid_seen;
    switch (done.kind) {
    case SIM_WRITE_SETUP:
        client->setup = done.value + 1;
        break;
    case SIM_WRITE_CREATE: {
        char data[48];
        int len = snprintf(data, sizeof data, "%" PRIu64 ":%" PRIu64, client->id, done.value);
        CHECK(omap_put(sim->acked, data, (size_t)len, "", 0) == ERR_OK);
        break;
    }
    case SIM_WRITE_SET:
        client->value_acked = done.value;
        client->value_read[client->id] = done.value;
        break;
    }
}

/* ---- reads ---- */

static void send_read(struct sim_client *client, bool barrier)
{
    char path[32];
    (void)snprintf(path, sizeof path, "/r%" PRIu64, client->read_of);
    Wire__Address at = WIRE__ADDRESS__INIT;
    at.path = wire_bytes(path, strlen(path));
    Wire__DataRead data = WIRE__DATA_READ__INIT;
    Wire__SyncRead sync = WIRE__SYNC_READ__INIT;
    data.at = &at;
    data.bytes_max = 64;
    Wire__Request request = WIRE__REQUEST__INIT;
    client->read_call = ++client->last_call << 1 | 1;
    request.call = client->read_call;
    request.zxid_seen = client->zxid_seen;
    if (barrier) {
        request.body_case = WIRE__REQUEST__BODY_SYNC;
        request.sync = &sync;
    } else {
        request.body_case = WIRE__REQUEST__BODY_DATA;
        request.data = &data;
    }
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_REQUEST;
    message.request = &request;
    post(client, &message);
}

static void begin_read(struct sim_client *client)
{
    struct sim *sim = client->sim;
    client->read_of = sim_random(sim, SIM_CLIENTS);
    client->read_strict = sim_chance(sim, 300000);
    client->read_floor = client->read_strict ? sim->client[client->read_of].value_acked : 0;
    send_read(client, client->read_strict);
}

static void read_answered(struct sim_client *client, const Wire__Answer *answer)
{
    struct sim *sim = client->sim;
    enum err err = err_from_number(answer->err);
    client->zxid_seen = answer->zxid > client->zxid_seen ? answer->zxid : client->zxid_seen;
    client->read_call = 0;
    if (err == ERR_OK && answer->attr == NULL) {
        send_read(client, false); /* The barrier is passed: now the read itself. */
        return;
    }
    char text[65] = "0";
    if (err == ERR_OK && answer->data.len > 0 && answer->data.len < sizeof text) {
        memcpy(text, answer->data.data, answer->data.len);
        text[answer->data.len] = '\0';
    } else if (err != ERR_OK && err != ERR_NO_NODE) {
        sim_failed(sim, err_name(err), client->id, client->read_of);
    }
    uint64_t value = 0;
    uint64_t of = client->read_of;
    if (parse_u64(text, 0, UINT64_MAX, &value) != ERR_OK || value > sim->client[of].value_sent) {
        sim_failed(sim, "a read shows what was never written", client->id, value);
    }
    if (value < client->value_read[of]) {
        sim_failed(sim, "a read goes back in time", client->value_read[of], value);
    }
    if (value < client->read_floor) {
        sim_failed(sim, "a read behind a barrier is stale", client->read_floor, value);
    }
    client->value_read[of] = value;
    client->reads_done++;
}

/* ---- answers of the session ---- */

static void opened(struct sim_client *client, const Wire__Opened *answer)
{
    struct sim *sim = client->sim;
    enum err err = err_from_number(answer->err);
    if (err == ERR_SESSION_EXPIRED) {
        sim_trace(sim, "client %" PRIu64 " lost session %" PRIu64, client->id, client->session);
        client->session = 0;
        client->last_sequence = 0;
        memset(client->write, 0, sizeof client->write); /* Their outcome stays unknown. */
        ask_session(client);
        return;
    }
    if (err != ERR_OK) {
        leave(client);
        return;
    }
    client->session = answer->session;
    client->epoch = answer->epoch;
    CHECK(answer->password.len == PASSWORD_BYTES);
    memcpy(client->password, answer->password.data, PASSWORD_BYTES);
    client->attached = true;
    client->zxid_seen = answer->zxid > client->zxid_seen ? answer->zxid : client->zxid_seen;
    for (size_t i = 0; i < SIM_WINDOW; i++) {
        if (client->write[i].sequence != 0) {
            send_write(client, &client->write[i]);
        }
    }
}

static void answered(struct sim_client *client, const Wire__Answer *answer)
{
    if ((answer->call & 1) != 0) {
        if (answer->call == client->read_call) {
            read_answered(client, answer);
        }
        return;
    }
    struct sim_write *write = find_write(client, answer->call >> 1);
    if (write != NULL && write->sequence != 0) {
        write_answered(client, write, answer);
    }
}

static void receive(struct sim_client *client, const Wire__ToClient *message)
{
    client->last_heard_us = client->sim->now_us;
    switch (message->body_case) {
    case WIRE__TO_CLIENT__BODY_WELCOME:
        ask_session(client);
        break;
    case WIRE__TO_CLIENT__BODY_OPENED:
        opened(client, message->opened);
        break;
    case WIRE__TO_CLIENT__BODY_ANSWER:
        answered(client, message->answer);
        break;
    case WIRE__TO_CLIENT__BODY_PONG:
    case WIRE__TO_CLIENT__BODY_EVENT:
    case WIRE__TO_CLIENT__BODY_RECLAIMED:
    case WIRE__TO_CLIENT__BODY__NOT_SET:
    case _WIRE__TO_CLIENT__BODY__CASE_IS_INT_SIZE:
        break;
    }
}

void sim_client_receive(struct client_conn *conn, const uint8_t *bytes, size_t len)
{
    struct sim_client *client = conn->owner;
    if (conn->closed || client->conn != conn) {
        return;
    }
    if (bytes == NULL) {
        leave(client);
        return;
    }
    ProtobufCMessage *message = NULL;
    CHECK(wire_unpack(&wire__to_client__descriptor, bytes, len, &message) == ERR_OK);
    receive(client, (const Wire__ToClient *)message);
    wire_free(message);
}

/* ---- life ---- */

static void ping(struct sim_client *client)
{
    Wire__Ping body = WIRE__PING__INIT;
    body.ping = ++client->ping;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_PING;
    message.ping = &body;
    post(client, &message);
}

static void tick(struct sim *sim, void *arg)
{
    struct sim_client *client = arg;
    if (sim->ended) {
        return;
    }
    if (client->conn != NULL && sim->now_us - client->last_heard_us > LEAVE_US) {
        leave(client);
    }
    if (client->conn == NULL) {
        say_hello(client);
    } else if (client->attached) {
        if (client->ping * PING_US < sim->now_us) {
            client->ping = sim->now_us / PING_US;
            ping(client);
        }
        begin_write(client);
        if (client->read_call == 0) {
            begin_read(client);
        }
    }
    sim_at(sim, sim->now_us + TICK_US / 2 + sim_random(sim, TICK_US), tick, client);
}

void sim_client_init(struct sim *sim, struct sim_client *client, uint64_t id)
{
    client->sim = sim;
    client->id = id;
    sim_at(sim, sim->now_us + sim_random(sim, TICK_US), tick, client);
}
