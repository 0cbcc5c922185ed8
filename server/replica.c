/* SPDX-License-Identifier: Apache-2.0
 *
 * The conductor's turn. Handed events by the rim; hands on to core, log, tree and to request.c and
 * replica_peer.c, which give answers, events and messages back to the rim.
 *
 * Invariants:
 *   1. Entries are applied in order, each once: applied_index + 1 is always the next.
 *   2. Nothing is applied that the own log does not hold durably (the core's apply_index).
 *   3. Events of an entry go out before its answer and before anything of a later entry.
 */
#include "server/replica.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/logging.h"
#include "common/plant.h"
#include "server/replica_internal.h"

#define TURN_APPLY_MAX   2000u /* entries applied in one turn, so that heartbeats go out */
#define TURN_STEPS_MAX   64u   /* rounds of effects in one turn */
#define STALL_MS         250u  /* later than asked by this: the process stood still */
#define APPLY_READ_BYTES (4u * MIB)
#define APPLY_READ_COUNT 512u
#define FETCH_COUNT_MAX  APPEND_ENTRIES_MAX

struct replica *replica_new(const struct replica_options *options, const struct replica_env *env,
                            const struct kv *kv, uint64_t now_ms)
{
    struct replica *replica = calloc(1, sizeof *replica);
    if (replica == NULL) {
        return NULL;
    }
    replica->env = *env;
    replica->identity = options->identity;
    replica->configured = options->configured;
    replica->raft_config = (struct raft_config){
        .id = options->identity.id,
        .incarnation = options->identity.incarnation,
        .seed = options->seed,
        .heartbeat_ms = options->heartbeat_ms,
        .election_min_ms = options->election_min_ms,
        .election_max_ms = options->election_max_ms,
    };
    replica->now_ms = now_ms;
    replica->started_ms = now_ms;
    replica->deadline_ms = now_ms;
    replica->waits_end = &replica->waits;
    replica->serving_index = UINT64_MAX;
    replica->log_keep_bytes = options->log_keep_bytes;
    replica->file_bytes_max = options->file_bytes_max;
    replica->join = options->join;
    replica->feature_level = options->feature_level;
    replica->tree = tree_new(kv);
    replica->sessions = sessions_new();
    replica->watches = watches_new();
    replica->proposals = proposals_new();
    replica->feeds = feeds_new();
    if (replica->tree == NULL || replica->sessions == NULL || replica->watches == NULL ||
        replica->proposals == NULL || replica->feeds == NULL) {
        replica_free(replica);
        return NULL;
    }
    replica->applied_index = tree_applied_index(replica->tree);
    replica->history = history_new(replica->applied_index, HISTORY_CHANGES_MAX, HISTORY_BYTES_MAX);
    if (replica->history == NULL) {
        replica_free(replica);
        return NULL;
    }
    members_follow(replica);
    return replica;
}

void replica_free(struct replica *replica)
{
    if (replica == NULL) {
        return;
    }
    while (replica->clients != NULL) {
        replica_client_closed(replica, replica->clients);
    }
    while (replica->waits != NULL) {
        struct wait *wait = replica->waits;
        replica->waits = wait->next;
        wire_free(wait->message != NULL ? &wait->message->base : NULL);
        free(wait);
    }
    feeds_free(replica->feeds);
    history_free(replica->history);
    proposals_free(replica->proposals);
    watches_free(replica->watches);
    sessions_free(replica->sessions);
    tree_free(replica->tree);
    raft_free(replica->raft);
    free(replica);
}

/* A session found in the tree at the start. */
static void session_found(void *arg, const struct tree_session *session)
{
    struct replica *replica = arg;
    if (sessions_set(replica->sessions, session->id, session->epoch, session->timeout_ms,
                     replica->now_ms) != ERR_OK) {
        replica->env.fail(replica->env.context, ERR_MEMORY, "table of sessions");
    }
}

/* The members in an entry take the place of those before. */
static enum err members_newer(struct raft_start *start, uint64_t index, const void *data,
                              size_t len)
{
    start->members_before = start->members;
    start->members_before_index = start->members_index;
    start->members_index = index;
    return raft_members_decode(data, len, &start->members);
}

/* Members in entries that the log holds and the tree has not applied. */
static enum err members_in_log(struct replica *replica, struct raft_start *start)
{
    enum err err = ERR_OK;
    uint64_t next = start->applied_index + 1;
    while (err == ERR_OK && next <= start->last_index) {
        struct raft_entry *entries[APPLY_READ_COUNT];
        size_t count = 0;
        err = replica->env.log_read(replica->env.context, next, APPLY_READ_BYTES, APPLY_READ_COUNT,
                                    entries, &count);
        for (size_t i = 0; i < count; i++) {
            if (err == ERR_OK && entries[i]->type == RAFT_ENTRY_MEMBERS) {
                err = members_newer(start, entries[i]->index, entries[i]->data, entries[i]->len);
            }
            raft_entry_unref(entries[i]);
        }
        next += count;
    }
    return err;
}

/* The newest members: in the log, beside the applied index in the tree, or the founders. */
static enum err members_at_start(struct replica *replica, struct raft_start *start)
{
    struct buffer bytes = {0};
    uint64_t index = 0;
    enum err err = ERR_OK;
    start->members = replica->identity.founders;
    start->members_index = 1;
    if (tree_members_get(replica->tree, &index, &bytes)) {
        err = members_newer(start, index, bytes.data, bytes.len);
    }
    start->members_before.count = 0; /* Applied: none goes back behind it. */
    buffer_done(&bytes);
    return err == ERR_OK ? members_in_log(replica, start) : err;
}

/* Log and tree must meet: the log reaches from at most applied + 1 to at least applied, and holds
 * the applied entry with the applied term. */
static enum err log_fits_tree(struct replica *replica, const struct log_state *state)
{
    uint64_t applied = replica->applied_index;
    uint64_t term = 0;
    if (state->first_index > applied + 1 || state->last_index < applied) {
        return ERR_CORRUPT;
    }
    if (applied >= state->first_index) {
        if (replica->env.log_term(replica->env.context, applied, &term) != ERR_OK ||
            term != tree_applied_term(replica->tree)) {
            return ERR_CORRUPT;
        }
    }
    return ERR_OK;
}

enum err replica_start(struct replica *replica, const struct log_state *state, uint64_t now_ms)
{
    CHECK(replica->raft == NULL);
    CHECK(replica->identity.formed);
    if (!agreement_knows_level(replica)) {
        return ERR_UNSUPPORTED;
    }
    enum err err = log_fits_tree(replica, state);
    if (err != ERR_OK) {
        log_error("replica", "log_does_not_fit",
                  "applied=%" PRIu64 " first=%" PRIu64 " last=%" PRIu64 " action=\"does not vote\"",
                  replica->applied_index, state->first_index, state->last_index);
        return err;
    }
    struct raft_start start = {
        .term = state->term,
        .vote = state->vote,
        .first_index = state->first_index,
        .last_index = state->last_index,
        .last_term = state->last_term,
        .last_time_ns = state->last_time_ns > tree_applied_time_ns(replica->tree)
                            ? state->last_time_ns
                            : tree_applied_time_ns(replica->tree),
        .applied_index = replica->applied_index,
        .now_ms = now_ms,
    };
    err = members_at_start(replica, &start);
    if (err != ERR_OK) {
        return err;
    }
    replica->now_ms = now_ms;
    replica->apply_index = replica->applied_index;
    tree_sessions(replica->tree, session_found, replica);
    replica->raft = raft_new(&replica->raft_config, &start);
    if (replica->raft == NULL) {
        return ERR_MEMORY;
    }
    replica->members_index = start.members_index;
    members_follow(replica);
    return ERR_OK;
}

uint64_t replica_applied(const struct replica *replica, uint64_t *out_term)
{
    *out_term = tree_applied_term(replica->tree);
    return tree_applied_index(replica->tree);
}

enum err replica_step(struct replica *replica, struct raft_event *event)
{
    event->now_ms = replica->now_ms;
    enum err err = raft_step(replica->raft, event);
    if (err == ERR_MEMORY) {
        replica->env.fail(replica->env.context, err, "consensus step");
    }
    return err;
}

/* ---- events of the rim ---- */

void replica_log_saved(struct replica *replica, const struct log_saved *saved)
{
    if (replica->raft == NULL) {
        return;
    }
    if (saved->term_saved) {
        struct raft_event event = {.type = RAFT_EV_TERM_SAVED, .term = saved->term};
        (void)replica_step(replica, &event);
    }
    if (saved->log_saved) {
        struct raft_event event = {
            .type = RAFT_EV_LOG_SAVED, .index = saved->index, .term = saved->entry_term};
        (void)replica_step(replica, &event);
    }
    upkeep_log_saved(replica, saved);
}

bool replica_is_serving(const struct replica *replica)
{
    return replica->serving;
}

void replica_transfer_leader(struct replica *replica)
{
    if (replica->raft == NULL || replica->role != RAFT_LEADER) {
        return;
    }
    struct raft_status status;
    raft_status(replica->raft, &status);
    const struct raft_peer_status *best = NULL;
    for (size_t i = 0; i < status.peer_count; i++) {
        const struct raft_member *member =
            raft_members_find(raft_members(replica->raft), status.peer[i].id);
        if (status.peer[i].active && member != NULL && member->voter &&
            (best == NULL || status.peer[i].match_index > best->match_index)) {
            best = &status.peer[i];
        }
    }
    if (best != NULL) {
        struct raft_event event = {.type = RAFT_EV_TRANSFER, .peer = best->id};
        (void)replica_step(replica, &event);
    }
}

void replica_raft_status(const struct replica *replica, struct raft_status *out)
{
    *out = (struct raft_status){.role = RAFT_FOLLOWER};
    if (replica->raft != NULL) {
        raft_status(replica->raft, out);
    }
}

/* ---- apply ---- */

/* Brings the run-time tables to what the entry did. */
static void sessions_follow(struct replica *replica, const struct tree_result *result)
{
    if (result->session_opened || result->session_attached) {
        if (sessions_set(replica->sessions, result->session, result->epoch, result->timeout_ms,
                         replica->now_ms) != ERR_OK) {
            replica->env.fail(replica->env.context, ERR_MEMORY, "table of sessions");
        }
    }
    struct session *session = NULL;
    if (result->session_attached || result->session_closed) {
        session = sessions_find(replica->sessions, result->session);
    }
    struct client *old = session != NULL ? session->client : NULL;
    if (old != NULL && (result->session_closed || old->epoch != result->epoch)) {
        session->client = NULL;
        old->session = 0;
        /* Its own polite close is answered by requests_result, which also ends the connection. */
        struct proposal_key key = {
            .kind = PROPOSAL_CLOSE, .a = result->session, .b = result->epoch};
        if (proposals_find(replica->proposals, &key) == NULL) {
            replica->env.client_close(replica->env.context, old->conn,
                                      result->session_closed ? "session closed"
                                                             : "session attached elsewhere");
        }
    }
    if (result->session_closed) {
        sessions_remove(replica->sessions, result->session);
    }
}

static void apply_entry(struct replica *replica, const struct raft_entry *entry)
{
    CHECK_OP(entry->index, ==, replica->applied_index + 1);
    struct tree_entry tree_entry = {
        .index = entry->index,
        .term = entry->term,
        .time_ns = entry->time_ns,
        .command = entry->type == RAFT_ENTRY_COMMAND,
        .data = entry->data,
        .len = entry->len,
    };
    if (entry->type == RAFT_ENTRY_MEMBERS) {
        tree_members_set(replica->tree, entry->index, entry->data, entry->len);
        members_applied(replica, entry);
    }
    struct tree_result result;
    tree_apply(replica->tree, &tree_entry, &result);
    replica->applied_index = entry->index;
    agreement_applied(replica);
    replica->log_bytes += entry->len + sizeof *entry;
    if (tree_feature_level(replica->tree) > replica->feature_level) {
        (void)agreement_knows_level(replica);
        replica->env.fail(replica->env.context, ERR_UNSUPPORTED,
                          "the feature level of the ensemble");
    }
    if (tree_entry.command) {
        history_add(replica->history, replica->tree, result.changes, result.change_count);
        requests_events(replica, &result);
        sessions_follow(replica, &result);
        requests_result(replica, &result);
    }
}

/* Applies entries that are no longer in the memory of the core. Returns how many. */
static size_t apply_from_log(struct replica *replica, uint64_t last)
{
    struct raft_entry *entries[APPLY_READ_COUNT];
    size_t count = 0;
    enum err err = replica->env.log_read(replica->env.context, replica->applied_index + 1,
                                         APPLY_READ_BYTES, APPLY_READ_COUNT, entries, &count);
    if (err != ERR_OK) {
        replica->env.fail(replica->env.context, err, "reading committed entries from the log");
        return 0;
    }
    size_t applied = 0;
    for (size_t i = 0; i < count; i++) {
        if (entries[i]->index <= last && !replica->env.store_is_full(replica->env.context)) {
            apply_entry(replica, entries[i]);
            applied++;
        }
        raft_entry_unref(entries[i]);
    }
    return applied;
}

/* Applies what the core allows and the store has room for. */
static void apply_committed(struct replica *replica)
{
    uint64_t first = replica->applied_index;
    size_t budget = TURN_APPLY_MAX;
    while (budget > 0 && replica->applied_index < replica->apply_index) {
        if (replica->env.store_is_full(replica->env.context)) {
            replica->env.store_poll(replica->env.context, replica->now_ms, replica->log_bytes);
            if (replica->env.store_is_full(replica->env.context)) {
                break; /* The store's wake-up brings the next turn. */
            }
        }
        struct raft_entry *entry = raft_entry_at(replica->raft, replica->applied_index + 1);
        if (entry != NULL) {
            apply_entry(replica, entry);
            budget--;
            continue;
        }
        size_t count = apply_from_log(replica, replica->apply_index);
        if (count == 0) {
            break;
        }
        budget = count < budget ? budget - count : 0;
    }
    if (replica->applied_index != first) {
        struct raft_event event = {.type = RAFT_EV_APPLIED, .index = replica->applied_index};
        (void)replica_step(replica, &event);
    }
}

/* ---- effects ---- */

static void save(struct replica *replica, const struct raft_effects *effects)
{
    if (!effects->save_term && !effects->truncate && effects->save_count == 0) {
        return;
    }
    struct log_save work = {
        .save_term = effects->save_term,
        .term = effects->term,
        .vote = effects->vote,
        .truncate = effects->truncate,
        .truncate_index = effects->truncate_index,
        .entries = effects->save,
        .entry_count = effects->save_count,
    };
    enum err err = replica->env.log_submit(replica->env.context, &work);
    if (err != ERR_OK) {
        replica->env.fail(replica->env.context, err, "handing entries to the log");
    }
}

/* Reads old entries for a slow follower and gives them to the core. */
static void fetch(struct replica *replica, const struct raft_fetch *wanted)
{
    struct raft_entry *entries[FETCH_COUNT_MAX];
    size_t count = 0;
    uint64_t term = 0;
    enum err err = wanted->index > 1
                       ? replica->env.log_term(replica->env.context, wanted->index - 1, &term)
                       : ERR_OK;
    if (err == ERR_OK) {
        err = replica->env.log_read(replica->env.context, wanted->index, wanted->bytes_max,
                                    FETCH_COUNT_MAX, entries, &count);
    }
    if (err != ERR_OK) {
        count = 0; /* The core learns that they are not available. */
        log_warn("replica", "fetch_failed", "peer=%" PRIu64 " index=%" PRIu64 " err=%s",
                 wanted->peer, wanted->index, err_name(err));
    }
    struct raft_event event = {
        .type = RAFT_EV_FETCHED,
        .peer = wanted->peer,
        .index = wanted->index,
        .log_term = term,
        .entries = entries,
        .entry_count = count,
    };
    (void)replica_step(replica, &event);
    for (size_t i = 0; i < count; i++) {
        raft_entry_unref(entries[i]);
    }
}

static void read_done(struct replica *replica, const struct raft_read *read)
{
    uint64_t number = read->context & (((uint64_t)1 << 56) - 1);
    enum read_purpose purpose = (enum read_purpose)(read->context >> 56);
    switch (purpose) {
    case READ_FOR_SERVING:
        replica->serving_asked_ms = read->err == ERR_OK ? replica->serving_asked_ms : 0;
        replica->serving_index = read->err == ERR_OK ? read->index : UINT64_MAX;
        break;
    case READ_FOR_CLIENT:
        requests_read_confirmed(replica, number, read->index, read->err);
        break;
    case READ_FOR_TOUCH:
        peers_touch_confirmed(replica, number, read->err);
        break;
    }
}

static bool effects_any(const struct replica *replica, const struct raft_effects *effects)
{
    return effects->save_term || effects->truncate || effects->save_count > 0 ||
           effects->message_count > 0 || effects->fetch_count > 0 || effects->read_count > 0 ||
           effects->snapshot_count > 0 || effects->apply_index > replica->apply_index;
}

/* One round of the core's effects. */
static void effects_round(struct replica *replica)
{
    const struct raft_effects *effects = raft_effects(replica->raft);
    struct raft_fetch fetches[MEMBERS_MAX + 1];
    size_t fetch_count = effects->fetch_count;
    CHECK_OP(fetch_count, <=, MEMBERS_MAX + 1);
    save(replica, effects);
    for (size_t i = 0; i < effects->message_count; i++) {
        replica->env.peer_send_raft(replica->env.context, &effects->messages[i]);
    }
    if (fetch_count > 0) {
        memcpy(fetches, effects->fetches, fetch_count * sizeof fetches[0]);
    }
    for (size_t i = 0; i < effects->read_count; i++) {
        read_done(replica, &effects->reads[i]);
    }
    upkeep_snapshots(replica, effects);
    CHECK_OP(effects->apply_index, >=, replica->apply_index);
    replica->apply_index = effects->apply_index;
    raft_effects_done(replica->raft);
    for (size_t i = 0; i < fetch_count; i++) {
        fetch(replica, &fetches[i]);
    }
}

void replica_follow_role(struct replica *replica)
{
    struct raft_status status;
    raft_status(replica->raft, &status);
    if (status.role != replica->role || status.leader != replica->leader ||
        status.term != replica->term) {
        log_info("replica", "leader_change",
                 "term=%" PRIu64 " leader=%" PRIu64 " role=%s commit=%" PRIu64, status.term,
                 status.leader,
                 status.role == RAFT_LEADER     ? "leader"
                 : status.role == RAFT_FOLLOWER ? "follower"
                                                : "candidate",
                 status.commit_index);
        replica->role = status.role;
        replica->leader = status.leader;
        replica->term = status.term;
        replica->leader_ready = false;
        proposals_unsend(replica->proposals);
    }
    bool ready = status.leader_ready && tree_applied_term(replica->tree) == status.term;
    if (PLANT(EXPIRE_NEW_LEADER, false, ready && !replica->leader_ready)) {
        sessions_extend_all(replica->sessions, replica->now_ms);
    }
    if (ready && !replica->leader_ready) {
        replica->agreement_due_ms = 0; /* The level of a new ensemble rises at once. */
    }
    replica->leader_ready = ready;
}

/* CONSENSUS 17: serve only when caught up with a commit index that the leader confirmed. */
static void follow_serving(struct replica *replica)
{
    if (replica->serving || replica->removed) {
        return;
    }
    bool lately = replica->serving_asked_ms != 0 &&
                  replica->now_ms - replica->serving_asked_ms < READ_AGAIN_MS;
    if (replica->serving_index == UINT64_MAX && !lately && replica->leader != 0) {
        struct raft_event event = {.type = RAFT_EV_READ,
                                   .context = READ_CONTEXT(READ_FOR_SERVING, 0)};
        bool asked = replica_step(replica, &event) == ERR_OK;
        replica->serving_asked_ms = asked ? replica->now_ms : 0;
    }
    if (PLANT(SERVE_EARLY, true, replica->serving_index <= replica->applied_index)) {
        replica->serving = true;
        log_info("replica", "serving", "applied=%" PRIu64 " leader=%" PRIu64,
                 replica->applied_index, replica->leader);
        requests_serving(replica);
    }
}

/* Notices also when this process stood still: old ticks must not start an election, nor end
 * sessions. */
void replica_time(struct replica *replica, uint64_t now_ms)
{
    uint64_t late = now_ms > replica->deadline_ms ? now_ms - replica->deadline_ms : 0;
    replica->now_ms = now_ms;
    if (late < STALL_MS || replica->raft == NULL) {
        return;
    }
    log_warn("replica", "stalled", "gap_ms=%" PRIu64, late);
    replica->deadline_ms = now_ms;
    struct raft_event event = {.type = RAFT_EV_STALLED};
    (void)replica_step(replica, &event);
    sessions_shift(replica->sessions, late);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t replica_turn(struct replica *replica, uint64_t now_ms, int64_t time_ns)
{
    replica_time(replica, now_ms);
    replica->time_ns = time_ns;
    uint64_t deadline = UINT64_MAX;
    if (replica->raft != NULL) {
        struct raft_event tick = {.type = RAFT_EV_TICK};
        (void)replica_step(replica, &tick);
        bool any = true;
        for (size_t i = 0; any && i < TURN_STEPS_MAX; i++) {
            replica_follow_role(replica);
            members_turn(replica);
            deadline = peers_turn(replica);
            effects_round(replica);
            apply_committed(replica);
            follow_serving(replica);
            requests_turn(replica);
            any = effects_any(replica, raft_effects(replica->raft));
        }
        upkeep_turn(replica);
        agreement_turn(replica);
        bool more = feeds_turn(replica) || any ||
                    (replica->applied_index < replica->apply_index &&
                     !replica->env.store_is_full(replica->env.context));
        deadline = least(deadline, raft_effects(replica->raft)->deadline_ms);
        deadline = more ? now_ms : deadline;
        replica->env.store_poll(replica->env.context, now_ms, replica->log_bytes);
    } else {
        deadline = peers_turn(replica);
    }
    replica->deadline_ms = least(deadline, now_ms + 1000u);
    return replica->deadline_ms;
}
