/* SPDX-License-Identifier: Apache-2.0
 *
 * The log of a simulated replica: the real one over a virtual disk, with what its thread does in
 * virtual time. Handed work by the conductor's environment; hands back what became durable.
 *
 * Invariants:
 *   1. Saves are done in order; what was under way for an earlier life of a node is dropped.
 *   2. node->durable is what the log would show after a crash of the worst kind.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "tests/sim/sim.h"

#define FOLDER     "/log"
#define TEAR_CALLS 8u

static void save_free(struct sim_save *save)
{
    for (size_t i = 0; i < save->work.entry_count; i++) {
        raft_entry_unref(save->work.entries[i]);
    }
    free(save->work.entries);
    free(save);
}

/* What the log thread would report of this work. */
static void save_report(const struct log_save *work, struct log_saved *saved)
{
    if (work->save_term) {
        saved->term_saved = true;
        saved->term = work->term;
    }
    if (work->entry_count > 0) {
        saved->log_saved = true;
        saved->index = work->entries[work->entry_count - 1]->index;
        saved->entry_term = work->entries[work->entry_count - 1]->term;
    }
}

/* ---- planted bugs ---- */

static int sync_nothing(void *context, int fd)
{
    (void)context;
    (void)fd;
    return 0;
}

static int sync_no_folder(void *context, const char *folder)
{
    (void)context;
    (void)folder;
    return 0;
}

static void plant_in_disk(struct sim_node *node)
{
    if (node->sim->plant == PLANT_NO_SYNC) {
        node->io.fdatasync = sync_nothing;
    } else if (node->sim->plant == PLANT_FOLDER_NOT_SYNCED) {
        node->io.sync_folder = sync_no_folder;
    }
}

static enum err truncate_log(struct sim_node *node, uint64_t index)
{
    struct log_io right = node->io;
    if (node->sim->plant == PLANT_TRUNCATION_NOT_SYNCED) {
        node->io.fdatasync = sync_nothing;
        node->io.sync_folder = sync_no_folder;
    }
    enum err err = log_truncate(node->log, index);
    node->io = right;
    return err;
}

/* ---- saves ---- */

static enum err save_write(struct sim_node *node, const struct log_save *work)
{
    enum err err = ERR_OK;
    if (work->save_term && node->sim->plant != PLANT_VOTE_NOT_SAVED) {
        err = log_save_term(node->log, work->term, work->vote);
    }
    if (err == ERR_OK && work->truncate) {
        err = truncate_log(node, work->truncate_index);
    }
    if (err == ERR_OK && work->entry_count > 0) {
        err = log_append(node->log, work->entries, work->entry_count);
    }
    return err;
}

static void durable_cut(struct sim_durable *durable, uint64_t index)
{
    durable->count = index - 1 < durable->count ? (size_t)(index - 1) : durable->count;
}

static void durable_add_hash(struct sim_durable *durable, uint64_t hash)
{
    if (durable->count == durable->capacity) {
        durable->capacity = durable->capacity == 0 ? 1024 : durable->capacity * 2;
        durable->hash = realloc(durable->hash, durable->capacity * sizeof *durable->hash);
        CHECK(durable->hash != NULL);
    }
    durable->hash[durable->count++] = hash;
}

static void durable_add(struct sim_durable *durable, const struct raft_entry *entry)
{
    CHECK_OP(entry->index, ==, durable->count + 1);
    durable_add_hash(durable, sim_entry_hash(entry));
}

static void save_note(struct sim_node *node, const struct log_save *work)
{
    if (work->save_term) {
        node->term_durable = work->term;
        node->vote_durable = work->vote;
    }
    if (work->truncate) {
        durable_cut(&node->durable, work->truncate_index);
    }
    for (size_t i = 0; i < work->entry_count; i++) {
        durable_add(&node->durable, work->entries[i]);
    }
}

/* What the log holds after a start must begin with what it held durably before. */
static void durable_read(struct sim_node *node)
{
    struct raft_entry *entries[512];
    struct sim_durable before = node->durable;
    uint64_t gone = node->log_state.first_index - 1; /* compacted */
    node->durable = (struct sim_durable){0};
    if (gone > before.count) {
        sim_failed(node->sim, "a log begins behind its end", node->id, before.count);
    }
    for (size_t i = 0; i < gone; i++) {
        durable_add_hash(&node->durable, before.hash[i]);
    }
    while (node->durable.count < node->log_state.last_index) {
        size_t count = 0;
        CHECK(log_read(node->log, node->durable.count + 1, 1u << 20, 512, entries, &count) ==
              ERR_OK);
        for (size_t i = 0; i < count; i++) {
            durable_add(&node->durable, entries[i]);
            raft_entry_unref(entries[i]);
        }
    }
    if (node->durable.count < before.count ||
        (before.count > 0 &&
         memcmp(before.hash, node->durable.hash, before.count * sizeof *before.hash) != 0)) {
        sim_failed(node->sim, "a crash took durable entries", node->id, before.count);
    }
    free(before.hash);
}

struct save_event {
    struct sim_node *node;
    uint64_t life;
    size_t count; /* saves that this event finishes */
};

static void save_next(struct sim_node *node);

static struct sim_save *save_pop(struct sim_node *node)
{
    struct sim_save *save = node->saves;
    node->saves = save->next;
    if (node->saves == NULL) {
        node->saves_end = &node->saves;
    }
    return save;
}

/* Does some saves and reports them at once, as log_thread_poll does. */
static void saves_do(struct sim_node *node, size_t count)
{
    struct log_saved saved = {.index = 0};
    for (size_t i = 0; i < count; i++) {
        struct sim_save *save = save_pop(node);
        if (save_write(node, &save->work) != ERR_OK) {
            if (save->work.truncate) {
                durable_cut(&node->durable, save->work.truncate_index);
            }
            save_free(save);
            node->failed = true; /* A process whose log fails ends. */
            return;
        }
        save_note(node, &save->work);
        save_report(&save->work, &saved);
        save_free(save);
    }
    node->saving = false;
    if (node->sim->plant != PLANT_EARLY_SAVED) {
        replica_log_saved(node->replica, &saved);
    }
    save_next(node);
}

static void save_done(struct sim *sim, void *arg)
{
    struct save_event *event = arg;
    struct sim_node *node = event->node;
    (void)sim;
    if (!sim_node_awake(node, save_done, arg)) {
        return;
    }
    if (node->up && node->life == event->life) {
        sim_node_time(node);
        saves_do(node, event->count);
        sim_node_soon(node);
    }
    free(event);
}

static void save_next(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (node->saving || node->saves == NULL) {
        return;
    }
    struct save_event *event = sim_new(sizeof *event);
    *event = (struct save_event){.node = node, .life = node->life, .count = 1};
    for (struct sim_save *save = node->saves->next; save != NULL; save = save->next) {
        event->count++;
    }
    event->count = 1 + sim_random(sim, event->count);
    node->saving = true;
    sim_at(sim, sim->now_us + 20 + sim_random(sim, node->sync_us_max), save_done, event);
}

/* What PLANT_EARLY_SAVED reports before it is true. */
struct lie {
    struct sim_node *node;
    uint64_t life;
    struct log_saved saved;
};

static void lie_told(struct sim *sim, void *arg)
{
    struct lie *lie = arg;
    struct sim_node *node = lie->node;
    (void)sim;
    if (!sim_node_awake(node, lie_told, arg)) {
        return;
    }
    if (node->up && node->life == lie->life) {
        sim_node_time(node);
        replica_log_saved(node->replica, &lie->saved);
        sim_node_soon(node);
    }
    free(lie);
}

static void lie_tell(struct sim_node *node, const struct log_save *work)
{
    struct lie *lie = sim_new(sizeof *lie);
    *lie = (struct lie){.node = node, .life = node->life};
    save_report(work, &lie->saved);
    sim_at(node->sim, node->sim->now_us, lie_told, lie);
}

enum err sim_save_submit(void *context, const struct log_save *work)
{
    struct sim_node *node = context;
    struct sim_save *save = sim_new(sizeof *save);
    save->work = *work;
    save->work.entries = NULL;
    if (work->entry_count > 0) {
        save->work.entries = sim_new(work->entry_count * sizeof(struct raft_entry *));
    }
    for (size_t i = 0; i < work->entry_count; i++) {
        save->work.entries[i] = raft_entry_ref(work->entries[i]);
    }
    *node->saves_end = save;
    node->saves_end = &save->next;
    if (node->sim->plant == PLANT_EARLY_SAVED) {
        lie_tell(node, work);
    }
    save_next(node);
    return ERR_OK;
}

enum err sim_save_read(void *context, uint64_t index, size_t bytes_max, size_t count_max,
                       struct raft_entry **out, size_t *out_count)
{
    struct sim_node *node = context;
    return log_read(node->log, index, bytes_max, count_max, out, out_count);
}

enum err sim_save_term(void *context, uint64_t index, uint64_t *out_term)
{
    struct sim_node *node = context;
    return log_term(node->log, index, out_term);
}

uint64_t sim_save_index_of_bytes(void *context, uint64_t bytes)
{
    struct sim_node *node = context;
    return log_index_of_bytes(node->log, bytes);
}

/* The log thread does it between two groups. */
struct compaction {
    struct sim_node *node;
    uint64_t life;
    uint64_t index;
};

static void compact(struct sim *sim, void *arg)
{
    struct compaction *compaction = arg;
    struct sim_node *node = compaction->node;
    (void)sim;
    if (!sim_node_awake(node, compact, arg)) {
        return;
    }
    if (node->up && node->life == compaction->life) {
        uint64_t first = log_index_of_bytes(node->log, UINT64_MAX);
        sim_node_time(node);
        if (log_compact(node->log, compaction->index) != ERR_OK) {
            node->failed = true;
        } else if (log_index_of_bytes(node->log, UINT64_MAX) != first) {
            struct log_saved saved = {.compacted = true};
            saved.first_index = log_index_of_bytes(node->log, UINT64_MAX);
            sim_trace(node->sim, "node %" PRIu64 " compacts up to %" PRIu64, node->id,
                      saved.first_index);
            replica_log_saved(node->replica, &saved);
        }
        sim_node_soon(node);
    }
    free(compaction);
}

void sim_save_compact(void *context, uint64_t index)
{
    struct sim_node *node = context;
    struct compaction *compaction = sim_new(sizeof *compaction);
    *compaction = (struct compaction){.node = node, .life = node->life, .index = index};
    sim_at(node->sim, node->sim->now_us + 10 + sim_random(node->sim, 1000), compact, compaction);
}

/* ---- life ---- */

void sim_save_fit(struct sim_node *node)
{
    struct log_state *state = &node->log_state;
    uint64_t term_in_log = 0;
    uint64_t term = 0;
    uint64_t index = replica_applied(node->replica, &term);
    if (!node->installing) {
        return;
    }
    node->installing = false;
    if (log_term(node->log, index, &term_in_log) != ERR_OK || term_in_log != term) {
        CHECK(log_reset(node->log, index, term) == ERR_OK);
        free(node->durable.hash);
        node->durable = node->incoming;
        node->incoming = (struct sim_durable){0};
        state->first_index = index + 1;
        state->last_index = index;
        state->last_term = term;
        state->before_term = term;
        state->last_time_ns = 0;
    }
}

void sim_save_open(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct buffer error = {0};
    node->io = *sim_disk_io(node->disk);
    plant_in_disk(node);
    struct log_options options = {
        .folder = FOLDER, .io = &node->io, .segment_bytes = sim->rates.segment_bytes};
    if (log_open(&options, &node->log, &node->log_state, &error) != ERR_OK) {
        sim_failed(sim, error.data != NULL ? (const char *)error.data : "log_open", node->id, 0);
    }
    buffer_done(&error);
    durable_read(node);
    const struct log_state *state = &node->log_state;
    if (state->term < node->term_durable ||
        (state->term == node->term_durable && node->vote_durable != 0 &&
         state->vote != node->vote_durable)) {
        sim_failed(sim, "a crash took a durable vote", node->id, state->term);
    }
    node->term_durable = state->term; /* It may have become durable as we crashed. */
    node->vote_durable = state->vote;
}

/* The first entry of a new ensemble; it replaces that of a forming that was cut off. */
void sim_save_found(struct sim_node *node, const struct replica_identity *identity)
{
    struct buffer members = {0};
    CHECK(raft_members_encode(&identity->founders, &members) == ERR_OK);
    struct raft_entry *entry = raft_entry_new(RAFT_ENTRY_MEMBERS, members.data, members.len);
    CHECK(entry != NULL);
    if (node->log_state.last_index != 0) {
        CHECK(log_truncate(node->log, node->log_state.first_index) == ERR_OK);
        durable_cut(&node->durable, node->log_state.first_index);
    }
    entry->index = 1;
    entry->term = 1;
    entry->time_ns = identity->founded_ns;
    CHECK(log_append(node->log, &entry, 1) == ERR_OK);
    durable_add(&node->durable, entry);
    node->log_state.first_index = 1;
    node->log_state.last_index = 1;
    node->log_state.last_term = 1;
    node->log_state.last_time_ns = entry->time_ns;
    raft_entry_unref(entry);
    buffer_done(&members);
}

/* The save that was being written is torn: it stops at some file call. */
static void tear(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct log_save *work = &node->saves->work;
    if (work->truncate) {
        durable_cut(&node->durable, work->truncate_index);
    }
    sim_disk_fail_at(node->disk, 1 + sim_random(sim, TEAR_CALLS), EIO);
    (void)save_write(node, work);
}

void sim_save_crash(struct sim_node *node)
{
    if (node->saving && node->saves != NULL && !node->failed && sim_chance(node->sim, 500000)) {
        tear(node);
    }
    while (node->saves != NULL) {
        save_free(save_pop(node));
    }
    node->saving = false;
    log_close(node->log);
    node->log = NULL;
    sim_disk_crash(node->disk);
}
