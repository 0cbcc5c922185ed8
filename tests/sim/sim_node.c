/* SPDX-License-Identifier: Apache-2.0
 *
 * A simulated replica: the real conductor, core, log and tree over a virtual disk, a store in
 * memory that loses its unflushed half at a crash, and a network that delays, loses, doubles and
 * reorders.
 *
 * Invariants:
 *   1. What was under way for an earlier life of a node is dropped (`life`).
 *   2. Saves are done one at a time in order, as the log thread does them.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "tests/sim/sim.h"

#define LINK_UP_US 2000u
#define FOLDER "/log"

/* ---- the network between replicas ---- */

/* A message on its way: either for the core or packed. */
struct packet {
    struct sim_node *to;
    uint64_t to_life;
    uint64_t from;
    bool is_raft;
    struct raft_message raft;
    struct buffer bytes;
};

static void packet_free(struct packet *packet)
{
    for (size_t i = 0; i < packet->raft.entry_count; i++) {
        raft_entry_unref(packet->raft.entries[i]);
    }
    free(packet->raft.entries);
    buffer_done(&packet->bytes);
    free(packet);
}

bool sim_node_is_running(const struct sim_node *node)
{
    return node->up && node->sim->now_us >= node->paused_until_us;
}

/* A paused node finds its messages when it wakes up. */
static bool put_off(struct sim *sim, struct sim_node *node, sim_run_fn *run, void *arg)
{
    if (node->up && sim->now_us < node->paused_until_us) {
        sim_at(sim, node->paused_until_us, run, arg);
        return true;
    }
    return false;
}

static void deliver(struct sim *sim, void *arg)
{
    struct packet *packet = arg;
    struct sim_node *node = packet->to;
    if (put_off(sim, node, deliver, arg)) {
        return;
    }
    if (node->up && node->life == packet->to_life) {
        if (packet->is_raft) {
            CHECK(replica_peer_raft(node->replica, &packet->raft) == ERR_OK);
        } else {
            ProtobufCMessage *message = NULL;
            CHECK(wire_unpack(&wire__peer_message__descriptor, packet->bytes.data,
                              packet->bytes.len, &message) == ERR_OK);
            CHECK(replica_peer_message(node->replica, packet->from,
                                       (const Wire__PeerMessage *)message) == ERR_OK);
            wire_free(message);
        }
        sim_node_turn(node);
    }
    packet_free(packet);
}

static struct packet *packet_new(struct sim_node *from, uint64_t to)
{
    struct packet *packet = calloc(1, sizeof *packet);
    CHECK(packet != NULL);
    packet->to = &from->sim->node[to - 1];
    packet->to_life = packet->to->life;
    packet->from = from->id;
    return packet;
}

static void post(struct sim *sim, struct packet *packet)
{
    if (sim->cut[packet->from - 1][packet->to->id - 1] || sim_chance(sim, sim->rates.loss_ppm)) {
        packet_free(packet);
        return;
    }
    sim_at(sim, sim->now_us + 50 + sim_random(sim, sim->rates.delay_us_max), deliver, packet);
}

static struct packet *packet_raft(struct sim_node *from, const struct raft_message *message)
{
    struct packet *packet = packet_new(from, message->to);
    packet->is_raft = true;
    packet->raft = *message;
    packet->raft.entries = NULL;
    if (message->entry_count > 0) {
        packet->raft.entries = calloc(message->entry_count, sizeof(struct raft_entry *));
        CHECK(packet->raft.entries != NULL);
    }
    for (size_t i = 0; i < message->entry_count; i++) {
        const struct raft_entry *entry = message->entries[i];
        struct raft_entry *copy = raft_entry_new(entry->type, entry->data, entry->len);
        CHECK(copy != NULL);
        copy->index = entry->index;
        copy->term = entry->term;
        copy->time_ns = entry->time_ns;
        packet->raft.entries[i] = copy;
    }
    return packet;
}

static void peer_send_raft(void *context, const struct raft_message *message)
{
    struct sim_node *node = context;
    struct sim *sim = node->sim;
    if (message->to == 0 || message->to > SIM_NODES) {
        sim_failed(sim, "a message to nobody", message->to, message->type);
    }
    post(sim, packet_raft(node, message));
    if (sim_chance(sim, sim->rates.duplicate_ppm)) {
        post(sim, packet_raft(node, message));
    }
}

static void peer_send(void *context, uint64_t to, const Wire__PeerMessage *message)
{
    struct sim_node *node = context;
    struct packet *packet = packet_new(node, to);
    CHECK(wire_pack(&message->base, &packet->bytes) == ERR_OK);
    post(node->sim, packet);
}

static bool peer_is_connected(void *context, uint64_t id)
{
    struct sim_node *node = context;
    return node->sim->node[id - 1].up;
}

/* Two nodes that are up find each other: both hear who the other is. */
struct link {
    struct sim_node *a;
    struct sim_node *b;
    uint64_t a_life;
    uint64_t b_life;
};

static void hello(struct sim_node *to, const struct sim_node *from)
{
    const struct replica_identity *identity = &from->identity;
    enum err err = replica_peer_hello(to->replica, from->id, identity->incarnation,
                                      identity->ensemble,
                                      identity->formed ? ENSEMBLE_ID_BYTES : 0);
    CHECK(err == ERR_OK);
    replica_peer_connected(to->replica, from->id);
}

static void link_up(struct sim *sim, void *arg)
{
    struct link *link = arg;
    if (put_off(sim, link->a, link_up, arg) || put_off(sim, link->b, link_up, arg)) {
        return;
    }
    if (link->a->up && link->b->up && link->a->life == link->a_life &&
        link->b->life == link->b_life) {
        hello(link->a, link->b);
        hello(link->b, link->a);
        sim_node_turn(link->a);
        sim_node_turn(link->b);
    }
    free(link);
}

static void link_down(struct sim *sim, void *arg)
{
    struct link *link = arg;
    if (put_off(sim, link->a, link_down, arg)) {
        return;
    }
    if (link->a->up && link->a->life == link->a_life) {
        replica_peer_closed(link->a->replica, link->b->id);
        sim_node_turn(link->a);
    }
    free(link);
}

static struct link *link_new(struct sim_node *a, struct sim_node *b)
{
    struct link *link = calloc(1, sizeof *link);
    CHECK(link != NULL);
    *link = (struct link){.a = a, .b = b, .a_life = a->life, .b_life = b->life};
    return link;
}

/* ---- the disk ---- */

static void save_free(struct sim_save *save)
{
    for (size_t i = 0; i < save->work.entry_count; i++) {
        raft_entry_unref(save->work.entries[i]);
    }
    free(save->work.entries);
    free(save);
}

static enum err save_do(struct sim_node *node, const struct log_save *work,
                        struct log_saved *saved)
{
    enum err err = ERR_OK;
    if (work->save_term) {
        err = log_save_term(node->log, work->term, work->vote);
        saved->term_saved = true;
        saved->term = work->term;
    }
    if (err == ERR_OK && work->truncate) {
        err = log_truncate(node->log, work->truncate_index);
    }
    if (err == ERR_OK && work->entry_count > 0) {
        err = log_append(node->log, work->entries, work->entry_count);
        saved->log_saved = true;
        saved->index = work->entries[work->entry_count - 1]->index;
        saved->entry_term = work->entries[work->entry_count - 1]->term;
    }
    return err;
}

struct save_event {
    struct sim_node *node;
    uint64_t life;
};

static void save_next(struct sim_node *node);

static void save_done(struct sim *sim, void *arg)
{
    struct save_event *event = arg;
    struct sim_node *node = event->node;
    if (put_off(sim, node, save_done, arg)) {
        return;
    }
    if (node->up && node->life == event->life) {
        struct sim_save *save = node->saves;
        struct log_saved saved = {.index = 0};
        CHECK(save_do(node, &save->work, &saved) == ERR_OK);
        node->saves = save->next;
        if (node->saves == NULL) {
            node->saves_end = &node->saves;
        }
        save_free(save);
        node->saving = false;
        replica_log_saved(node->replica, &saved);
        save_next(node);
        sim_node_turn(node);
    }
    free(event);
}

static void save_next(struct sim_node *node)
{
    if (node->saving || node->saves == NULL) {
        return;
    }
    struct save_event *event = calloc(1, sizeof *event);
    CHECK(event != NULL);
    *event = (struct save_event){.node = node, .life = node->life};
    node->saving = true;
    struct sim *sim = node->sim;
    sim_at(sim, sim->now_us + 20 + sim_random(sim, sim->rates.sync_us_max), save_done, event);
}

static enum err log_submit(void *context, const struct log_save *work)
{
    struct sim_node *node = context;
    struct sim_save *save = calloc(1, sizeof *save);
    CHECK(save != NULL);
    save->work = *work;
    save->work.entries = NULL;
    if (work->entry_count > 0) {
        save->work.entries = calloc(work->entry_count, sizeof(struct raft_entry *));
        CHECK(save->work.entries != NULL);
    }
    for (size_t i = 0; i < work->entry_count; i++) {
        save->work.entries[i] = raft_entry_ref(work->entries[i]);
    }
    *node->saves_end = save;
    node->saves_end = &save->next;
    save_next(node);
    return ERR_OK;
}

static enum err node_log_read(void *context, uint64_t index, size_t bytes_max, size_t count_max,
                              struct raft_entry **out, size_t *out_count)
{
    struct sim_node *node = context;
    return log_read(node->log, index, bytes_max, count_max, out, out_count);
}

static enum err node_log_term(void *context, uint64_t index, uint64_t *out_term)
{
    struct sim_node *node = context;
    return log_term(node->log, index, out_term);
}

/* ---- the store ---- */

static bool kv_get(void *context, const void *key, size_t key_len, struct buffer *out)
{
    struct sim_node *node = context;
    buffer_clear(out);
    const struct omap_entry *entry = omap_get(node->rows, key, key_len);
    if (entry == NULL) {
        return false;
    }
    CHECK(buffer_append(out, entry->value, entry->value_len) == ERR_OK);
    return true;
}

static void kv_put(void *context, const void *key, size_t key_len, const void *value,
                   size_t value_len)
{
    struct sim_node *node = context;
    CHECK(omap_put(node->rows, key, key_len, value_len > 0 ? value : "", value_len) == ERR_OK);
}

static void kv_remove(void *context, const void *key, size_t key_len)
{
    struct sim_node *node = context;
    omap_remove(node->rows, key, key_len);
}

static void kv_scan(void *context, const void *from, size_t from_len, size_t prefix_len,
                    bool (*each)(void *arg, const uint8_t *key, size_t key_len,
                                 const uint8_t *value, size_t value_len),
                    void *arg)
{
    struct sim_node *node = context;
    const struct omap_entry *entry = omap_seek(node->rows, from, from_len);
    for (; entry != NULL; entry = omap_next(node->rows, entry)) {
        if (entry->key_len < prefix_len || memcmp(entry->key, from, prefix_len) != 0 ||
            !each(arg, entry->key, entry->key_len, entry->value, entry->value_len)) {
            return;
        }
    }
}

static bool store_is_full(void *context)
{
    (void)context;
    return false;
}

static void store_poll(void *context, uint64_t now_ms, uint64_t log_bytes)
{
    (void)context;
    (void)now_ms;
    (void)log_bytes;
}

static void disk_space(void *context, uint64_t *out_total, uint64_t *out_free)
{
    (void)context;
    *out_total = 0;
    *out_free = 0;
}

/* ---- clients of this node ---- */

struct parcel {
    struct client_conn *conn;
    struct buffer bytes;
    bool close;
};

static void parcel_arrives(struct sim *sim, void *arg)
{
    struct parcel *parcel = arg;
    (void)sim;
    sim_client_receive(parcel->conn, parcel->close ? NULL : parcel->bytes.data,
                       parcel->bytes.len);
    buffer_done(&parcel->bytes);
    free(parcel);
}

static struct parcel *parcel_new(struct client_conn *conn)
{
    struct parcel *parcel = calloc(1, sizeof *parcel);
    CHECK(parcel != NULL);
    parcel->conn = conn;
    return parcel;
}

static void parcel_post(struct sim *sim, struct parcel *parcel)
{
    struct client_conn *conn = parcel->conn;
    uint64_t at = sim->now_us + 20 + sim_random(sim, sim->rates.delay_us_max);
    conn->to_client_us = at > conn->to_client_us ? at : conn->to_client_us;
    sim_at(sim, conn->to_client_us, parcel_arrives, parcel);
}

static void node_client_send(void *context, struct client_conn *conn,
                             const Wire__ToClient *message)
{
    struct sim_node *node = context;
    struct parcel *parcel = parcel_new(conn);
    CHECK(wire_pack(&message->base, &parcel->bytes) == ERR_OK);
    parcel_post(node->sim, parcel);
}

static void node_client_close(void *context, struct client_conn *conn, const char *reason)
{
    struct sim_node *node = context;
    sim_trace(node->sim, "node %" PRIu64 " closes a client: %s", node->id, reason);
    struct parcel *parcel = parcel_new(conn);
    parcel->close = true;
    parcel_post(node->sim, parcel);
}

static void node_client_resume(void *context, struct client_conn *conn)
{
    (void)context;
    (void)conn;
}

/* ---- life ---- */

static void node_formed(void *context, const struct replica_identity *identity)
{
    struct sim_node *node = context;
    node->identity = *identity;
    node->start_due = true;
}

static void node_random(void *context, void *to, size_t count)
{
    struct sim_node *node = context;
    uint8_t *bytes = to;
    for (size_t i = 0; i < count; i++) {
        bytes[i] = (uint8_t)sim_random(node->sim, 256);
    }
}

static void node_fail(void *context, enum err err, const char *what)
{
    struct sim_node *node = context;
    sim_failed(node->sim, what, node->id, (uint64_t)err);
}

/* Log entry 1 is made of the identity if the log does not hold it yet; then consensus starts. */
static void start_consensus(struct sim_node *node)
{
    if (node->log_state.last_index == 0) {
        struct buffer members = {0};
        CHECK(raft_members_encode(&node->identity.founders, &members) == ERR_OK);
        struct raft_entry *entry =
            raft_entry_new(RAFT_ENTRY_MEMBERS, members.data, members.len);
        CHECK(entry != NULL);
        entry->index = 1;
        entry->term = 1;
        entry->time_ns = node->identity.founded_ns;
        CHECK(log_append(node->log, &entry, 1) == ERR_OK);
        node->log_state.first_index = 1;
        node->log_state.last_index = 1;
        node->log_state.last_term = 1;
        node->log_state.last_time_ns = entry->time_ns;
        raft_entry_unref(entry);
        buffer_done(&members);
    }
    node->start_due = false;
    CHECK(replica_start(node->replica, &node->log_state, node->sim->now_us / 1000) == ERR_OK);
}

static void turn_due(struct sim *sim, void *arg)
{
    struct sim_node *node = arg;
    if (sim_node_is_running(node) && node->turn_at_us == sim->now_us) {
        sim_node_turn(node);
    }
}

void sim_node_turn(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (!sim_node_is_running(node)) {
        return;
    }
    uint64_t now_ms = sim->now_us / 1000;
    if (node->start_due) {
        start_consensus(node);
    }
    uint64_t deadline = replica_turn(node->replica, now_ms,
                                     (int64_t)sim->now_us * 1000 + node->skew_ns);
    uint64_t next = deadline <= now_ms ? sim->now_us + 200 : deadline * 1000;
    if (node->turn_at_us != next) {
        node->turn_at_us = next;
        sim_at(sim, next, turn_due, node);
    }
    sim_check_node(node);
}

void sim_node_init(struct sim *sim, struct sim_node *node, uint64_t id)
{
    node->sim = sim;
    node->id = id;
    node->skew_ns = (int64_t)sim_random(sim, 4000000000u) - 2000000000;
    node->identity.id = id;
    node->identity.incarnation = sim_random(sim, 0) | 1;
    node->disk = sim_disk_new(sim_random(sim, 0));
    node->rows = omap_new();
    node->flushed = omap_new();
    node->saves_end = &node->saves;
    CHECK(node->disk != NULL && node->rows != NULL && node->flushed != NULL);
}

static void rows_fall_back(struct sim_node *node)
{
    omap_free(node->rows);
    node->rows = omap_new();
    CHECK(node->rows != NULL);
    const struct omap_entry *entry = omap_seek(node->flushed, NULL, 0);
    for (; entry != NULL; entry = omap_next(node->flushed, entry)) {
        CHECK(omap_put(node->rows, entry->key, entry->key_len, entry->value, entry->value_len) ==
              ERR_OK);
    }
}

static void node_replica_new(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct replica_env env = {
        .context = node,
        .peer_send_raft = peer_send_raft,
        .peer_send = peer_send,
        .peer_is_connected = peer_is_connected,
        .client_send = node_client_send,
        .client_close = node_client_close,
        .client_resume = node_client_resume,
        .log_submit = log_submit,
        .log_read = node_log_read,
        .log_term = node_log_term,
        .store_is_full = store_is_full,
        .store_poll = store_poll,
        .disk_space = disk_space,
        .formed = node_formed,
        .random = node_random,
        .fail = node_fail,
    };
    struct kv kv = {
        .context = node, .get = kv_get, .put = kv_put, .remove = kv_remove, .scan = kv_scan};
    struct replica_options options = {
        .identity = node->identity,
        .heartbeat_ms = 50,
        .election_min_ms = 300,
        .election_max_ms = 600,
        .seed = sim_random(sim, 0),
    };
    options.configured.count = SIM_NODES;
    for (size_t i = 0; i < SIM_NODES; i++) {
        options.configured.member[i] = (struct raft_member){.id = i + 1, .voter = true};
    }
    node->replica = replica_new(&options, &env, &kv, sim->now_us / 1000);
    CHECK(node->replica != NULL);
}

void sim_node_start(struct sim_node *node)
{
    struct sim *sim = node->sim;
    CHECK(!node->up);
    node->up = true;
    node->life++;
    node->applied_seen = 0;
    node->commit_seen = 0;
    struct log_options options = {.folder = FOLDER, .io = sim_disk_io(node->disk)};
    struct buffer error = {0};
    options.segment_bytes = 64 * 1024;
    if (log_open(&options, &node->log, &node->log_state, &error) != ERR_OK) {
        sim_failed(sim, error.data != NULL ? (const char *)error.data : "log_open", node->id, 0);
    }
    buffer_done(&error);
    node_replica_new(node);
    node->start_due = node->identity.formed;
    sim_trace(sim, "node %" PRIu64 " starts, log to %" PRIu64, node->id,
              node->log_state.last_index);
    for (size_t i = 0; i < SIM_NODES; i++) {
        if (i + 1 != node->id) {
            sim_at(sim, sim->now_us + 100 + sim_random(sim, LINK_UP_US), link_up,
                   link_new(node, &sim->node[i]));
        }
    }
    sim_node_turn(node);
}

/* The save that was being written is torn: it stops at some file call. */
static void tear_save(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (node->saving && sim_chance(sim, 500000)) {
        struct log_saved saved;
        sim_disk_fail_at(node->disk, 1 + sim_random(sim, 4), 5 /* EIO */);
        (void)save_do(node, &node->saves->work, &saved);
    }
    while (node->saves != NULL) {
        struct sim_save *save = node->saves;
        node->saves = save->next;
        save_free(save);
    }
    node->saves_end = &node->saves;
    node->saving = false;
}

void sim_node_crash(struct sim_node *node)
{
    struct sim *sim = node->sim;
    CHECK(node->up);
    sim_trace(sim, "node %" PRIu64 " crashes", node->id);
    tear_save(node);
    node->up = false;
    node->life++;
    node->paused_until_us = 0;
    for (struct client_conn *conn = sim->conns; conn != NULL; conn = conn->next_made) {
        if (conn->node == node && conn->server != NULL) {
            conn->server = NULL;
            struct parcel *parcel = parcel_new(conn);
            parcel->close = true;
            parcel_post(sim, parcel);
        }
    }
    replica_free(node->replica);
    node->replica = NULL;
    log_close(node->log);
    node->log = NULL;
    sim_disk_crash(node->disk);
    rows_fall_back(node);
    for (size_t i = 0; i < SIM_NODES; i++) {
        struct sim_node *other = &sim->node[i];
        if (other != node && other->up) {
            sim_at(sim, sim->now_us + 50 + sim_random(sim, 500), link_down,
                   link_new(other, node));
        }
    }
}

void sim_node_done(struct sim_node *node)
{
    CHECK(!node->up);
    omap_free(node->rows);
    omap_free(node->flushed);
    sim_disk_free(node->disk);
}
