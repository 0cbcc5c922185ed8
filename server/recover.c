/* SPDX-License-Identifier: Apache-2.0
 *
 * One survivor as an ensemble of its own. Called by main.c in place of the daemon; hands on to
 * identity.c, log, tree and store, which it opens as a start would.
 *
 * Invariants:
 *   1. Nothing is changed before all that could refuse has been looked at.
 *   2. The log never gets the new members while the identity still names the old ensemble.
 */
#include "server/recover.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/clock.h"
#include "server/identity.h"
#include "server/log/log.h"
#include "server/store/store.h"
#include "server/tree/tree.h"

#define PATH_BYTES (CONFIG_PATH_BYTES + 32u)
#define READ_BYTES (4u * MIB)
#define READ_COUNT 512u

struct survivor {
    const struct config *config;
    int lock_fd;
    struct replica_identity identity;
    struct log *log;
    struct log_state state;
    struct store *store;
    struct tree *tree;
    uint64_t applied_index;
    struct raft_members members; /* the newest that log or tree know */
    uint64_t members_index;
};

/* ---- opening ---- */

static void path_of(char to[PATH_BYTES], const struct survivor *survivor, const char *name)
{
    (void)snprintf(to, PATH_BYTES, "%s/%s", survivor->config->data, name);
}

static void on_wake(void *arg)
{
    (void)arg; /* by the store thread: nobody polls here */
}

/* Before anything is opened, as opening makes what is missing. */
static enum err check_folder(const struct survivor *survivor, struct buffer *error)
{
    char path[PATH_BYTES];

    path_of(path, survivor, "identity");
    if (access(path, F_OK) != 0) {
        (void)buffer_printf(error, "%s holds no replica", survivor->config->data);
        return ERR_INVALID;
    }
    path_of(path, survivor, "incoming.complete");
    if (access(path, F_OK) == 0) {
        (void)buffer_printf(error,
                            "a snapshot waits in %s: start this replica, end it when it has "
                            "installed that, and ask again",
                            survivor->config->data);
        return ERR_INVALID;
    }
    return ERR_OK;
}

static enum err open_identity(struct survivor *survivor, struct buffer *error)
{
    const struct config *config = survivor->config;
    enum err err = identity_open(config->data, config->id, 1 /* not used: there is one */,
                                 &survivor->identity, error);

    if (err == ERR_OK && !survivor->identity.formed) {
        (void)buffer_printf(error, "the replica in %s never belonged to an ensemble", config->data);
        return ERR_INVALID;
    }
    return err;
}

static enum err open_log(struct survivor *survivor, struct buffer *error)
{
    char folder[PATH_BYTES];
    struct log_options options = {.folder = folder,
                                  .io = &log_io_system,
                                  .segment_bytes = config_segment_bytes(survivor->config)};

    path_of(folder, survivor, "log");
    return log_open(&options, &survivor->log, &survivor->state, error);
}

static enum err open_tree(struct survivor *survivor, struct buffer *error)
{
    char folder[PATH_BYTES];
    struct store_options options = {.folder = folder, .wake = on_wake};
    enum err err = ERR_OK;
    struct kv kv;

    path_of(folder, survivor, "store");
    err = store_open(&options, &survivor->store, error);
    if (err != ERR_OK) {
        return err;
    }
    kv = store_kv(survivor->store);
    survivor->tree = tree_new(&kv);
    if (survivor->tree == NULL) {
        return ERR_MEMORY;
    }
    survivor->applied_index = tree_applied_index(survivor->tree);
    return ERR_OK;
}

/* What a start would refuse: it could not serve as an ensemble of one either. */
static enum err check_fit(struct survivor *survivor, struct buffer *error)
{
    const struct log_state *state = &survivor->state;
    uint64_t applied = survivor->applied_index;
    uint64_t term = 0;

    if (state->last_index == 0 || state->first_index > applied + 1 || state->last_index < applied ||
        log_term(survivor->log, applied, &term) != ERR_OK ||
        term != tree_applied_term(survivor->tree)) {
        (void)buffer_printf(error,
                            "log and tree in %s do not fit: applied %" PRIu64 ", log from %" PRIu64
                            " to %" PRIu64,
                            survivor->config->data, applied, state->first_index, state->last_index);
        return ERR_CORRUPT;
    }
    return ERR_OK;
}

static enum err open_all(struct survivor *survivor, struct buffer *error)
{
    enum err err = check_folder(survivor, error);

    err = err == ERR_OK ? identity_lock(survivor->config->data, &survivor->lock_fd, error) : err;
    err = err == ERR_OK ? open_identity(survivor, error) : err;
    err = err == ERR_OK ? open_log(survivor, error) : err;
    err = err == ERR_OK ? open_tree(survivor, error) : err;
    return err == ERR_OK ? check_fit(survivor, error) : err;
}

static void close_all(struct survivor *survivor)
{
    tree_free(survivor->tree);
    store_close(survivor->store);
    log_close(survivor->log);
    if (survivor->lock_fd >= 0) {
        (void)close(survivor->lock_fd);
    }
}

/* ---- the members until now ---- */

static enum err members_in_log(struct survivor *survivor)
{
    uint64_t next = survivor->applied_index + 1;
    enum err err = ERR_OK;

    while (err == ERR_OK && next <= survivor->state.last_index) {
        struct raft_entry *entries[READ_COUNT];
        size_t count = 0;
        err = log_read(survivor->log, next, READ_BYTES, READ_COUNT, entries, &count);
        for (size_t i = 0; i < count; i++) {
            if (err == ERR_OK && entries[i]->type == RAFT_ENTRY_MEMBERS) {
                survivor->members_index = entries[i]->index;
                err = raft_members_decode(entries[i]->data, entries[i]->len, &survivor->members);
            }
            raft_entry_unref(entries[i]);
        }
        next += count;
    }
    return err;
}

static enum err find_members(struct survivor *survivor, struct buffer *error)
{
    struct buffer bytes = {0};
    enum err err = ERR_OK;

    survivor->members = survivor->identity.founders;
    survivor->members_index = 1;
    if (tree_members_get(survivor->tree, &survivor->members_index, &bytes)) {
        err = raft_members_decode(bytes.data, bytes.len, &survivor->members);
    }
    buffer_done(&bytes);
    err = err == ERR_OK ? members_in_log(survivor) : err;
    if (err != ERR_OK) {
        (void)buffer_printf(error, "cannot read the members in %s: %s", survivor->config->data,
                            err_text(err));
    }
    return err;
}

/* NULL: it was removed, or the member with its id had another folder. */
static const struct raft_member *find_self(const struct survivor *survivor)
{
    const struct raft_member *self = raft_members_find(&survivor->members, survivor->identity.id);

    return self != NULL && !self->leaving && self->incarnation == survivor->identity.incarnation
               ? self
               : NULL;
}

static bool is_only_voter(const struct survivor *survivor)
{
    const struct raft_member *self = find_self(survivor);

    if (self == NULL || !self->voter) {
        return false;
    }
    for (size_t i = 0; i < survivor->members.count; i++) {
        const struct raft_member *member = &survivor->members.member[i];
        if (member->id != self->id && (member->voter || member->was_voter)) {
            return false;
        }
    }
    return true;
}

/* ---- saying ---- */

static void say_ensemble(struct buffer *text, const char *before, const struct survivor *survivor)
{
    (void)buffer_printf(text, "%s", before);
    for (size_t i = 0; i < ENSEMBLE_ID_BYTES; i++) {
        (void)buffer_printf(text, "%02x", survivor->identity.ensemble[i]);
    }
    (void)buffer_printf(text, "\n");
}

static void say_members(struct buffer *text, const struct survivor *survivor)
{
    for (size_t i = 0; i < survivor->members.count; i++) {
        const struct raft_member *member = &survivor->members.member[i];
        bool stays = member == find_self(survivor);
        (void)buffer_printf(text, "  member %-5" PRIu64 " %-8s %-7s %s\n", member->id,
                            member->voter ? "voter" : "learner", stays ? "stays" : "dropped",
                            member->address);
    }
}

static void say_what_is(struct buffer *text, const struct survivor *survivor)
{
    (void)buffer_printf(text, "replica        %" PRIu64 ", data in %s\n", survivor->identity.id,
                        survivor->config->data);
    say_ensemble(text, "ensemble       ", survivor);
    (void)buffer_printf(text,
                        "applied index  %" PRIu64 "\n"
                        "last in log    %" PRIu64 ", term %" PRIu64 "\n"
                        "members        as of entry %" PRIu64 "\n",
                        survivor->applied_index, survivor->state.last_index,
                        survivor->state.last_term, survivor->members_index);
    say_members(text, survivor);
}

static void say_what_comes(struct buffer *text, const struct survivor *survivor)
{
    const struct raft_member *self = find_self(survivor);

    if (self == NULL) {
        (void)buffer_printf(text, "This replica was not a member any more: what was changed since "
                                  "then is not in its log.\n");
    } else if (!self->voter) {
        (void)buffer_printf(text, "This replica was a learner: a majority may have had more than "
                                  "its log.\n");
    }
    (void)buffer_printf(text,
                        "All entries up to %" PRIu64 " will count as committed; what others had "
                        "beyond that is lost.\n"
                        "The other members will be strangers: never start them again on their "
                        "folders.\n",
                        survivor->state.last_index);
}

/* ---- doing ---- */

static enum err new_ensemble(struct survivor *survivor, struct buffer *error)
{
    struct replica_identity *identity = &survivor->identity;

    if (getrandom(identity->ensemble, ENSEMBLE_ID_BYTES, 0) != (ssize_t)ENSEMBLE_ID_BYTES) {
        (void)buffer_printf(error, "no random bytes for the id of the ensemble");
        return ERR_IO;
    }
    return identity_save(survivor->config->data, identity, error);
}

/* This replica as the only voter. Ids that were used stay used. */
static struct raft_members alone(const struct survivor *survivor)
{
    const struct replica_identity *identity = &survivor->identity;
    const struct raft_member *known = raft_members_find(&survivor->members, identity->id);
    struct raft_members members = {.last_id = survivor->members.last_id, .count = 1};
    struct raft_member *self = &members.member[0];

    if (known == NULL) {
        known = raft_members_find(&survivor->config->members, identity->id);
    }
    *self = (struct raft_member){
        .id = identity->id, .incarnation = identity->incarnation, .voter = true};
    if (known != NULL) {
        memcpy(self->address, known->address, sizeof(self->address));
    }
    if (members.last_id < identity->id) {
        members.last_id = identity->id;
    }
    return members;
}

static int64_t latest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static enum err append_members(struct survivor *survivor)
{
    const struct log_state *state = &survivor->state;
    const struct raft_members members = alone(survivor);
    uint64_t term = (state->term > state->last_term ? state->term : state->last_term) + 1;
    struct buffer bytes = {0};
    struct raft_entry *entry = NULL;
    enum err err = raft_members_encode(&members, &bytes);

    if (err != ERR_OK) {
        goto out;
    }
    entry = raft_entry_new(RAFT_ENTRY_MEMBERS, bytes.data, bytes.len);
    if (entry == NULL) {
        err = ERR_MEMORY;
        goto out;
    }
    entry->index = state->last_index + 1;
    entry->term = term;
    entry->time_ns = latest(latest(state->last_time_ns, tree_applied_time_ns(survivor->tree)),
                            clock_realtime_ns());
    err = log_save_term(survivor->log, term, survivor->identity.id);
    err = err == ERR_OK ? log_append(survivor->log, &entry, 1) : err;
    raft_entry_unref(entry);
out:
    buffer_done(&bytes);
    return err;
}

static enum err carry_out(struct survivor *survivor, struct buffer *text, struct buffer *error)
{
    enum err err = new_ensemble(survivor, error);

    if (err != ERR_OK) {
        return err;
    }
    err = append_members(survivor);
    if (err != ERR_OK) {
        (void)buffer_printf(
            error,
            "cannot write the log in %s: %s; this replica has left its ensemble and "
            "is not yet one by itself: ask again",
            survivor->config->data, err_text(err));
        return err;
    }
    say_ensemble(text, "This replica is now by itself the ensemble ", survivor);
    return ERR_OK;
}

enum err recover_alone(const struct config *config, bool yes, enum recover_result *out,
                       struct buffer *text, struct buffer *error)
{
    struct survivor survivor = {.config = config, .lock_fd = -1};
    enum err err = open_all(&survivor, error);

    *out = RECOVER_NEEDED;
    err = err == ERR_OK ? find_members(&survivor, error) : err;
    if (err != ERR_OK) {
        goto out;
    }
    say_what_is(text, &survivor);
    if (is_only_voter(&survivor)) {
        *out = RECOVER_NOT_NEEDED;
        (void)buffer_printf(text, "This replica is the only voter: it needs no other. Nothing was "
                                  "changed.\n");
        goto out;
    }
    say_what_comes(text, &survivor);
    if (yes) {
        err = carry_out(&survivor, text, error);
        *out = RECOVER_DONE;
    }
out:
    close_all(&survivor);
    if (err != ERR_OK && error->len == 0) {
        (void)buffer_printf(error, "cannot look into %s: %s", config->data, err_text(err));
    }
    return err;
}
