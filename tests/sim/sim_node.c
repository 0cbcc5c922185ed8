/* SPDX-License-Identifier: Apache-2.0
 *
 * A simulated replica: the real conductor, core, log and tree in virtual time. Handed messages
 * by sim_net.c and sim_serve.c, what is durable by sim_save.c.
 *
 * Invariants:
 *   1. What was under way for an earlier life of a node is dropped (`life`).
 *   2. What comes to a paused node waits in its backlog and is done in order of arrival.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/version.h"
#include "server/replica_internal.h"
#include "tests/sim/sim.h"

#define ONE_MOMENT_US 200u

/* ---- pauses ---- */

bool sim_node_is_running(const struct sim_node *node)
{
    return node->up && node->sim->now_us >= node->paused_until_us;
}

bool sim_node_awake(struct sim_node *node, sim_run_fn *run, void *arg)
{
    if (!node->up || (node->sim->now_us >= node->paused_until_us && node->backlog_count == 0)) {
        return true;
    }
    if (node->backlog_count == node->backlog_capacity) {
        node->backlog_capacity = node->backlog_capacity == 0 ? 64 : node->backlog_capacity * 2;
        node->backlog = realloc(node->backlog, node->backlog_capacity * sizeof *node->backlog);
        CHECK(node->backlog != NULL);
    }
    node->backlog[node->backlog_count++] = (struct sim_event){.run = run, .arg = arg};
    return false;
}

/* Does what came during the pause. */
static void backlog_run(struct sim_node *node)
{
    struct sim_event *events = node->backlog;
    size_t count = node->backlog_count;
    node->backlog = NULL;
    node->backlog_count = 0;
    node->backlog_capacity = 0;
    for (size_t i = 0; i < count; i++) {
        events[i].run(node->sim, events[i].arg);
    }
    free(events);
}

static void wake(struct sim *sim, void *arg)
{
    struct sim_node *node = arg;
    if (sim->now_us >= node->paused_until_us) {
        backlog_run(node);
        sim_node_turn(node);
    }
}

void sim_node_pause(struct sim_node *node, uint64_t until_us)
{
    if (until_us > node->paused_until_us) {
        sim_trace(node->sim, "node %" PRIu64 " pauses until %" PRIu64, node->id, until_us);
        node->paused_until_us = until_us;
        sim_at(node->sim, until_us, wake, node);
    }
}

/* ---- the environment of the conductor ---- */

static void node_formed(void *context, const struct replica_identity *identity)
{
    struct sim_node *node = context;
    struct sim *sim = node->sim;
    sim_save_found(node, identity);
    if (sim->rates.crash_every_us > 0 && !sim->healing && sim_chance(sim, 200000)) {
        node->failed = true; /* It dies before the identity is written. */
        return;
    }
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
    if (err != ERR_IO) {
        sim_failed(node->sim, what, node->id, (uint64_t)err);
    }
    node->failed = true; /* A process whose disk fails ends. */
}

static void disk_space(void *context, uint64_t *out_total, uint64_t *out_free)
{
    (void)context;
    *out_total = 0;
    *out_free = 0;
}

/* All are always dialed, but the connection to one that was dropped ends. */
static void members(void *context, const struct raft_members *members)
{
    struct sim_node *node = context;
    struct sim *sim = node->sim;
    for (uint64_t id = 1; id <= sim->node_count; id++) {
        if (id != node->id && raft_members_find(members, id) == NULL) {
            sim_net_break(sim, node, &sim->node[id - 1]);
        }
    }
}

static void node_replica_new(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct replica_env env = {
        .context = node,
        .peer_send_raft = sim_net_send_raft,
        .peer_send = sim_net_send,
        .peer_is_connected = sim_net_is_connected,
        .peer_has_room = sim_net_is_connected,
        .client_send = sim_serve_send,
        .client_close = sim_serve_close,
        .client_resume = sim_serve_resume,
        .log_submit = sim_save_submit,
        .log_read = sim_save_read,
        .log_term = sim_save_term,
        .log_index_of_bytes = sim_save_index_of_bytes,
        .log_compact = sim_save_compact,
        .members = members,
        .snapshot_wanted = sim_snapshot_wanted,
        .store_is_full = sim_store_is_full,
        .store_poll = sim_store_poll,
        .disk_space = disk_space,
        .formed = node_formed,
        .random = node_random,
        .fail = node_fail,
    };
    struct kv kv = sim_store_kv(node);
    struct replica_options options = {
        .identity = node->identity,
        .heartbeat_ms = 50,
        .election_min_ms = 300,
        .election_max_ms = 600,
        .log_keep_bytes = sim->rates.log_keep_bytes,
        .feature_level = FEATURE_LEVEL_MAX,
        .file_bytes_max = FILE_BYTES_LIMIT, /* so that writes can be staged */
        .seed = sim_random(sim, 0),
    };
    options.join = node->id > sim->founders;
    for (uint64_t id = 1; id <= sim->node_count; id++) {
        if (id <= sim->founders || id == node->id) {
            options.configured.member[options.configured.count++] =
                (struct raft_member){.id = id, .voter = true, .address = SIM_ADDRESS};
        }
    }
    node->clock_ms = sim_random(sim, 1000000000u);
    node->replica = replica_new(&options, &env, &kv, sim->now_us / 1000 + node->clock_ms);
    CHECK(node->replica != NULL);
}

/* ---- turns ---- */

void sim_node_time(struct sim_node *node)
{
    replica_time(node->replica, node->sim->now_us / 1000 + node->clock_ms);
}

static void turn_due(struct sim *sim, void *arg)
{
    struct sim_node *node = arg;
    if (sim_node_is_running(node) && node->turn_at_us == sim->now_us) {
        sim_node_turn(node);
    }
}

static void soon_due(struct sim *sim, void *arg)
{
    struct sim_node *node = arg;
    if (node->soon_at_us == sim->now_us && sim_node_is_running(node)) {
        sim_node_turn(node);
    }
}

/* The process has ended itself. */
static bool ends(struct sim_node *node)
{
    if (node->failed) {
        sim_node_crash(node);
        sim_node_restart_later(node);
        return true;
    }
    return false;
}

void sim_node_soon(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (ends(node)) {
        return;
    }
    if (sim->rates.batch_us_max == 0) {
        sim_node_turn(node);
    } else if (node->soon_at_us == 0) {
        node->soon_at_us = sim->now_us + 1 + sim_random(sim, sim->rates.batch_us_max);
        sim_at(sim, node->soon_at_us, soon_due, node);
    }
}

void sim_node_turn(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (!sim_node_is_running(node)) {
        return;
    }
    uint64_t now_ms = sim->now_us / 1000 + node->clock_ms;
    node->soon_at_us = 0;
    if (node->start_due) {
        node->start_due = false;
        CHECK(replica_start(node->replica, &node->log_state, now_ms) == ERR_OK);
    }
    uint64_t deadline_ms =
        replica_turn(node->replica, now_ms, (int64_t)sim->now_us * 1000 + node->skew_ns);
    if (ends(node)) {
        return;
    }
    uint64_t next =
        deadline_ms <= now_ms ? sim->now_us + ONE_MOMENT_US : (deadline_ms - node->clock_ms) * 1000;
    if (node->turn_at_us != next) {
        node->turn_at_us = next;
        sim_at(sim, next, turn_due, node);
    }
    sim_check_node(node);
}

/* ---- life ---- */

void sim_node_init(struct sim *sim, struct sim_node *node, uint64_t id)
{
    node->sim = sim;
    node->id = id;
    node->sync_us_max = sim->rates.sync_us_max * (1 + sim_random(sim, 4));
    node->skew_ns = (int64_t)sim_random(sim, 4000000000u) - 2000000000;
    node->identity.id = id;
    node->identity.incarnation = sim_random(sim, 0) | 1;
    node->disk = sim_disk_new(sim_random(sim, 0));
    node->rows = omap_new();
    node->flushed = omap_new();
    node->saves_end = &node->saves;
    CHECK(node->disk != NULL && node->rows != NULL && node->flushed != NULL);
}

void sim_node_start(struct sim_node *node)
{
    struct sim *sim = node->sim;
    CHECK(!node->up);
    node->up = true;
    memset(node->giving, 0, sizeof node->giving);
    node->failed = false;
    node->life++;
    node->applied_seen = 0;
    node->commit_seen = 0;
    node->shown_before = sim->zxid_shown;
    node->term_seen = 0;
    node->full_until_us = 0;
    node->soon_at_us = 0;
    node->led = false;
    sim_save_open(node);
    node_replica_new(node);
    sim_save_fit(node);
    node->start_due = node->identity.formed;
    sim_trace(sim, "node %" PRIu64 " starts, log to %" PRIu64 ", applied %" PRIu64, node->id,
              node->log_state.last_index, node->replica->applied_index);
    sim_net_open(node);
    sim_node_turn(node);
}

void sim_node_crash(struct sim_node *node)
{
    struct sim *sim = node->sim;
    CHECK(node->up);
    sim_trace(sim, "node %" PRIu64 " crashes", node->id);
    node->up = false;
    node->life++;
    node->paused_until_us = 0;
    sim_net_close(node);
    sim_serve_crashed(node);
    backlog_run(node);
    replica_free(node->replica);
    node->replica = NULL;
    sim_save_crash(node);
    sim_store_crash(node);
}

static void restart(struct sim *sim, void *arg)
{
    struct sim_node *node = arg;
    if (!sim->ended && !node->up) {
        sim_node_start(node);
    }
}

void sim_node_restart_later(struct sim_node *node)
{
    struct sim *sim = node->sim;
    sim_at(sim, sim->now_us + 1000 + sim_random(sim, sim->rates.restart_us_max), restart, node);
}

void sim_node_wipe(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (node->up) {
        sim_node_crash(node);
    }
    sim_trace(sim, "node %" PRIu64 " loses its folder", node->id);
    sim_disk_free(node->disk);
    node->disk = sim_disk_new(sim_random(sim, 0));
    CHECK(node->disk != NULL);
    free(node->credit.hash);
    node->credit = node->durable;
    node->credit_incarnation = node->identity.incarnation;
    node->durable = (struct sim_durable){0};
    node->installing = false;
    node->term_durable = 0;
    node->vote_durable = 0;
    bool same = sim->plant == PLANT_WIPED_VOTER;
    node->identity = (struct replica_identity){
        .id = node->id, .incarnation = same ? node->identity.incarnation : sim_random(sim, 0) | 1};
    sim_store_wipe(node);
    sim_node_start(node);
}

void sim_node_done(struct sim_node *node)
{
    CHECK(!node->up);
    omap_free(node->rows);
    omap_free(node->flushed);
    buffer_done(&node->state_before);
    sim_disk_free(node->disk);
    free(node->durable.hash);
    free(node->credit.hash);
    free(node->incoming.hash);
}
