/* SPDX-License-Identifier: Apache-2.0
 *
 * What a simulated client asks: writes of some kinds, several at a time, and one read at a time.
 * Unanswered writes are sent again under the same numbers after a change of replica.
 *
 * What it checks (sim_failed otherwise):
 *   1. Every answer is that of the model at its zxid (sim_model.c).
 *   2. A read shows at least what this client has seen before (reads never go back, own writes are
 *      read), and behind a barrier at least what anybody had seen when it was asked for.
 *   3. A cached register whose change was not announced has not changed in any state shown since.
 *   4. Nobody gets the lock while another holds it in its lease.
 * What it notes: the data of acknowledged creates, which must each stand once in the end.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "tests/sim/sim.h"

#define SETUP_WRITES 2u
#define FORGET_PPM   20000u
#define STRICT_PPM   300000u

/* ---- writes ---- */

static struct sim_write *find_write(struct sim_client *client, uint64_t sequence)
{
    for (size_t i = 0; i < SIM_WINDOW; i++) {
        if (client->write[i].sequence == sequence) {
            return &client->write[i];
        }
    }
    return NULL;
}

static bool is_under_way(const struct sim_client *client, enum sim_write_kind kind)
{
    for (size_t i = 0; i < SIM_WINDOW; i++) {
        if (client->write[i].sequence != 0 && client->write[i].kind == kind) {
            return true;
        }
    }
    return false;
}

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
    request.tell_me = write->kind == SIM_WRITE_MULTI;
    request.body_case = WIRE__REQUEST__BODY_OP;
    request.op = op;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_REQUEST;
    message.request = &request;
    sim_serve_post(client->conn, &message);
}

static void send_create(struct sim_client *client, const struct sim_write *write, const char *path)
{
    char data[48];
    int len = snprintf(data, sizeof data, "%" PRIu64 ":%" PRIu64, client->id, write->value);
    Wire__Address at = WIRE__ADDRESS__INIT;
    at.path = wire_bytes(path, strlen(path));
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    create.at = &at;
    create.kind = strcmp(path, "/q") == 0 ? WIRE__KIND__KIND_DIR : WIRE__KIND__KIND_FILE;
    create.mode = 0755;
    create.sequential = write->kind == SIM_WRITE_CREATE;
    create.ephemeral = write->kind == SIM_WRITE_LOCK;
    if (write->kind != SIM_WRITE_SETUP) {
        create.data = wire_bytes(data, (size_t)len);
    }
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_CREATE;
    op.create = &create;
    send_op(client, write, &op);
}

static void send_set(struct sim_client *client, const struct sim_write *write, const char *path)
{
    char data[32];
    int len = snprintf(data, sizeof data, "%" PRIu64, write->value);
    Wire__Address at = WIRE__ADDRESS__INIT;
    at.path = wire_bytes(path, strlen(path));
    Wire__WriteOp patch = WIRE__WRITE_OP__INIT;
    patch.at = &at;
    patch.truncate = true;
    patch.append = wire_bytes(data, (size_t)len);
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_WRITE;
    op.write = &patch;
    send_op(client, write, &op);
}

/* The parts of a value: one digit, and the others. */
static uint32_t parts_of(uint64_t value)
{
    return value < 10 ? 1 : 2;
}

/* Part `value % 2` of `value / 2`. */
static void send_stage(struct sim_client *client, const struct sim_write *write)
{
    char data[32];
    uint64_t value = write->value / 2;
    uint32_t part = (uint32_t)(write->value % 2);
    int len = snprintf(data, sizeof data, "%" PRIu64, value);
    Wire__StageOp stage = WIRE__STAGE_OP__INIT;
    stage.stage = value;
    stage.part = part;
    stage.append = part == 0 ? wire_bytes(data, 1) : wire_bytes(data + 1, (size_t)len - 1);
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_STAGE;
    op.stage = &stage;
    send_op(client, write, &op);
}

static void send_commit(struct sim_client *client, const struct sim_write *write, const char *path)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    at.path = wire_bytes(path, strlen(path));
    Wire__WriteOp patch = WIRE__WRITE_OP__INIT;
    patch.at = &at;
    patch.truncate = true;
    patch.stage = write->value;
    patch.stage_parts = parts_of(write->value);
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_WRITE;
    op.write = &patch;
    send_op(client, write, &op);
}

static void send_drop(struct sim_client *client, const struct sim_write *write)
{
    Wire__StageOp stage = WIRE__STAGE_OP__INIT;
    stage.stage = write->value;
    stage.drop = true;
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_STAGE;
    op.stage = &stage;
    send_op(client, write, &op);
}

/* Sets the attribute, or removes it by each fourth value. */
static void send_xattr(struct sim_client *client, const struct sim_write *write, const char *path)
{
    uint8_t value[8];
    Wire__Address at = WIRE__ADDRESS__INIT;
    at.path = wire_bytes(path, strlen(path));
    Wire__XattrOp xattr = WIRE__XATTR_OP__INIT;
    xattr.at = &at;
    xattr.name = wire_bytes("user.sim", 8);
    xattr.remove = write->value % 4 == 0;
    put_be64(value, write->value);
    if (!xattr.remove) {
        xattr.value = wire_bytes(value, sizeof value);
    }
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_XATTR;
    op.xattr = &xattr;
    send_op(client, write, &op);
}

/* A create and a set; in each fourth value with a condition that does not hold. */
static void send_multi(struct sim_client *client, const struct sim_write *write, const char *path)
{
    char data[48];
    char value[32];
    int data_len = snprintf(data, sizeof data, "%" PRIu64 ":%" PRIu64, client->id, write->value);
    int value_len = snprintf(value, sizeof value, "%" PRIu64, write->value);
    Wire__Address create_at = WIRE__ADDRESS__INIT;
    create_at.path = wire_bytes("/q/n-", 5);
    Wire__CreateOp create = WIRE__CREATE_OP__INIT;
    create.at = &create_at;
    create.kind = WIRE__KIND__KIND_FILE;
    create.mode = 0755;
    create.sequential = true;
    create.data = wire_bytes(data, (size_t)data_len);
    Wire__Address at = WIRE__ADDRESS__INIT;
    at.path = wire_bytes(path, strlen(path));
    Wire__WriteOp patch = WIRE__WRITE_OP__INIT;
    patch.at = &at;
    patch.truncate = true;
    patch.append = wire_bytes(value, (size_t)value_len);
    Wire__Address none = WIRE__ADDRESS__INIT;
    none.path = wire_bytes("/none", 5);
    Wire__CheckOp check = WIRE__CHECK_OP__INIT;
    check.at = &none;
    Wire__Part parts[] = {WIRE__PART__INIT, WIRE__PART__INIT, WIRE__PART__INIT};
    Wire__Part *pointers[] = {&parts[0], &parts[1], &parts[2]};
    parts[0].body_case = WIRE__PART__BODY_CREATE;
    parts[0].create = &create;
    parts[1].body_case = WIRE__PART__BODY_WRITE;
    parts[1].write = &patch;
    parts[2].body_case = WIRE__PART__BODY_CHECK;
    parts[2].check = &check;
    Wire__MultiOp multi = WIRE__MULTI_OP__INIT;
    multi.parts = pointers;
    multi.n_parts = write->value % 4 == 0 ? 3 : 2;
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_MULTI;
    op.multi = &multi;
    send_op(client, write, &op);
}

static void send_unlock(struct sim_client *client, const struct sim_write *write)
{
    Wire__Address at = WIRE__ADDRESS__INIT;
    at.path = wire_bytes("/lock", 5);
    Wire__RemoveOp remove = WIRE__REMOVE_OP__INIT;
    remove.at = &at;
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_REMOVE;
    op.remove = &remove;
    send_op(client, write, &op);
}

static void send_close(struct sim_client *client, const struct sim_write *write)
{
    Wire__SessionCloseOp close = WIRE__SESSION_CLOSE_OP__INIT;
    Wire__Op op = WIRE__OP__INIT;
    op.body_case = WIRE__OP__BODY_SESSION_CLOSE;
    op.session_close = &close;
    send_op(client, write, &op);
}

static void send_write(struct sim_client *client, const struct sim_write *write)
{
    char path[32];
    (void)snprintf(path, sizeof path, "/r%" PRIu64, client->id);
    switch (write->kind) {
    case SIM_WRITE_SETUP:
        send_create(client, write, write->value == 0 ? "/q" : path);
        break;
    case SIM_WRITE_CREATE:
        send_create(client, write, "/q/n-");
        break;
    case SIM_WRITE_SET:
        send_set(client, write, path);
        break;
    case SIM_WRITE_STAGE:
        send_stage(client, write);
        break;
    case SIM_WRITE_COMMIT:
        send_commit(client, write, path);
        break;
    case SIM_WRITE_DROP:
        send_drop(client, write);
        break;
    case SIM_WRITE_MULTI:
        send_multi(client, write, path);
        break;
    case SIM_WRITE_XATTR:
        send_xattr(client, write, path);
        break;
    case SIM_WRITE_LOCK:
        send_create(client, write, "/lock");
        break;
    case SIM_WRITE_UNLOCK:
        send_unlock(client, write);
        break;
    case SIM_WRITE_CLOSE:
        send_close(client, write);
        break;
    }
}

void sim_load_resend(struct sim_client *client)
{
    for (size_t i = 0; i < SIM_WINDOW; i++) {
        if (client->write[i].sequence != 0) {
            send_write(client, &client->write[i]);
        }
    }
}

static void begin(struct sim_client *client, enum sim_write_kind kind, uint64_t value)
{
    struct sim_write *write = find_write(client, 0);
    if (write != NULL) {
        *write =
            (struct sim_write){.sequence = ++client->last_sequence, .kind = kind, .value = value};
        send_write(client, write);
    }
}

void sim_load_close(struct sim_client *client)
{
    if (find_write(client, 0) != NULL) {
        client->closing = true;
        client->has_lock = false;
        begin(client, SIM_WRITE_CLOSE, 0);
    }
}

static size_t free_writes(const struct sim_client *client)
{
    size_t count = 0;
    for (size_t i = 0; i < SIM_WINDOW; i++) {
        count += client->write[i].sequence == 0;
    }
    return count;
}

/* The next value, in parts: all at once, so that some may come too late. */
static void begin_staged(struct sim_client *client)
{
    uint64_t value = client->values + 1;
    if (free_writes(client) <= parts_of(value)) {
        return;
    }
    client->values = value;
    for (uint64_t part = 0; part < parts_of(value); part++) {
        begin(client, SIM_WRITE_STAGE, value * 2 + part);
    }
    begin(client, SIM_WRITE_COMMIT, value);
}

/* Starts a write if there is room. Setup goes alone; one of each kind but creates at a time. */
static void begin_write(struct sim_client *client)
{
    uint64_t dice = sim_random(client->sim, 100);
    if (client->setup < SETUP_WRITES) {
        if (!is_under_way(client, SIM_WRITE_SETUP)) {
            begin(client, SIM_WRITE_SETUP, client->setup);
        }
    } else if (dice < 30) {
        if (!is_under_way(client, SIM_WRITE_SET)) {
            begin(client, SIM_WRITE_SET, ++client->values);
        }
    } else if (dice < 36) {
        begin_staged(client);
    } else if (dice < 40) {
        begin(client, SIM_WRITE_XATTR, ++client->values);
    } else if (dice < 45) {
        begin(client, SIM_WRITE_MULTI, ++client->values);
    } else if (dice < 60) {
        if (client->has_lock) {
            client->has_lock = false; /* From here on it may be another's. */
            begin(client, SIM_WRITE_UNLOCK, 0);
        } else if (!is_under_way(client, SIM_WRITE_LOCK) &&
                   !is_under_way(client, SIM_WRITE_UNLOCK)) {
            begin(client, SIM_WRITE_LOCK, ++client->values);
        }
    } else {
        begin(client, SIM_WRITE_CREATE, ++client->values);
    }
}

static void locked(struct sim_client *client)
{
    struct sim *sim = client->sim;
    if (client->closing || !sim_client_has_lease(client)) {
        return; /* It may be another's by now. */
    }
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        const struct sim_client *other = &sim->client[i];
        if (other != client && other->has_lock && sim_client_has_lease(other)) {
            sim_failed(sim, "two hold the lock", client->id, other->id);
        }
    }
    client->has_lock = true;
}

static void write_answered(struct sim_client *client, struct sim_write *write,
                           const Wire__Answer *answer)
{
    struct sim *sim = client->sim;
    enum err err = err_from_number(answer->err);
    struct sim_write done = *write;
    if (err == ERR_SESSION_MOVED || err == ERR_SESSION_EXPIRED) {
        sim_client_leave(client); /* Attached elsewhere, or about to learn that it has expired. */
        return;
    }
    if (done.kind == SIM_WRITE_CLOSE) {
        if (err != ERR_OK || sim_model_closed_us(sim, client->session) == UINT64_MAX) {
            sim_failed(sim, "a close was answered wrongly", client->session, (uint64_t)err);
        }
        return; /* The end of the connection follows. */
    }
    write->sequence = 0;
    if (err == ERR_UNSUPPORTED && answer->zxid < client->sim->files_zxid) {
        return; /* Not all replicas have told that they know it. */
    }
    sim_model_check_write(client, done.sequence, answer);
    client->writes_done++;
    if (done.kind == SIM_WRITE_SETUP) {
        client->setup = done.value + 1;
    } else if (err == ERR_OK && (done.kind == SIM_WRITE_CREATE || done.kind == SIM_WRITE_MULTI)) {
        char data[48];
        int len = snprintf(data, sizeof data, "%" PRIu64 ":%" PRIu64, client->id, done.value);
        CHECK(omap_put(sim->acked, data, (size_t)len, "", 0) == ERR_OK);
    } else if (err == ERR_STAGE_LOST) {
        begin(client, SIM_WRITE_DROP, done.value);
    } else if (err == ERR_OK && (done.kind == SIM_WRITE_SET || done.kind == SIM_WRITE_COMMIT)) {
        struct sim_cached *own = &client->cached[client->id]; /* The maker gets no event. */
        own->zxid = answer->zxid > own->zxid ? answer->zxid : own->zxid;
    } else if (err == ERR_OK && done.kind == SIM_WRITE_LOCK) {
        locked(client);
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
    sim_serve_post(client->conn, &message);
}

static void begin_read(struct sim_client *client)
{
    struct sim *sim = client->sim;
    bool strict = sim_chance(sim, STRICT_PPM);
    client->read_of = sim_random(sim, SIM_CLIENTS);
    client->read_floor = strict ? sim->zxid_shown : client->zxid_seen;
    send_read(client, strict);
}

static void read_answered(struct sim_client *client, const Wire__Answer *answer)
{
    struct sim *sim = client->sim;
    enum err err = err_from_number(answer->err);
    client->read_call = 0;
    if (answer->zxid < client->read_floor) {
        sim_failed(sim, "a read is stale", client->read_floor, answer->zxid);
    }
    if (err == ERR_OK && answer->attr == NULL) {
        client->zxid_seen = answer->zxid > client->zxid_seen ? answer->zxid : client->zxid_seen;
        send_read(client, false); /* The barrier is passed: now the read itself. */
        return;
    }
    if (err != ERR_OK && err != ERR_NO_NODE) {
        sim_failed(sim, err_name(err), client->id, client->read_of);
    }
    sim_model_check_read(client, answer);
    if (err == ERR_OK && answer->grant != 0) {
        client->cached[client->read_of] = (struct sim_cached){
            .valid = true, .ino = answer->attr->ino, .zxid = answer->zxid, .grant = answer->grant};
    }
    client->reads_done++;
}

void sim_load_answered(struct sim_client *client, const Wire__Answer *answer)
{
    if ((answer->call & 1) != 0) {
        if (answer->call != client->read_call) {
            sim_failed(client->sim, "a read was answered twice", client->id, answer->call);
        }
        read_answered(client, answer);
        return;
    }
    struct sim_write *write = find_write(client, answer->call >> 1);
    if (write == NULL || write->sequence == 0) {
        sim_failed(client->sim, "a write was answered twice", client->id, answer->call);
    }
    write_answered(client, write, answer);
}

/* ---- promises ---- */

void sim_load_event(struct sim_client *client, const Wire__Event *event)
{
    struct client_conn *conn = client->conn;
    bool is_change = event->kind != WIRE__EVENT_KIND__EVENT_RESYNC &&
                     event->kind != WIRE__EVENT_KIND__EVENT_REVOKED;
    if (event->zxid < conn->event_zxid || (is_change && event->zxid <= conn->zxid)) {
        sim_failed(client->sim, "an event comes behind what it changed", client->id, event->zxid);
    }
    conn->event_zxid = event->zxid;
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        if (client->cached[i].valid && client->cached[i].ino == event->ino) {
            client->cached[i].valid = false;
        }
    }
}

void sim_load_shown(struct sim_client *client, uint64_t zxid)
{
    struct sim *sim = client->sim;
    for (size_t i = 0; i < SIM_CLIENTS && client->attached && !client->reclaiming; i++) {
        const struct sim_cached *cached = &client->cached[i];
        if (cached->valid && sim_model_register_zxid(sim, i, zxid) > cached->zxid) {
            sim_trace(sim, "register %zu: known %" PRIu64 ", changed %" PRIu64, i, cached->zxid,
                      sim_model_register_zxid(sim, i, zxid));
            sim_failed(sim, "a change was not announced", client->id, zxid);
        }
    }
}

void sim_load_reclaim(struct sim_client *client)
{
    Wire__Reclaim__One known[SIM_CLIENTS];
    Wire__Reclaim__One *nodes[SIM_CLIENTS];
    Wire__Reclaim reclaim = WIRE__RECLAIM__INIT;
    client->reclaiming = false;
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        client->cached[i].grant = 0; /* Numbers of grants begin anew with each connection. */
        if (client->cached[i].valid) {
            wire__reclaim__one__init(&known[i]);
            known[i].ino = client->cached[i].ino;
            known[i].zxid = client->cached[i].zxid;
            nodes[reclaim.n_nodes++] = &known[i];
        }
    }
    if (reclaim.n_nodes == 0) {
        return;
    }
    client->reclaiming = true;
    reclaim.nodes = nodes;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_RECLAIM;
    message.reclaim = &reclaim;
    sim_serve_post(client->conn, &message);
}

/* The kernel has dropped a node: its promise goes back, unless a newer answer crosses. */
static void forget(struct sim_client *client)
{
    struct sim_cached *cached = &client->cached[sim_random(client->sim, SIM_CLIENTS)];
    if (!cached->valid || cached->grant == 0) {
        return;
    }
    Wire__Forget__One one = WIRE__FORGET__ONE__INIT;
    Wire__Forget__One *nodes[1] = {&one};
    one.ino = cached->ino;
    one.grant = cached->grant;
    Wire__Forget body = WIRE__FORGET__INIT;
    body.n_nodes = 1;
    body.nodes = nodes;
    Wire__ToReplica message = WIRE__TO_REPLICA__INIT;
    message.body_case = WIRE__TO_REPLICA__BODY_FORGET;
    message.forget = &body;
    sim_serve_post(client->conn, &message);
    cached->valid = false;
}

void sim_load_tick(struct sim_client *client)
{
    if (client->promises && sim_chance(client->sim, FORGET_PPM)) {
        forget(client);
    }
    begin_write(client);
    if (client->read_call == 0) {
        begin_read(client);
    }
}
