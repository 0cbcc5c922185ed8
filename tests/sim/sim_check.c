/* SPDX-License-Identifier: Apache-2.0
 *
 * The invariants of the simulator that concern replicas: after every turn of a node, and at the
 * end, when all has been well for a while.
 */
#include <inttypes.h>
#include <string.h>

#include "common/check.h"
#include "server/replica_internal.h"
#include "tests/sim/sim.h"

void sim_only_one(struct sim *sim, struct omap *map, uint64_t key, uint64_t value, const char *what)
{
    uint8_t key_bytes[8];
    uint8_t value_bytes[8];
    put_be64(key_bytes, key);
    put_be64(value_bytes, value);
    const struct omap_entry *entry = omap_get(map, key_bytes, sizeof key_bytes);
    if (entry == NULL) {
        CHECK(omap_put(map, key_bytes, sizeof key_bytes, value_bytes, sizeof value_bytes) ==
              ERR_OK);
    } else if (memcmp(entry->value, value_bytes, sizeof value_bytes) != 0) {
        sim_failed(sim, what, key, value);
    }
}

/* Shows the entries that were applied since the last look to the model. */
static void show_applied(struct sim_node *node)
{
    struct raft_entry *entries[512];
    uint64_t applied = node->replica->applied_index;
    uint64_t index = node->applied_seen == 0 ? 1 : node->applied_seen + 1;
    uint64_t first = log_index_of_bytes(node->log, UINT64_MAX);
    if (index < first && node->applied_seen == 0) {
        index = first; /* What lies before came with a snapshot, or was shown before a restart. */
    }
    while (index <= applied) {
        struct raft_entry *entry = raft_entry_at(node->replica->raft, index);
        size_t count = 1;
        if (entry != NULL) {
            entries[0] = raft_entry_ref(entry);
        } else {
            sim_disk_fail_at(node->disk, 0, 0); /* It is we who read, not the replica. */
            CHECK(log_read(node->log, index, 1u << 20, 512, entries, &count) == ERR_OK);
        }
        for (size_t i = 0; i < count; i++, index++) {
            if (index <= applied) {
                sim_model_applied(node, entries[i]);
            }
            raft_entry_unref(entries[i]);
        }
    }
}

/* A leader has everything that was committed in the terms before its own. One that learns late that
 * it was elected may lack what a newer leader has committed since. */
static void check_complete(const struct sim_node *node, uint64_t term)
{
    struct sim *sim = node->sim;
    uint64_t missing = sim_model_missing(sim, &node->durable);
    if (term > sim->last_term && missing != 0) {
        sim_failed(sim, "a leader lacks what was committed", node->id, missing);
    }
    sim->last_term = term > sim->last_term ? term : sim->last_term;
}

void sim_check_node(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct raft_status status;
    uint64_t applied = node->replica->applied_index;
    if (node->replica->raft == NULL) {
        return;
    }
    replica_raft_status(node->replica, &status);
    if (applied < node->applied_seen || status.commit_index < node->commit_seen ||
        status.term < node->term_seen) {
        sim_failed(sim, "term, commit or applied index fell", node->id, applied);
    }
    if (applied > status.durable_index) {
        sim_failed(sim, "applied what the own log does not hold", applied, status.durable_index);
    }
    if (status.role == RAFT_LEADER) {
        sim_only_one(sim, sim->leaders, status.term, node->id, "two leaders in one term");
        if (!node->led) {
            check_complete(node, status.term);
            sim_trace(sim, "node %" PRIu64 " leads term %" PRIu64 " from %" PRIu64, node->id,
                      status.term, status.last_index);
            sim_new_leader(node);
        }
    }
    if (applied != node->applied_seen) {
        show_applied(node);
        sim_only_one(sim, sim->digests, applied, tree_digest(node->replica->tree),
                     "two states at one index");
    }
    node->led = status.role == RAFT_LEADER;
    node->applied_seen = applied;
    node->commit_seen = status.commit_index;
    node->term_seen = status.term;
}

/* ---- at the end ---- */

struct found {
    struct sim *sim;
    struct tree *tree;
    struct omap *once;
    size_t count;
};

static bool note_created(void *arg, const uint8_t *name, size_t name_len, uint64_t cookie,
                         bool same, const struct node_attr *attr)
{
    struct found *found = arg;
    (void)name;
    (void)name_len;
    (void)cookie;
    (void)same;
    struct tree_address at = {.ino = attr->ino};
    struct tree_identity trusted = {.trusted = true};
    struct node_attr unused;
    struct buffer data = {0};
    CHECK(tree_read(found->tree, &at, &trusted, 0, 64, &unused, &data) == ERR_OK);
    if (omap_get(found->once, data.data, data.len) != NULL) {
        sim_failed(found->sim, "a create was applied twice", attr->ino, data.len);
    }
    CHECK(omap_put(found->once, data.data, data.len, "", 0) == ERR_OK);
    buffer_done(&data);
    found->count++;
    return true;
}

/* Every acknowledged create stands in the tree, and no create stands in it twice. */
static void check_creates(struct sim *sim, struct sim_node *node)
{
    struct found found = {.sim = sim, .tree = node->replica->tree, .once = omap_new()};
    CHECK(found.once != NULL);
    struct tree_address at = {.path = (const uint8_t *)"/q", .path_len = 2};
    struct tree_identity trusted = {.trusted = true};
    struct node_attr attr;
    bool end = false;
    enum err err = tree_children(found.tree, &at, &trusted, 0, note_created, &found, &attr, &end);
    if (err != ERR_OK || !end || attr.children != found.count) {
        sim_failed(sim, "the listing of /q is not whole", (uint64_t)err, found.count);
    }
    const struct omap_entry *acked = omap_seek(sim->acked, NULL, 0);
    for (; acked != NULL; acked = omap_next(sim->acked, acked)) {
        if (omap_get(found.once, acked->key, acked->key_len) == NULL) {
            sim_failed(sim, "an acknowledged create is lost", omap_count(sim->acked), found.count);
        }
    }
    omap_free(found.once);
}

/* A session lives exactly as long as its client uses it. */
static void check_sessions(struct sim *sim)
{
    uint64_t session = sim_model_session(sim, 0);
    for (; session != 0; session = sim_model_session(sim, session)) {
        bool used = false;
        for (size_t i = 0; i < SIM_CLIENTS; i++) {
            used = used || sim->client[i].session == session;
        }
        if (!used) {
            sim_failed(sim, "a session outlives its client", session, 0);
        }
    }
}

/* The members as the leader knows them. */
static const struct raft_members *members_in_the_end(struct sim *sim)
{
    for (size_t i = 0; i < sim->node_count; i++) {
        if (sim->node[i].up && sim->node[i].led) {
            return members_now(sim->node[i].replica);
        }
    }
    sim_failed(sim, "nobody leads in the end", sim->node_count, 0);
}

void sim_check_end(struct sim *sim)
{
    const struct raft_members *members = members_in_the_end(sim);
    const struct sim_node *first = NULL;
    for (size_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->node[i];
        if (raft_members_find(members, node->id) == NULL) {
            continue; /* Removed, or never added. */
        }
        bool serves = node->up && replica_is_serving(node->replica);
        if (!serves) {
            sim_failed(sim, "a replica does not serve in the end", node->id,
                       node->replica != NULL ? node->applied_seen : 0);
        }
        first = first == NULL ? node : first;
        if (node->applied_seen != first->applied_seen ||
            tree_digest(node->replica->tree) != tree_digest(first->replica->tree)) {
            sim_failed(sim, "replicas differ in the end", node->id, node->applied_seen);
        }
        check_creates(sim, node);
        sim_model_check_tree(node);
    }
    check_sessions(sim);
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        const struct sim_client *client = &sim->client[i];
        if (!client->attached || client->writes_done < client->writes_at_heal + 20) {
            sim_failed(sim, "a client was not served in the end", client->id,
                       client->writes_done - client->writes_at_heal);
        }
    }
}
