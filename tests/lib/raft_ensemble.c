/* SPDX-License-Identifier: Apache-2.0
 *
 * The ensemble of cores that tests move by hand: turns, disks, network, trace.
 */
#include "tests/lib/raft_ensemble.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

#define START_MS     1000u
#define SETTLE_STEPS 200000u

static struct ensemble_node *node_of(struct ensemble *e, uint64_t id)
{
    CHECK(id >= 1 && id <= e->count);
    return &e->node[id];
}

const char *ensemble_message_name(enum raft_message_type type)
{
    static const char *const names[] = {
        [RAFT_MSG_PREVOTE] = "PREVOTE",
        [RAFT_MSG_PREVOTE_ANSWER] = "PREVOTE_ANSWER",
        [RAFT_MSG_VOTE] = "VOTE",
        [RAFT_MSG_VOTE_ANSWER] = "VOTE_ANSWER",
        [RAFT_MSG_APPEND] = "APPEND",
        [RAFT_MSG_APPEND_ANSWER] = "APPEND_ANSWER",
        [RAFT_MSG_HEARTBEAT] = "HEARTBEAT",
        [RAFT_MSG_HEARTBEAT_ANSWER] = "HEARTBEAT_ANSWER",
        [RAFT_MSG_READ_INDEX] = "READ_INDEX",
        [RAFT_MSG_READ_INDEX_ANSWER] = "READ_INDEX_ANSWER",
        [RAFT_MSG_TRANSFER] = "TRANSFER",
    };
    return names[type];
}

const char *ensemble_role_name(enum raft_role role)
{
    static const char *const names[] = {"FOLLOWER", "PRE_CANDIDATE", "CANDIDATE", "LEADER"};

    return names[role];
}

/* ---- trace ---- */

#define TRACE(e, ...)                                                 \
    do {                                                              \
        if ((e)->traced) {                                            \
            CHECK(buffer_printf(&(e)->trace, __VA_ARGS__) == ERR_OK); \
        }                                                             \
    } while (0)

static void trace_entries(struct ensemble *e, struct raft_entry *const *entries, size_t count)
{
    static const char *const types[] = {"", "", "noop", "members"};

    for (size_t i = 0; i < count; i++) {
        const struct raft_entry *entry = entries[i];
        TRACE(e, "%s%" PRIu64 "/%" PRIu64, i == 0 ? " entries=" : ",", entry->index, entry->term);
        if (entry->type != RAFT_ENTRY_COMMAND) {
            TRACE(e, ":%s", types[entry->type]);
        } else if (entry->len > 0 && entry->len <= 16) {
            TRACE(e, ":%.*s", (int)entry->len, (const char *)entry->data);
        }
    }
}

static void trace_place(struct ensemble *e, const struct raft_message *m)
{
    if (m->log_index != 0 || m->log_term != 0) {
        TRACE(e, " log=%" PRIu64, m->log_index);
    }
    if (m->log_term != 0) {
        TRACE(e, "/%" PRIu64, m->log_term);
    }
}

static void trace_message(struct ensemble *e, const struct raft_message *m)
{
    bool read = m->type == RAFT_MSG_READ_INDEX || m->type == RAFT_MSG_READ_INDEX_ANSWER;

    if (!e->traced) {
        return;
    }
    TRACE(e, "%" PRIu64 ">%" PRIu64 " %s term=%" PRIu64, m->from, m->to,
          ensemble_message_name(m->type), m->term);
    trace_place(e, m);
    if (m->commit != 0) {
        TRACE(e, " commit=%" PRIu64, m->commit);
    }
    if (m->context != 0) {
        /* The numbers of a follower's requests begin at random; their low end says enough. */
        TRACE(e, " context=%" PRIu64, read ? m->context % 1000 : m->context);
    }
    if (m->reject) {
        TRACE(e, " reject");
    }
    if (m->hint_index != 0) {
        TRACE(e, " hint=%" PRIu64 "/%" PRIu64, m->hint_index, m->hint_term);
    }
    if (m->force) {
        TRACE(e, " force");
    }
    trace_entries(e, m->entries, m->entry_count);
    TRACE(e, "\n");
}

static void trace_save(struct ensemble *e, uint64_t id, const struct raft_effects *effects)
{
    if (effects->save_term) {
        TRACE(e, "%" PRIu64 ": save term=%" PRIu64 " vote=%" PRIu64 "\n", id, effects->term,
              effects->vote);
    }
    if (effects->save_count > 0) {
        TRACE(e, "%" PRIu64 ": save", id);
        if (effects->truncate) {
            TRACE(e, " truncate=%" PRIu64, effects->truncate_index);
        }
        trace_entries(e, effects->save, effects->save_count);
        TRACE(e, "\n");
    }
}

/* ---- disk ---- */

static void disk_append(struct ensemble_node *node, struct raft_entry *entry)
{
    CHECK_OP(entry->index, ==, node->entry_count + 1);
    if (node->entry_count == node->entry_capacity) {
        node->entry_capacity = node->entry_capacity != 0 ? 2 * node->entry_capacity : 64;
        node->entries = realloc(node->entries, node->entry_capacity * sizeof(struct raft_entry *));
        CHECK(node->entries != NULL);
    }
    node->entries[node->entry_count++] = raft_entry_ref(entry);
}

static void disk_truncate(struct ensemble_node *node, uint64_t index)
{
    while (node->entry_count >= index) {
        raft_entry_unref(node->entries[--node->entry_count]);
    }
}

void ensemble_disk_add(struct ensemble *e, uint64_t id, uint64_t term, const char *data)
{
    struct ensemble_node *node = node_of(e, id);
    struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_COMMAND, data, strlen(data));

    CHECK(node->raft == NULL && entry != NULL);
    entry->index = node->entry_count + 1;
    entry->term = term;
    disk_append(node, entry);
    raft_entry_unref(entry);
    node->term = node->term < term ? term : node->term;
}

static void save_add(struct ensemble_node *node, const struct raft_effects *effects)
{
    struct ensemble_save *save = NULL;

    if (!effects->save_term && effects->save_count == 0) {
        CHECK(!effects->truncate);
        return;
    }
    save = calloc(1, sizeof(*save));
    CHECK(save != NULL);
    save->save_term = effects->save_term;
    save->term = effects->term;
    save->vote = effects->vote;
    save->truncate = effects->truncate;
    save->truncate_index = effects->truncate_index;
    save->count = effects->save_count;
    save->entries = calloc(save->count + 1, sizeof(struct raft_entry *));
    CHECK(save->entries != NULL);
    for (size_t i = 0; i < save->count; i++) {
        save->entries[i] = raft_entry_ref(effects->save[i]);
    }
    node->saved_entries += save->count;
    *node->saves_end = save;
    node->saves_end = &save->next;
}

/* Writes a save up to a piece of it: 1 the record, 2 also the truncation, then an entry each. */
static void save_write(struct ensemble_node *node, const struct ensemble_save *save, size_t pieces)
{
    if (pieces > 0 && save->save_term) {
        CHECK(save->term > node->term || (save->term == node->term && node->vote == 0));
        node->term = save->term;
        node->vote = save->vote;
    }
    if (pieces > 1 && save->truncate) {
        CHECK_OP(save->truncate_index, <=, node->entry_count);
        disk_truncate(node, save->truncate_index);
    }
    for (size_t i = 0; i < save->count && i + 2 < pieces; i++) {
        disk_append(node, save->entries[i]);
    }
}

static void save_free(struct ensemble_save *save)
{
    for (size_t i = 0; i < save->count; i++) {
        raft_entry_unref(save->entries[i]);
    }
    free(save->entries);
    free(save);
}

static struct ensemble_save *save_take(struct ensemble_node *node)
{
    struct ensemble_save *save = node->saves;

    node->saves = save->next;
    if (node->saves == NULL) {
        node->saves_end = &node->saves;
    }
    return save;
}

bool ensemble_sync_one(struct ensemble *e, uint64_t id)
{
    struct ensemble_node *node = node_of(e, id);
    struct ensemble_save *done = NULL;

    if (node->raft == NULL || node->saves == NULL) {
        return false;
    }
    done = save_take(node);
    save_write(node, done, SIZE_MAX);
    if (done->save_term) {
        ensemble_step_only(e, id,
                           (struct raft_event){.type = RAFT_EV_TERM_SAVED, .term = done->term});
    }
    if (done->count > 0) {
        const struct raft_entry *last = done->entries[done->count - 1];
        ensemble_step_only(e, id,
                           (struct raft_event){.type = RAFT_EV_LOG_SAVED,
                                               .index = last->index,
                                               .term = last->term});
    }
    save_free(done);
    ensemble_turn(e, id);
    return true;
}

void ensemble_sync(struct ensemble *e, uint64_t id)
{
    while (ensemble_sync_one(e, id)) {
    }
}

/* ---- network ---- */

static void packet_add(struct ensemble *e, const struct raft_message *message)
{
    struct ensemble_packet *packet = calloc(1, sizeof(*packet));

    CHECK(packet != NULL);
    packet->message = *message;
    packet->message.entries = calloc(message->entry_count + 1, sizeof(struct raft_entry *));
    CHECK(packet->message.entries != NULL);
    for (size_t i = 0; i < message->entry_count; i++) {
        packet->message.entries[i] = raft_entry_ref(message->entries[i]);
    }
    *e->packets_end = packet;
    e->packets_end = &packet->next;
}

static void packet_free(struct ensemble_packet *packet)
{
    for (size_t i = 0; i < packet->message.entry_count; i++) {
        raft_entry_unref(packet->message.entries[i]);
    }
    free(packet->message.entries);
    free(packet);
}

static void packet_unlink(struct ensemble *e, const struct ensemble_packet *packet)
{
    struct ensemble_packet **at = &e->packets;

    while (*at != packet) {
        CHECK(*at != NULL);
        at = &(*at)->next;
    }
    *at = packet->next;
    if (*at == NULL) {
        e->packets_end = at;
    }
}

size_t ensemble_packet_count(const struct ensemble *e)
{
    size_t count = 0;

    for (const struct ensemble_packet *p = e->packets; p != NULL; p = p->next) {
        count++;
    }
    return count;
}

struct ensemble_packet *ensemble_packet(const struct ensemble *e, size_t n)
{
    struct ensemble_packet *packet = e->packets;

    for (size_t i = 0; i < n && packet != NULL; i++) {
        packet = packet->next;
    }
    return packet;
}

struct ensemble_packet *ensemble_find(const struct ensemble *e, enum raft_message_type type,
                                      uint64_t to)
{
    struct ensemble_packet *p = e->packets;

    while (p != NULL && (p->message.type != type || (to != 0 && p->message.to != to))) {
        p = p->next;
    }
    return p;
}

void ensemble_drop(struct ensemble *e, struct ensemble_packet *packet)
{
    packet_unlink(e, packet);
    packet_free(packet);
}

void ensemble_drop_all(struct ensemble *e, uint64_t from, uint64_t to)
{
    struct ensemble_packet *next = NULL;

    for (struct ensemble_packet *p = e->packets; p != NULL; p = next) {
        next = p->next;
        if ((from == 0 || p->message.from == from) && (to == 0 || p->message.to == to)) {
            ensemble_drop(e, p);
        }
    }
}

void ensemble_duplicate(struct ensemble *e, const struct ensemble_packet *packet)
{
    packet_add(e, &packet->message);
}

void ensemble_deliver(struct ensemble *e, struct ensemble_packet *packet)
{
    uint64_t to = packet->message.to;
    enum err err = ERR_OK;

    packet_unlink(e, packet);
    if (node_of(e, to)->raft != NULL) {
        err = ensemble_step(
            e, to, (struct raft_event){.type = RAFT_EV_MESSAGE, .message = &packet->message});
        CHECK_OP(err, ==, ERR_OK);
    }
    packet_free(packet);
}

enum err ensemble_message(struct ensemble *e, struct raft_message message)
{
    return ensemble_step(e, message.to,
                         (struct raft_event){.type = RAFT_EV_MESSAGE, .message = &message});
}

/* ---- turns ---- */

static void fetch(struct ensemble *e, struct ensemble_node *node, const struct raft_fetch *fetch)
{
    struct raft_event event = {.type = RAFT_EV_FETCHED, .peer = fetch->peer};
    size_t bytes = 0;

    node->fetches++;
    TRACE(e, "%" PRIu64 ": fetch peer=%" PRIu64 " index=%" PRIu64 "\n", node->id, fetch->peer,
          fetch->index);
    if (e->ignore_fetch) {
        return;
    }
    if (!e->no_fetch && fetch->index >= node->first_index && fetch->index <= node->entry_count) {
        event.entries = &node->entries[fetch->index - 1];
        event.log_term = fetch->index > 1 ? node->entries[fetch->index - 2]->term : 0;
        while (event.entry_count < 4 && bytes < fetch->bytes_max &&
               fetch->index - 1 + event.entry_count < node->entry_count) {
            bytes += event.entries[event.entry_count]->len;
            event.entry_count++;
        }
    }
    CHECK(ensemble_step_only(e, node->id, event) == ERR_OK);
}

static void take_reads(struct ensemble *e, struct ensemble_node *node,
                       const struct raft_effects *effects)
{
    for (size_t i = 0; i < effects->read_count; i++) {
        const struct raft_read *read = &effects->reads[i];
        TRACE(e, "%" PRIu64 ": read context=%" PRIu64 " index=%" PRIu64 " %s\n", node->id,
              read->context, read->index, err_name(read->err));
        node->reads = realloc(node->reads, (node->read_count + 1) * sizeof(*read));
        CHECK(node->reads != NULL);
        node->reads[node->read_count++] = *read;
    }
}

static void apply(struct ensemble *e, struct ensemble_node *node, uint64_t apply_index)
{
    CHECK_OP(apply_index, >=, node->applied_index);
    if (apply_index == node->applied_index || e->no_apply) {
        return;
    }
    CHECK_OP(apply_index, <=, node->entry_count); /* only what the own disk holds */
    TRACE(e, "%" PRIu64 ": apply %" PRIu64 "\n", node->id, apply_index);
    CHECK(ensemble_step_only(e, node->id,
                             (struct raft_event){.type = RAFT_EV_APPLIED, .index = apply_index}) ==
          ERR_OK);
    ensemble_check_turn(e, node->id);
    node->applied_index = apply_index;
}

/* One round of effects; true: there were fetches or applies, whose answers have effects again. */
static bool effects_round(struct ensemble *e, struct ensemble_node *node)
{
    const struct raft_effects *effects = raft_effects(node->raft);
    struct raft_fetch fetches[MEMBERS_MAX + 1];
    size_t fetch_count = effects->fetch_count;
    uint64_t apply_index = effects->apply_index;
    bool again = fetch_count > 0 || (apply_index > node->applied_index && !e->no_apply);
    struct raft_status status;

    if (effects->role_changed) {
        raft_status(node->raft, &status);
        TRACE(e, "%" PRIu64 ": %s term=%" PRIu64 " leader=%" PRIu64 "\n", node->id,
              ensemble_role_name(status.role), status.term, status.leader);
    }
    trace_save(e, node->id, effects);
    save_add(node, effects);
    for (size_t i = 0; i < effects->message_count; i++) {
        trace_message(e, &effects->messages[i]);
        ensemble_check_packet(e, &effects->messages[i]);
        packet_add(e, &effects->messages[i]);
    }
    memcpy(fetches, effects->fetches, fetch_count * sizeof(fetches[0]));
    take_reads(e, node, effects);
    for (size_t i = 0; i < effects->snapshot_count; i++) {
        TRACE(e, "%" PRIu64 ": snapshot peer=%" PRIu64 "\n", node->id, effects->snapshots[i]);
        node->snapshots |= UINT64_C(1) << effects->snapshots[i];
    }
    node->deadline_ms = effects->deadline_ms;
    raft_effects_done(node->raft);
    for (size_t i = 0; i < fetch_count; i++) {
        fetch(e, node, &fetches[i]);
    }
    apply(e, node, apply_index);
    return again;
}

void ensemble_turn(struct ensemble *e, uint64_t id)
{
    struct ensemble_node *node = node_of(e, id);

    CHECK(node->raft != NULL);
    while (effects_round(e, node)) {
    }
    ensemble_check_turn(e, id);
}

enum err ensemble_step_only(struct ensemble *e, uint64_t id, struct raft_event event)
{
    event.now_ms = e->now_ms;
    return raft_step(node_of(e, id)->raft, &event);
}

enum err ensemble_step(struct ensemble *e, uint64_t id, struct raft_event event)
{
    enum err err = ensemble_step_only(e, id, event);

    ensemble_turn(e, id);
    return err;
}

enum err ensemble_propose(struct ensemble *e, uint64_t id, const char *data)
{
    struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_COMMAND, data, strlen(data));
    enum err err = ERR_OK;

    CHECK(entry != NULL);
    entry->time_ns = (int64_t)e->now_ms * 1000000;
    err = ensemble_step(e, id, (struct raft_event){.type = RAFT_EV_PROPOSE, .entry = entry});
    raft_entry_unref(entry);
    return err;
}

enum err ensemble_read(struct ensemble *e, uint64_t id, uint64_t context)
{
    return ensemble_step(e, id, (struct raft_event){.type = RAFT_EV_READ, .context = context});
}

enum err ensemble_change(struct ensemble *e, uint64_t id, const struct raft_members *wanted)
{
    return ensemble_step(e, id, (struct raft_event){.type = RAFT_EV_CHANGE, .members = wanted});
}

void ensemble_tick(struct ensemble *e, uint64_t id)
{
    CHECK(ensemble_step(e, id, (struct raft_event){.type = RAFT_EV_TICK}) == ERR_OK);
}

void ensemble_wait(struct ensemble *e, uint64_t ms)
{
    e->now_ms += ms;
}

void ensemble_timeout(struct ensemble *e, uint64_t id)
{
    if (node_of(e, id)->deadline_ms > e->now_ms) {
        e->now_ms = node_of(e, id)->deadline_ms;
    }
    ensemble_tick(e, id);
}

void ensemble_settle(struct ensemble *e)
{
    for (size_t i = 0; i < SETTLE_STEPS; i++) {
        bool any = false;
        for (uint64_t id = 1; id <= e->count; id++) {
            any = ensemble_sync_one(e, id) || any;
        }
        if (e->packets != NULL) {
            ensemble_deliver(e, e->packets);
            any = true;
        }
        if (!any) {
            return;
        }
    }
    check_failed(__FILE__, __LINE__, "the ensemble settles", 0, 0);
}

void ensemble_elect(struct ensemble *e, uint64_t id)
{
    ensemble_timeout(e, id);
    ensemble_settle(e);
    CHECK_OP(ensemble_status(e, id).role, ==, RAFT_LEADER);
}

struct raft_status ensemble_status(const struct ensemble *e, uint64_t id)
{
    struct raft_status status;

    CHECK(e->node[id].raft != NULL);
    raft_status(e->node[id].raft, &status);
    return status;
}

/* ---- life ---- */

/* The newest members on the disk, and those before them. */
static void disk_members(const struct ensemble_node *node, struct raft_start *out)
{
    for (size_t i = 0; i < node->entry_count; i++) {
        const struct raft_entry *entry = node->entries[i];
        if (entry->type == RAFT_ENTRY_MEMBERS) {
            out->members_before = out->members;
            out->members_index = entry->index;
            CHECK(raft_members_decode(entry->data, entry->len, &out->members) == ERR_OK);
        }
    }
    CHECK(out->members.count > 0);
}

void ensemble_start(struct ensemble *e, uint64_t id, uint64_t applied_index)
{
    struct ensemble_node *node = node_of(e, id);
    const struct raft_entry *last = node->entries[node->entry_count - 1];
    struct raft_config config = {
        .id = id,
        .incarnation = 99 + id,
        .seed = e->seed + id + 100 * node->lives,
        .heartbeat_ms = 50,
        .election_min_ms = 300,
        .election_max_ms = 600,
    };
    struct raft_start start = {
        .term = node->term,
        .vote = node->vote,
        .first_index = node->first_index,
        .last_index = last->index,
        .last_term = last->term,
        .applied_index = applied_index,
        .last_time_ns = last->time_ns,
        .now_ms = e->now_ms,
    };

    CHECK(node->raft == NULL);
    node->lives++;
    disk_members(node, &start);
    node->applied_index = applied_index;
    node->raft = raft_new(&config, &start);
    CHECK(node->raft != NULL);
    ensemble_turn(e, id);
}

void ensemble_crash(struct ensemble *e, uint64_t id, size_t pieces)
{
    struct ensemble_node *node = node_of(e, id);

    raft_free(node->raft);
    node->raft = NULL;
    while (node->saves != NULL) {
        struct ensemble_save *save = save_take(node);
        size_t whole = save->count + 2;
        save_write(node, save, pieces);
        pieces -= whole < pieces ? whole : pieces;
        save_free(save);
    }
    free(node->reads);
    node->reads = NULL;
    node->read_count = 0;
    node->snapshots = 0;
}

void ensemble_compact(struct ensemble *e, uint64_t id, uint64_t index)
{
    struct ensemble_node *node = node_of(e, id);

    CHECK(index > node->first_index && index <= node->applied_index + 1);
    node->first_index = index;
    CHECK(ensemble_step(e, id, (struct raft_event){.type = RAFT_EV_COMPACTED, .index = index}) ==
          ERR_OK);
}

/* Puts the node's applied entries in the place of the log of one that is down; what that has behind
 * them stays if it holds the last of them. */
static void disk_copy(const struct ensemble_node *from, struct ensemble_node *to)
{
    uint64_t end = from->applied_index;

    if (to->entry_count < end || to->entries[end - 1]->term != from->entries[end - 1]->term) {
        while (to->entry_count > 0) {
            raft_entry_unref(to->entries[--to->entry_count]);
        }
        for (size_t i = 0; i < end; i++) {
            disk_append(to, from->entries[i]);
        }
    }
    to->first_index = end + 1;
}

uint64_t ensemble_snapshot_wanted(const struct ensemble *e, uint64_t id)
{
    for (uint64_t to = 1; to <= e->count; to++) {
        if ((e->node[id].snapshots >> to & 1) != 0) {
            return to;
        }
    }
    return 0;
}

void ensemble_snapshot(struct ensemble *e, uint64_t id, uint64_t to, bool taken)
{
    struct ensemble_node *node = node_of(e, id);
    struct ensemble_node *taker = node_of(e, to);
    uint64_t end = node->applied_index;

    node->snapshots &= ~(UINT64_C(1) << to);
    taken = taken && taker->raft != NULL && taker->applied_index < end;
    if (taken) {
        ensemble_crash(e, taker->id, SIZE_MAX);
        disk_copy(node, taker);
        ensemble_start(e, taker->id, end);
    }
    CHECK(ensemble_step(e, id,
                        (struct raft_event){.type = RAFT_EV_SNAPSHOT_ENDED,
                                            .peer = to,
                                            .index = taken ? end : 0}) == ERR_OK);
}

static void disk_form(struct ensemble *e, struct ensemble_node *node, size_t learners)
{
    struct raft_members members = {.count = e->count};
    struct buffer bytes = {0};
    struct raft_entry *entry = NULL;

    for (size_t i = 0; i < e->count; i++) {
        members.member[i] = (struct raft_member){
            .id = i + 1,
            .incarnation = 100 + i,
            .voter = i < e->count - learners,
            .address = "host:2888",
        };
    }
    CHECK(raft_members_encode(&members, &bytes) == ERR_OK);
    entry = raft_entry_new(RAFT_ENTRY_MEMBERS, bytes.data, bytes.len);
    CHECK(entry != NULL);
    entry->index = 1;
    entry->term = 1;
    node->term = 1;
    disk_append(node, entry);
    raft_entry_unref(entry);
    buffer_done(&bytes);
}

struct ensemble *ensemble_new(size_t count, size_t learners, uint64_t seed)
{
    struct ensemble *e = calloc(1, sizeof(*e));

    CHECK(e != NULL && count >= 1 && count <= ENSEMBLE_NODES_MAX);
    e->count = count;
    e->seed = seed;
    e->now_ms = START_MS;
    e->packets_end = &e->packets;
    for (uint64_t id = 1; id <= count; id++) {
        e->node[id].id = id;
        e->node[id].first_index = 1;
        e->node[id].saves_end = &e->node[id].saves;
        disk_form(e, &e->node[id], learners);
    }
    for (uint64_t id = 1; id <= count; id++) {
        ensemble_start(e, id, 1 /* the members are applied */);
    }
    return e;
}

void ensemble_free(struct ensemble *e)
{
    if (e == NULL) {
        return;
    }
    ensemble_drop_all(e, 0, 0);
    for (uint64_t id = 1; id <= e->count; id++) {
        struct ensemble_node *node = &e->node[id];
        ensemble_crash(e, id, 0);
        disk_truncate(node, 1);
        free(node->entries);
    }
    free(e->facts);
    free(e->committed);
    free(e->committed_hash);
    buffer_done(&e->trace);
    free(e);
}
