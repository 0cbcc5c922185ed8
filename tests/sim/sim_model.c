/* SPDX-License-Identifier: Apache-2.0
 *
 * What the log means, in the plainest way: a map of paths, the sessions and the answers that each
 * command must get. Fed with every entry by the first replica that applies it; later ones must
 * apply the same bytes. Knows only the operations that simulated clients use.
 *
 * What it checks (sim_failed otherwise):
 *   1. An index holds the same entry on all replicas, before and after crashes.
 *   2. What is applied lies durably in the logs of a majority.
 *   3. Answers of writes and reads are those of the model at their zxid.
 *   4. A session lives for its whole timeout after the last thing that was confirmed to its client.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/limits.h"
#include "common/version.h"
#include "server/replica_internal.h"
#include "tests/sim/sim.h"

#define ROUNDING_US  2000u /* clocks of replicas show milliseconds */
#define NAME_MAX_SIM 64u

/* What an entry did. */
struct outcome {
    uint64_t hash; /* of the entry; 0: nobody has applied it */
    bool command;
    uint64_t session;
    uint64_t sequence;
    enum err err;
    uint64_t first; /* the index that did it, if this is a repetition */
    char name[NAME_MAX_SIM];
};

struct model_session {
    uint64_t id;
    uint64_t epoch;
    uint8_t opened_by[16];
    uint8_t nonce[16];
    uint64_t closed_us; /* UINT64_MAX: lives */
};

/* The front of a node's value in `nodes`; its data follows. */
struct model_node {
    uint64_t owner;
    uint64_t creates;
    uint64_t xattr; /* value of its attribute; 0: it has none */
};

struct moment {
    uint64_t zxid;
    uint64_t value;
};

struct history {
    struct moment *moments;
    size_t count;
    size_t capacity;
};

struct sim_model {
    struct outcome *outcomes; /* of index i at i */
    size_t count;             /* indexes 1..count are known */
    size_t capacity;
    struct model_session *sessions; /* by ascending id */
    size_t session_count;
    size_t session_capacity;
    struct omap *nodes;   /* path -> struct model_node, data */
    struct omap *answers; /* session, slot -> sequence, index */
    struct omap *parts;   /* session, stage, part -> appended bytes */
    struct history registers[SIM_CLIENTS];
};

static void *room_for(void *array, size_t *capacity, size_t count, size_t size)
{
    if (count < *capacity) {
        return array;
    }
    *capacity = *capacity == 0 ? 256 : *capacity * 2;
    void *moved = realloc(array, *capacity * size);
    CHECK(moved != NULL);
    return moved;
}

struct sim_model *sim_model_new(void)
{
    struct sim_model *model = sim_new(sizeof *model);
    model->nodes = omap_new();
    model->answers = omap_new();
    model->parts = omap_new();
    CHECK(model->nodes != NULL && model->answers != NULL && model->parts != NULL);
    return model;
}

void sim_model_free(struct sim_model *model)
{
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        free(model->registers[i].moments);
    }
    omap_free(model->nodes);
    omap_free(model->answers);
    omap_free(model->parts);
    free(model->sessions);
    free(model->outcomes);
    free(model);
}

uint64_t sim_entry_hash(const struct raft_entry *entry)
{
    uint64_t hash = 0x9e3779b97f4a7c15u ^ entry->term << 8 ^ entry->type;
    hash = (hash ^ entry->index) * 0xbf58476d1ce4e5b9u;
    hash = (hash ^ (uint64_t)entry->time_ns) * 0xbf58476d1ce4e5b9u;
    for (size_t i = 0; i < entry->len; i++) {
        hash = (hash ^ entry->data[i]) * 0x100000001b3u;
    }
    return hash | 1;
}

/* ---- sessions ---- */

static struct model_session *session_find(const struct sim_model *model, uint64_t id)
{
    size_t low = 0;
    size_t high = model->session_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (model->sessions[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < model->session_count && model->sessions[low].id == id ? &model->sessions[low]
                                                                       : NULL;
}

static struct model_session *session_living(const struct sim_model *model, uint64_t id)
{
    struct model_session *session = session_find(model, id);
    return session != NULL && session->closed_us == UINT64_MAX ? session : NULL;
}

uint64_t sim_model_closed_us(const struct sim *sim, uint64_t session)
{
    const struct model_session *found = session_find(sim->model, session);
    return found != NULL ? found->closed_us : UINT64_MAX;
}

static enum err session_open(struct sim_model *model, uint64_t index, const Wire__SessionOpenOp *op)
{
    for (size_t i = 0; i < model->session_count; i++) {
        const struct model_session *session = &model->sessions[i];
        if (session->closed_us == UINT64_MAX &&
            memcmp(session->opened_by, op->nonce.data, sizeof session->opened_by) == 0) {
            return ERR_OK;
        }
    }
    model->sessions = room_for(model->sessions, &model->session_capacity, model->session_count,
                               sizeof *model->sessions);
    struct model_session *session = &model->sessions[model->session_count++];
    *session = (struct model_session){.id = index, .epoch = 1, .closed_us = UINT64_MAX};
    memcpy(session->opened_by, op->nonce.data, sizeof session->opened_by);
    memcpy(session->nonce, op->nonce.data, sizeof session->nonce);
    return ERR_OK;
}

static enum err session_attach(struct sim_model *model, const Wire__SessionAttachOp *op)
{
    struct model_session *session = session_living(model, op->session);
    if (session == NULL) {
        return ERR_SESSION_EXPIRED;
    }
    if (memcmp(session->nonce, op->nonce.data, sizeof session->nonce) != 0) {
        session->epoch++;
        memcpy(session->nonce, op->nonce.data, sizeof session->nonce);
    }
    return ERR_OK;
}

/* Check 4. A client that asked for the end itself, or has forgotten its session, does not mind. */
static void check_lease(struct sim *sim, uint64_t session)
{
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        const struct sim_client *client = &sim->client[i];
        if (client->session == session && !client->closing &&
            sim->now_us + ROUNDING_US < client->lease_us + SIM_SESSION_MS * 1000u) {
            sim_failed(sim, "a session expired too early", session, client->lease_us);
        }
    }
}

/* Removes the parts of a stage, or (stage 0) of all stages of the session. */
static void parts_drop(struct sim_model *model, uint64_t session, uint64_t stage)
{
    uint8_t prefix[16];
    size_t len = stage == 0 ? 8 : 16;
    put_be64(prefix, session);
    put_be64(prefix + 8, stage);
    const struct omap_entry *entry = omap_seek(model->parts, prefix, len);
    while (entry != NULL && memcmp(entry->key, prefix, len) == 0) {
        const struct omap_entry *next = omap_next(model->parts, entry);
        omap_remove(model->parts, entry->key, entry->key_len);
        entry = next;
    }
}

static enum err session_close(struct sim *sim, const Wire__SessionCloseOp *op)
{
    struct sim_model *model = sim->model;
    struct model_session *session = session_living(model, op->session);
    if (session == NULL) {
        return ERR_SESSION_EXPIRED;
    }
    if (session->epoch != op->epoch) {
        return ERR_SESSION_MOVED;
    }
    check_lease(sim, op->session);
    session->closed_us = sim->now_us;
    parts_drop(model, session->id, 0);
    const struct omap_entry *entry = omap_seek(model->nodes, NULL, 0);
    while (entry != NULL) {
        const struct omap_entry *next = omap_next(model->nodes, entry);
        struct model_node node;
        memcpy(&node, entry->value, sizeof node);
        if (node.owner == session->id) {
            omap_remove(model->nodes, entry->key, entry->key_len);
        }
        entry = next;
    }
    return ERR_OK;
}

/* ---- nodes ---- */

static void node_put(struct sim_model *model, const void *path, size_t path_len,
                     const struct model_node *node, const ProtobufCBinaryData *data)
{
    uint8_t value[sizeof *node + NAME_MAX_SIM];
    CHECK(data->len <= NAME_MAX_SIM);
    memcpy(value, node, sizeof *node);
    if (data->len > 0) {
        memcpy(value + sizeof *node, data->data, data->len);
    }
    CHECK(omap_put(model->nodes, path, path_len, value, sizeof *node + data->len) == ERR_OK);
}

/* Counts a create below the directory of `path`; false: there is none. */
static bool count_create(struct sim_model *model, const char *path, uint64_t *out_number)
{
    const char *slash = strrchr(path, '/');
    ProtobufCBinaryData none = {0};
    CHECK(slash != NULL);
    *out_number = 0;
    if (slash == path) {
        return true; /* Nothing is sequential below the root. */
    }
    const struct omap_entry *entry = omap_get(model->nodes, path, (size_t)(slash - path));
    if (entry == NULL) {
        return false;
    }
    struct model_node node;
    memcpy(&node, entry->value, sizeof node);
    *out_number = node.creates++;
    node_put(model, path, (size_t)(slash - path), &node, &none);
    return true;
}

static enum err create(struct sim_model *model, uint64_t session, const Wire__CreateOp *op,
                       struct outcome *outcome)
{
    char path[NAME_MAX_SIM];
    uint64_t number = 0;
    CHECK(op->at->path.len + 11 < sizeof path);
    (void)snprintf(path, sizeof path, "%.*s", (int)op->at->path.len,
                   (const char *)op->at->path.data);
    if (omap_get(model->nodes, path, strlen(path)) != NULL) {
        return ERR_EXISTS;
    }
    if (!count_create(model, path, &number)) {
        return ERR_NO_NODE;
    }
    if (op->sequential) {
        size_t len = strlen(path);
        (void)snprintf(path + len, sizeof path - len, "%010" PRIu64, number);
    }
    struct model_node node = {.owner = op->ephemeral ? session : 0};
    node_put(model, path, strlen(path), &node, &op->data);
    (void)snprintf(outcome->name, sizeof outcome->name, "%s", strrchr(path, '/') + 1);
    return ERR_OK;
}

static enum err stage(struct sim_model *model, uint64_t session, const Wire__StageOp *op)
{
    uint8_t key[20];
    if (op->drop) {
        parts_drop(model, session, op->stage);
        return ERR_OK;
    }
    put_be64(key, session);
    put_be64(key + 8, op->stage);
    put_be32(key + 16, op->part);
    if (omap_get(model->parts, key, sizeof key) != NULL) {
        return ERR_EXISTS;
    }
    CHECK(omap_put(model->parts, key, sizeof key, op->append.data, op->append.len) == ERR_OK);
    return ERR_OK;
}

/* The parts of a stage one behind the other; false: not these are there. */
static bool parts_gather(const struct sim_model *model, uint64_t session, const Wire__WriteOp *op,
                         struct buffer *out)
{
    uint8_t prefix[16];
    uint32_t count = 0;
    put_be64(prefix, session);
    put_be64(prefix + 8, op->stage);
    const struct omap_entry *entry = omap_seek(model->parts, prefix, sizeof prefix);
    while (entry != NULL && memcmp(entry->key, prefix, sizeof prefix) == 0) {
        if (get_be32(entry->key + 16) != count++) {
            return false;
        }
        CHECK(buffer_append(out, entry->value, entry->value_len) == ERR_OK);
        entry = omap_next(model->parts, entry);
    }
    return count == op->stage_parts;
}

static enum err set_xattr(struct sim_model *model, const Wire__XattrOp *op)
{
    const struct omap_entry *entry = omap_get(model->nodes, op->at->path.data, op->at->path.len);
    if (entry == NULL) {
        return ERR_NO_NODE;
    }
    struct model_node node;
    memcpy(&node, entry->value, sizeof node);
    if (op->remove && node.xattr == 0) {
        return ERR_XATTR_NONE;
    }
    node.xattr = op->remove ? 0 : get_be64(op->value.data);
    uint8_t bytes[NAME_MAX_SIM];
    ProtobufCBinaryData data = {.len = entry->value_len - sizeof node, .data = bytes};
    CHECK(data.len <= sizeof bytes);
    memcpy(bytes, entry->value + sizeof node, data.len);
    node_put(model, op->at->path.data, op->at->path.len, &node, &data);
    return ERR_OK;
}

static enum err write_register(struct sim_model *model, uint64_t index, const Wire__WriteOp *op,
                               const ProtobufCBinaryData *data)
{
    const struct omap_entry *entry = omap_get(model->nodes, op->at->path.data, op->at->path.len);
    if (entry == NULL) {
        return ERR_NO_NODE;
    }
    struct model_node node;
    memcpy(&node, entry->value, sizeof node);
    node_put(model, op->at->path.data, op->at->path.len, &node, data);
    /* Registers are called /r0, /r1 ... */
    size_t of = (size_t)(op->at->path.data[2] - '0');
    CHECK(op->at->path.len == 3 && of < SIM_CLIENTS);
    struct history *history = &model->registers[of];
    history->moments =
        room_for(history->moments, &history->capacity, history->count, sizeof *history->moments);
    char text[32];
    (void)snprintf(text, sizeof text, "%.*s", (int)data->len, (const char *)data->data);
    history->moments[history->count++] =
        (struct moment){.zxid = index, .value = strtoull(text, NULL, 10)};
    return ERR_OK;
}

static enum err write_data(struct sim_model *model, uint64_t index, uint64_t session,
                           const Wire__WriteOp *op)
{
    struct buffer staged = {0};
    enum err err = ERR_STAGE_LOST;
    if (op->stage == 0) {
        return write_register(model, index, op, &op->append);
    }
    if (omap_get(model->nodes, op->at->path.data, op->at->path.len) == NULL) {
        return ERR_NO_NODE;
    }
    if (parts_gather(model, session, op, &staged)) {
        ProtobufCBinaryData data = wire_bytes(staged.data, staged.len);
        err = write_register(model, index, op, &data);
        parts_drop(model, session, op->stage);
    }
    buffer_done(&staged);
    return err;
}

static enum err remove_node(struct sim_model *model, const Wire__RemoveOp *op)
{
    if (omap_get(model->nodes, op->at->path.data, op->at->path.len) == NULL) {
        return ERR_NO_NODE;
    }
    omap_remove(model->nodes, op->at->path.data, op->at->path.len);
    return ERR_OK;
}

/* Both changes that send_multi asks for, or none, as the condition behind them never holds. */
static enum err multi(struct sim_model *model, uint64_t index, const Wire__Command *command,
                      struct outcome *outcome)
{
    const Wire__MultiOp *op = command->op->multi;
    if (op->n_parts > 2) {
        return ERR_NO_NODE;
    }
    enum err err = create(model, command->session, op->parts[0]->create, outcome);
    return err == ERR_OK ? write_data(model, index, command->session, op->parts[1]->write) : err;
}

/* ---- commands ---- */

static enum err apply_op(struct sim *sim, uint64_t index, const Wire__Command *command,
                         struct outcome *outcome)
{
    struct sim_model *model = sim->model;
    const Wire__Op *op = command->op;
    switch (op->body_case) {
    case WIRE__OP__BODY_CREATE:
        return create(model, command->session, op->create, outcome);
    case WIRE__OP__BODY_WRITE:
        return write_data(model, index, command->session, op->write);
    case WIRE__OP__BODY_STAGE:
        return stage(model, command->session, op->stage);
    case WIRE__OP__BODY_XATTR:
        return set_xattr(model, op->xattr);
    case WIRE__OP__BODY_MULTI:
        return multi(model, index, command, outcome);
    case WIRE__OP__BODY_REMOVE:
        return remove_node(model, op->remove);
    case WIRE__OP__BODY_SESSION_OPEN:
        return session_open(model, index, op->session_open);
    case WIRE__OP__BODY_SESSION_ATTACH:
        return session_attach(model, op->session_attach);
    case WIRE__OP__BODY_SESSION_CLOSE:
        return session_close(sim, op->session_close);
    case WIRE__OP__BODY_FEATURE_LEVEL:
        if (op->feature_level->level >= FEATURE_FILES && sim->files_zxid == UINT64_MAX) {
            sim->files_zxid = index;
        }
        return ERR_OK;
    case WIRE__OP__BODY_SETATTR:
    case WIRE__OP__BODY_RENAME:
    case WIRE__OP__BODY_CANCEL:
    case WIRE__OP__BODY_LOCK:
    case WIRE__OP__BODY__NOT_SET:
    case _WIRE__OP__BODY__CASE_IS_INT_SIZE:
        break;
    }
    sim_failed(sim, "an operation that no client has asked for", index, op->body_case);
}

static enum err apply_once(struct sim *sim, uint64_t index, const Wire__Command *command,
                           struct outcome *outcome)
{
    struct sim_model *model = sim->model;
    const struct model_session *session = session_living(model, command->session);
    if (session == NULL) {
        return ERR_SESSION_EXPIRED;
    }
    if (session->epoch != command->epoch) {
        return ERR_SESSION_MOVED;
    }
    if (command->sequence < command->answered_below) {
        return ERR_ANSWER_LOST;
    }
    uint8_t key[16];
    uint8_t value[16];
    put_be64(key, command->session);
    put_be64(key + 8, command->sequence % SESSION_WINDOW);
    const struct omap_entry *kept = omap_get(model->answers, key, sizeof key);
    if (kept != NULL && get_be64(kept->value) > command->sequence) {
        return ERR_ANSWER_LOST;
    }
    if (kept != NULL && get_be64(kept->value) == command->sequence) {
        outcome->first = get_be64(kept->value + 8);
        return model->outcomes[outcome->first].err;
    }
    put_be64(value, command->sequence);
    put_be64(value + 8, index);
    CHECK(omap_put(model->answers, key, sizeof key, value, sizeof value) == ERR_OK);
    return apply_op(sim, index, command, outcome);
}

static void apply(struct sim *sim, const struct raft_entry *entry)
{
    struct sim_model *model = sim->model;
    ProtobufCMessage *message = NULL;
    struct outcome outcome = {.hash = sim_entry_hash(entry), .first = entry->index};
    if (entry->type == RAFT_ENTRY_COMMAND) {
        CHECK(wire_unpack(&wire__command__descriptor, entry->data, entry->len, &message) == ERR_OK);
        const Wire__Command *command = (const Wire__Command *)message;
        outcome.command = true;
        outcome.session = command->session;
        outcome.sequence = command->sequence;
        outcome.err = command->sequence == 0 ? apply_op(sim, entry->index, command, &outcome)
                                             : apply_once(sim, entry->index, command, &outcome);
        wire_free(message);
    }
    model->outcomes =
        room_for(model->outcomes, &model->capacity, entry->index, sizeof *model->outcomes);
    model->outcomes[entry->index] = outcome;
    model->count = entry->index;
}

/* A log that was lost with its folder counts as it was: its loss is no fault of ours. */
static bool holds(const struct sim *sim, const struct raft_member *member, uint64_t index,
                  uint64_t hash)
{
    const struct sim_node *node = &sim->node[member->id - 1];
    const struct sim_durable *durable = &node->durable;
    if (node->identity.incarnation != member->incarnation) {
        if (node->credit_incarnation != member->incarnation) {
            return false;
        }
        durable = &node->credit;
    }
    return index <= durable->count && durable->hash[index - 1] == hash;
}

/* The newest leader that is up; NULL: there is none. */
static const struct sim_node *newest_leader(const struct sim *sim)
{
    const struct sim_node *leader = NULL;
    for (size_t i = 0; i < sim->node_count; i++) {
        const struct sim_node *node = &sim->node[i];
        if (node->up && node->led && (leader == NULL || node->term_seen > leader->term_seen)) {
            leader = node;
        }
    }
    return leader;
}

/* Check 2. The members are those that the leader counts by, of joint ones a majority of both kinds.
 * Not of an entry from before these members: those who had it need not be voters any more. */
static void check_majority(struct sim *sim, uint64_t index, uint64_t hash)
{
    const struct sim_node *leader = newest_leader(sim);
    const struct raft_members *members = NULL;
    struct raft_status status;
    size_t voters[2] = {0};
    size_t holders[2] = {0};
    if (leader == NULL) {
        return;
    }
    members = raft_members(leader->replica->raft);
    replica_raft_status(leader->replica, &status);
    if (index < status.members_index) {
        return;
    }
    for (size_t i = 0; i < members->count; i++) {
        const struct raft_member *member = &members->member[i];
        bool has = holds(sim, member, index, hash);
        voters[0] += member->voter;
        holders[0] += member->voter && has;
        voters[1] += member->was_voter;
        holders[1] += member->was_voter && has;
    }
    for (size_t i = 0; i < 2; i++) {
        if (voters[i] > 0 && holders[i] <= voters[i] / 2) {
            sim_failed(sim, "applied without a durable majority", index, holders[i]);
        }
    }
}

void sim_model_applied(struct sim_node *node, const struct raft_entry *entry)
{
    struct sim *sim = node->sim;
    struct sim_model *model = sim->model;
    uint64_t hash = sim_entry_hash(entry);
    if (entry->index <= model->count) {
        if (model->outcomes[entry->index].hash != hash) {
            sim_failed(sim, "two entries at one index", node->id, entry->index);
        }
        return;
    }
    CHECK_OP(entry->index, ==, model->count + 1);
    check_majority(sim, entry->index, hash);
    apply(sim, entry);
}

uint64_t sim_model_missing(const struct sim *sim, const struct sim_durable *durable)
{
    const struct sim_model *model = sim->model;
    for (uint64_t index = 1; index <= model->count; index++) {
        if (index > durable->count || durable->hash[index - 1] != model->outcomes[index].hash) {
            return index;
        }
    }
    return 0;
}

/* ---- answers ---- */

void sim_model_check_write(struct sim_client *client, uint64_t sequence, const Wire__Answer *answer)
{
    struct sim *sim = client->sim;
    struct sim_model *model = sim->model;
    if (answer->zxid == 0 || answer->zxid > model->count) {
        sim_failed(sim, "an answer from the future", client->id, answer->zxid);
    }
    const struct outcome *outcome = &model->outcomes[answer->zxid];
    if (outcome->session != client->session || outcome->sequence != sequence ||
        outcome->err != err_from_number(answer->err) || outcome->first != answer->zxid) {
        sim_failed(sim, "a write was answered wrongly", answer->zxid, sequence);
    }
    const ProtobufCBinaryData *name = answer->n_parts > 0 ? &answer->parts[0]->name : &answer->name;
    if (outcome->err == ERR_OK && name->len > 0 &&
        (name->len != strlen(outcome->name) || memcmp(name->data, outcome->name, name->len) != 0)) {
        sim_failed(sim, "a create has another name", answer->zxid, sequence);
    }
}

/* The place behind the last moment <= zxid. */
static size_t moments_until(const struct history *history, uint64_t zxid)
{
    size_t count = history->count;
    while (count > 0 && history->moments[count - 1].zxid > zxid) {
        count--;
    }
    return count;
}

uint64_t sim_model_register_zxid(const struct sim *sim, uint64_t of, uint64_t zxid)
{
    const struct history *history = &sim->model->registers[of];
    size_t count = moments_until(history, zxid);
    return count > 0 ? history->moments[count - 1].zxid : 0;
}

void sim_model_check_read(struct sim_client *client, const Wire__Answer *answer)
{
    struct sim *sim = client->sim;
    if (answer->zxid > sim->model->count) {
        sim_failed(sim, "a read from the future", client->id, answer->zxid);
    }
    const struct history *history = &sim->model->registers[client->read_of];
    size_t count = moments_until(history, answer->zxid);
    char text[32] = "";
    if (count > 0) {
        (void)snprintf(text, sizeof text, "%" PRIu64, history->moments[count - 1].value);
    }
    if (answer->data.len != strlen(text) ||
        (answer->data.len > 0 && memcmp(answer->data.data, text, answer->data.len) != 0)) {
        sim_failed(sim, "a read shows another value", client->read_of, answer->zxid);
    }
}

/* ---- the whole tree ---- */

static void take_xattr(void *arg, const uint8_t *name, size_t name_len, const uint8_t *value,
                       size_t value_len)
{
    bool is_ours = name_len == 8 && memcmp(name, "user.sim", 8) == 0 && value_len == 8;
    *(uint64_t *)arg = is_ours ? get_be64(value) : UINT64_MAX;
}

/* The value of the attribute of a node; 0: none. */
static uint64_t xattr_of(struct tree *tree, const struct tree_address *at)
{
    struct tree_identity trusted = {.trusted = true};
    struct node_attr attr;
    struct buffer holder = {0};
    uint64_t value = 0;
    CHECK(tree_xattrs(tree, at, &trusted, take_xattr, &value, &attr, &holder) == ERR_OK);
    buffer_done(&holder);
    return value;
}

/* Compares the tree of a replica that has applied everything with the model. */
void sim_model_check_tree(struct sim_node *node)
{
    struct sim *sim = node->sim;
    const struct sim_model *model = sim->model;
    struct tree *tree = node->replica->tree;
    struct tree_identity trusted = {.trusted = true};
    struct buffer data = {0};
    const struct omap_entry *entry = omap_seek(model->nodes, NULL, 0);
    for (; entry != NULL; entry = omap_next(model->nodes, entry)) {
        struct tree_address at = {.path = entry->key, .path_len = entry->key_len};
        struct node_attr attr;
        struct model_node expected;
        size_t len = entry->value_len - sizeof expected;
        memcpy(&expected, entry->value, sizeof expected);
        if (tree_lookup(tree, &at, &trusted, &attr, NULL) != ERR_OK ||
            attr.owner != expected.owner) {
            sim_failed(sim, "a node is missing or has another owner", node->id, entry->key_len);
        }
        if (xattr_of(tree, &at) != expected.xattr) {
            sim_failed(sim, "a node has another attribute", node->id, entry->key_len);
        }
        if (attr.kind != NODE_DIR &&
            (tree_read(tree, &at, &trusted, 0, NAME_MAX_SIM, &attr, &data) != ERR_OK ||
             data.len != len ||
             (len > 0 && memcmp(data.data, entry->value + sizeof expected, len) != 0))) {
            sim_failed(sim, "a node has other data", node->id, entry->key_len);
        }
    }
    buffer_done(&data);
    if (tree_node_count(tree) != omap_count(model->nodes) + 1) {
        sim_failed(sim, "the tree has other nodes", tree_node_count(tree),
                   omap_count(model->nodes));
    }
    for (size_t i = 0; i < model->session_count; i++) {
        const struct model_session *session = &model->sessions[i];
        struct tree_session found;
        bool lives = tree_session_get(tree, session->id, &found);
        if (lives != (session->closed_us == UINT64_MAX) ||
            (lives && found.epoch != session->epoch)) {
            sim_failed(sim, "a session is not as it should be", node->id, session->id);
        }
    }
}

uint64_t sim_model_session(const struct sim *sim, uint64_t after)
{
    const struct sim_model *model = sim->model;
    for (size_t i = 0; i < model->session_count; i++) {
        if (model->sessions[i].id > after && model->sessions[i].closed_us == UINT64_MAX) {
            return model->sessions[i].id;
        }
    }
    return 0;
}
