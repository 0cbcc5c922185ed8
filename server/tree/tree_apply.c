/* SPDX-License-Identifier: Apache-2.0
 *
 * One committed entry to rows, a result and changes. Handed entries by the conductor, in order;
 * hands the operation to the file that knows it.
 *
 * The order of checks (CONSENSUS 20): the session is known, the epoch is its own, the command was
 * not applied before, then the operation itself.
 *
 * Invariants:
 *   1. Entries are applied one after the other, without a gap.
 *   2. A refused operation has written nothing; only its answer is kept. (But for an flock that is to
 *      be turned into one of the other type and cannot: it is gone, as on Linux.)
 *   3. The state row is written once an entry, as the last one: rows and applied index belong
 *      together.
 */
#include <string.h>

#include "common/check.h"
#include "common/plant.h"
#include "server/tree/tree_internal.h"

/* The state row has no part in the digest, so the level goes in by itself. */
static enum err raise_level(struct tree *tree, uint32_t level)
{
    uint8_t bytes[4];

    if (level > tree->feature_level) {
        tree->feature_level = level;
        put_be32(bytes, level);
        tree->digest = digest_with(tree->digest, bytes, sizeof(bytes));
    }
    return ERR_OK;
}

static enum err apply_op(struct apply *apply, const Wire__Op *op)
{
    switch (op->body_case) {
    case WIRE__OP__BODY_CREATE:
        return tree_dir_create(apply, op->create);
    case WIRE__OP__BODY_WRITE:
        return tree_file_write(apply, op->write);
    case WIRE__OP__BODY_SETATTR:
        return tree_attr_set(apply, op->setattr);
    case WIRE__OP__BODY_REMOVE:
        return tree_dir_remove(apply, op->remove);
    case WIRE__OP__BODY_RENAME:
        return tree_rename(apply, op->rename);
    case WIRE__OP__BODY_SESSION_OPEN:
        return tree_session_open(apply, op->session_open);
    case WIRE__OP__BODY_SESSION_ATTACH:
        return tree_session_attach(apply, op->session_attach);
    case WIRE__OP__BODY_SESSION_CLOSE:
        return tree_session_close(apply, op->session_close);
    case WIRE__OP__BODY_CANCEL:
        return tree_answer_cancel(apply, op->cancel);
    case WIRE__OP__BODY_FEATURE_LEVEL:
        return raise_level(apply->tree, op->feature_level->level);
    case WIRE__OP__BODY_STAGE:
        return tree_stage(apply, op->stage);
    case WIRE__OP__BODY_XATTR:
        return tree_xattr_set(apply, op->xattr);
    case WIRE__OP__BODY_MULTI:
        return tree_multi(apply, op->multi);
    case WIRE__OP__BODY_LOCK:
        return tree_lock(apply, op->lock);
    case WIRE__OP__BODY__NOT_SET:
    case _WIRE__OP__BODY__CASE_IS_INT_SIZE:
        break;
    }
    /* The decoder let it through. */
    check_failed(__FILE__, __LINE__, "known body", (int64_t)op->body_case, 0);
}

/* ERR_SESSION_EXPIRED, ERR_SESSION_MOVED, ERR_ANSWER_LOST; the kept answer if there is one. */
static enum err admit(struct tree *tree, const Wire__Command *command, struct kept_answer *kept,
                      bool *out_found)
{
    struct tree_session session;

    if (!tree_session_get(tree, command->session, &session)) {
        return ERR_SESSION_EXPIRED;
    }
    if (PLANT(EPOCH_IGNORED, false, command->epoch != session.epoch)) {
        return ERR_SESSION_MOVED;
    }
    if (command->sequence < command->answered_below) {
        return ERR_ANSWER_LOST; /* its client says that it has the answer */
    }
    return tree_answer_find(tree, command->session, command->sequence, kept, out_found);
}

/* It made one node and did nothing else: a cancel can take that back. */
static bool is_create(const Wire__Op *op)
{
    return op->body_case == WIRE__OP__BODY_CREATE ||
           (op->body_case == WIRE__OP__BODY_MULTI && op->multi->n_parts == 1 &&
            op->multi->parts[0]->body_case == WIRE__PART__BODY_CREATE);
}

/* A command of a session: applied at most once. */
static enum err apply_once(struct apply *apply, const Wire__Command *command)
{
    struct tree_result *out = apply->out;
    struct kept_answer kept;
    bool found = false;
    enum err err = admit(apply->tree, command, &kept, &found);

    if (err != ERR_OK) {
        return err;
    }
    if (found) {
        tree_answer_replay(apply, &kept);
        return kept.err;
    }
    out->err = apply_op(apply, command->op);
    kept = (struct kept_answer){
        .sequence = command->sequence,
        .err = out->err,
        .zxid = out->zxid,
        .ino = out->ino,
        .has_node = out->has_attr,
        .created = is_create(command->op) && out->err == ERR_OK,
        .queued = out->queued ? (uint8_t)command->op->lock->space : 0,
        .part_count = out->part_count,
        .parts = apply->tree->parts,
    };
    tree_answer_keep(apply->tree, command->session, &kept);
    return out->err;
}

static struct tree_identity identity_from_wire(const Wire__Identity *identity)
{
    if (identity == NULL) {
        return (struct tree_identity){.uid = UINT32_MAX, .gid = UINT32_MAX};
    }
    return (struct tree_identity){
        .trusted = identity->trusted,
        .uid = identity->uid,
        .gid = identity->gid,
        .group_count = identity->n_groups,
        .groups = identity->groups,
    };
}

static void apply_command(struct tree *tree, const struct tree_entry *entry,
                          struct tree_result *out)
{
    struct apply apply = {.tree = tree, .zxid = tree->index, .now_ns = tree->time_ns, .out = out};
    Wire__Command *command = NULL;

    out->err = tree_command_decode(entry->data, entry->len, tree->feature_level, &command);
    if (command == NULL) {
        return;
    }
    out->session = command->session;
    out->epoch = command->epoch;
    out->sequence = command->sequence;
    if (out->err == ERR_OK) {
        /* Those that belong to no session, and only those, have no number. */
        apply.session = command->session;
        apply.who = identity_from_wire(command->identity);
        out->err =
            command->sequence == 0 ? apply_op(&apply, command->op) : apply_once(&apply, command);
    }
    wire_free(&command->base);
}

void tree_apply(struct tree *tree, const struct tree_entry *entry, struct tree_result *out)
{
    uint8_t index[8];

    CHECK_OP(entry->index, ==, tree->index + 1);
    tree_event_clear(tree);
    buffer_clear(&tree->grants);
    *out = (struct tree_result){.zxid = entry->index};
    tree->index = entry->index;
    tree->term = entry->term;
    if (entry->time_ns > tree->time_ns) {
        tree->time_ns = entry->time_ns; /* never back, whatever the leader's clock says */
    }
    put_be64(index, entry->index);
    tree->digest = digest_with(tree->digest, index, sizeof(index));
    if (entry->command) {
        apply_command(tree, entry, out);
    }
    tree_state_store(tree);
    out->change_count = tree->change_count;
    out->changes = tree->changes;
    out->grant_count = tree->grants.len / sizeof(struct tree_grant);
    out->grants = (const void *)tree->grants.data;
}
