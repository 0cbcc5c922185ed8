/* SPDX-License-Identifier: Apache-2.0
 *
 * The network between the simulated replicas: connections that break and come back, messages that
 * are delayed, lost, doubled and overtake each other. Handed messages by the conductor's
 * environment; hands them to the conductor of the other node.
 *
 * Invariant: what was sent on one connection, or to one life of a node, never reaches a later one.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "server/replica_internal.h"
#include "tests/sim/sim.h"

#define LINK_UP_US    2000u
#define LINK_AGAIN_US 100000u

/* ---- connections ---- */

static struct sim_link *link_of(struct sim *sim, uint64_t a, uint64_t b)
{
    return a < b ? &sim->link[a - 1][b - 1] : &sim->link[b - 1][a - 1];
}

/* Two nodes that are to find each other, or one that hears that the other is gone. */
struct meeting {
    struct sim_node *a;
    struct sim_node *b;
    uint64_t a_life;
    uint64_t b_life;
};

static void meet_later(struct sim_node *a, struct sim_node *b, uint64_t after_us, sim_run_fn *run)
{
    struct meeting *meeting = sim_new(sizeof *meeting);
    *meeting = (struct meeting){.a = a, .b = b, .a_life = a->life, .b_life = b->life};
    sim_at(a->sim, a->sim->now_us + after_us, run, meeting);
}

/* `to` hears who `from` is. False: it takes it for a stranger. */
static bool hello(struct sim_node *to, const struct sim_node *from)
{
    struct replica_hello hello;
    sim_node_time(to);
    replica_own_hello(from->replica, &hello);
    enum err err = replica_peer_hello(to->replica, &hello);
    /* One that was added may be refused until the next turn; who was removed refuses all. */
    if (err != ERR_OK && !to->replica->removed && from->id <= from->sim->founders &&
        raft_members_find(members_now(to->replica), from->id) != NULL) {
        sim_failed(to->sim, "a hello was judged wrongly", from->id, (uint64_t)err);
    }
    return err == ERR_OK;
}

static void link_up(struct sim *sim, void *arg)
{
    struct meeting *meeting = arg;
    struct sim_node *a = meeting->a;
    struct sim_node *b = meeting->b;
    if (!sim_node_awake(a, link_up, arg) || !sim_node_awake(b, link_up, arg)) {
        return;
    }
    bool same = a->up && b->up && a->life == meeting->a_life && b->life == meeting->b_life;
    struct sim_link *link = link_of(sim, a->id, b->id);
    free(meeting);
    if (!same || link->up || sim->ended) {
        return;
    }
    if (sim->cut[a->id - 1][b->id - 1] || sim->cut[b->id - 1][a->id - 1]) {
        meet_later(a, b, LINK_AGAIN_US, link_up); /* No answer to the call. */
        return;
    }
    bool known = hello(a, b);
    if (!hello(b, a) || !known) {
        meet_later(a, b, LINK_AGAIN_US, link_up);
        return;
    }
    link->up = true;
    link->number++;
    sim_trace(sim, "link %" PRIu64 "-%" PRIu64 " is up", a->id, b->id);
    replica_peer_connected(a->replica, b->id);
    replica_peer_connected(b->replica, a->id);
    sim_node_soon(a);
    sim_node_soon(b);
}

static void link_lost(struct sim *sim, void *arg)
{
    struct meeting *meeting = arg;
    struct sim_node *node = meeting->a;
    (void)sim;
    if (!sim_node_awake(node, link_lost, arg)) {
        return;
    }
    if (node->up && node->life == meeting->a_life) {
        sim_node_time(node);
        replica_peer_closed(node->replica, meeting->b->id);
        sim_node_soon(node);
    }
    free(meeting);
}

void sim_net_open(struct sim_node *node)
{
    struct sim *sim = node->sim;
    for (size_t i = 0; i < sim->node_count; i++) {
        if (i + 1 != node->id && sim->node[i].up) {
            meet_later(node, &sim->node[i], 100 + sim_random(sim, LINK_UP_US), link_up);
        }
    }
}

void sim_net_break(struct sim *sim, struct sim_node *a, struct sim_node *b)
{
    struct sim_link *link = link_of(sim, a->id, b->id);
    if (!link->up) {
        return;
    }
    link->up = false;
    if (a->up) {
        meet_later(a, b, 50 + sim_random(sim, 500), link_lost);
    }
    if (b->up) {
        meet_later(b, a, 50 + sim_random(sim, 500), link_lost);
    }
    if (a->up && b->up) {
        meet_later(a, b, 1000 + sim_random(sim, LINK_AGAIN_US), link_up);
    }
}

void sim_net_close(struct sim_node *node)
{
    struct sim *sim = node->sim;
    for (size_t i = 0; i < sim->node_count; i++) {
        if (i + 1 != node->id) {
            sim_net_break(sim, node, &sim->node[i]);
        }
    }
}

bool sim_net_is_connected(void *context, uint64_t id)
{
    struct sim_node *node = context;
    CHECK(id != 0 && id <= node->sim->node_count && id != node->id);
    return link_of(node->sim, node->id, id)->up;
}

/* ---- messages ---- */

/* A message on its way: either for the core or packed. */
struct packet {
    struct sim_node *to;
    uint64_t number; /* of the connection */
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

static void hand_over(struct sim_node *node, struct packet *packet)
{
    enum err err = ERR_OK;
    if (packet->is_raft) {
        err = replica_peer_raft(node->replica, &packet->raft);
    } else {
        ProtobufCMessage *message = NULL;
        CHECK(wire_unpack(&wire__peer_message__descriptor, packet->bytes.data, packet->bytes.len,
                          &message) == ERR_OK);
        err = replica_peer_message(node->replica, packet->from, (const Wire__PeerMessage *)message);
        wire_free(message);
    }
    bool told_other = err == ERR_STRANGER && node->credit_incarnation != 0;
    bool removed = err == ERR_MALFORMED && peers_find(node->replica, packet->from) == NULL;
    if (told_other || removed) {
        /* It was told to join, by one that had itself not known of the ensemble when they met; or
         * the sender is no member any more. */
        sim_net_break(node->sim, node, &node->sim->node[packet->from - 1]);
    } else if (err != ERR_OK) {
        sim_failed(node->sim, "a replica refused a message of another", packet->from,
                   (uint64_t)err);
    }
}

static void deliver(struct sim *sim, void *arg)
{
    struct packet *packet = arg;
    struct sim_node *node = packet->to;
    if (!sim_node_awake(node, deliver, arg)) {
        return;
    }
    const struct sim_link *link = link_of(sim, packet->from, node->id);
    if (node->up && link->up && link->number == packet->number) {
        sim_node_time(node);
        hand_over(node, packet);
        sim_node_soon(node);
    }
    packet_free(packet);
}

static void post(struct sim *sim, struct packet *packet)
{
    struct sim_link *link = link_of(sim, packet->from, packet->to->id);
    if (!link->up || sim->node[packet->from - 1].failed ||
        sim->cut[packet->from - 1][packet->to->id - 1] || sim_chance(sim, sim->rates.loss_ppm)) {
        packet_free(packet);
        return;
    }
    uint64_t at = sim->now_us + 50 + sim_random(sim, sim->rates.delay_us_max);
    if (sim->rates.in_order) {
        uint64_t *last = &link->last_us[packet->to->id > packet->from];
        at = at > *last ? at : *last;
        *last = at;
    }
    sim_at(sim, at, deliver, packet);
}

static struct packet *packet_new(struct sim_node *from, uint64_t to)
{
    struct packet *packet = sim_new(sizeof *packet);
    packet->to = &from->sim->node[to - 1];
    packet->number = link_of(from->sim, from->id, to)->number;
    packet->from = from->id;
    return packet;
}

static struct raft_entry *entry_copy(const struct raft_entry *entry)
{
    struct raft_entry *copy = raft_entry_new(entry->type, entry->data, entry->len);
    CHECK(copy != NULL);
    copy->index = entry->index;
    copy->term = entry->term;
    copy->time_ns = entry->time_ns;
    return copy;
}

/* `message` with the entries from `first` on, up to `end`. */
static struct packet *packet_raft(struct sim_node *from, const struct raft_message *message,
                                  size_t first, size_t end)
{
    struct packet *packet = packet_new(from, message->to);
    struct raft_entry **entries = sim_new((end - first + 1) * sizeof(struct raft_entry *));
    packet->is_raft = true;
    packet->raft = *message;
    packet->raft.entries = entries;
    packet->raft.entry_count = end - first;
    if (first > 0) {
        packet->raft.log_index += first;
        packet->raft.log_term = message->entries[first - 1]->term;
    }
    for (size_t i = first; i < end; i++) {
        entries[i - first] = entry_copy(message->entries[i]);
    }
    return packet;
}

/* One vote a term across crashes. Who has lost its folder is another voter. */
static void check_votes(struct sim_node *node, const struct raft_message *message)
{
    struct sim *sim = node->sim;
    uint64_t key = (message->term << 8 | node->id) ^ node->identity.incarnation << 40;
    if (message->type == RAFT_MSG_VOTE) {
        sim_only_one(sim, sim->votes, key, node->id, "two votes in one term");
    } else if (message->type == RAFT_MSG_VOTE_ANSWER && !message->reject) {
        sim_only_one(sim, sim->votes, key, message->to, "two votes in one term");
    }
}

/* What is said in a term is said when that term is durable. A pre-vote is about one to come. */
static void check_term(struct sim_node *node, const struct raft_message *message)
{
    bool to_come = message->type == RAFT_MSG_PREVOTE ||
                   (message->type == RAFT_MSG_PREVOTE_ANSWER && !message->reject);
    if (!to_come && message->term > node->term_durable) {
        sim_failed(node->sim, "a message of a term that is not durable", node->id, message->term);
    }
}

void sim_net_send_raft(void *context, const struct raft_message *message)
{
    struct sim_node *node = context;
    struct sim *sim = node->sim;
    if (message->to == 0 || message->to > sim->node_count || message->to == node->id) {
        sim_failed(sim, "a message to nobody", message->to, message->type);
    }
    check_votes(node, message);
    check_term(node, message);
    sim_note(sim, message->type ^ message->term << 8 ^ message->log_index << 24);
    size_t count = message->entry_count;
    size_t part = count;
    if (count > 1 && sim_chance(sim, sim->rates.split_ppm)) {
        part = 1 + (size_t)sim_random(sim, count - 1);
        post(sim, packet_raft(node, message, part, count));
    }
    post(sim, packet_raft(node, message, 0, part));
    if (sim_chance(sim, sim->rates.duplicate_ppm)) {
        post(sim, packet_raft(node, message, 0, count));
    }
}

void sim_net_send(void *context, uint64_t to, const Wire__PeerMessage *message)
{
    struct sim_node *node = context;
    struct packet *packet = packet_new(node, to);
    CHECK(wire_pack(&message->base, &packet->bytes) == ERR_OK);
    sim_note(node->sim, packet->bytes.len);
    post(node->sim, packet);
}
