/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes of a log entry to a command. Handed them by tree_apply.c.
 *
 * Everything that holds for a command by itself is judged here, so that the operations meet only
 * numbers, lengths and addresses within their bounds. A log that holds a malformed command must not
 * keep any replica from starting: it is refused, never CHECKed (CONSENSUS 19).
 */
#include "common/check.h"
#include "common/version.h"
#include "server/tree/tree_internal.h"

static bool address_is_valid(const Wire__Address *at)
{
    return at != NULL && at->path.len <= PATH_BYTES_MAX + 1 && at->name.len <= PATH_BYTES_MAX;
}

static bool create_is_valid(const Wire__CreateOp *op)
{
    return address_is_valid(op->at) && op->kind != WIRE__KIND__KIND_NONE &&
           (op->mode & ~MODE_MASK) == 0 && op->holder.len <= HOLDER_BYTES_MAX;
}

static bool rename_is_valid(const Wire__RenameOp *op)
{
    return address_is_valid(op->from) && address_is_valid(op->to) &&
           !(op->no_replace && op->exchange);
}

static bool write_is_valid(const Wire__WriteOp *op)
{
    return address_is_valid(op->at) && op->n_ranges <= PATCH_RANGES_MAX &&
           (op->stage == 0) == (op->stage_parts == 0) && op->bytes_max <= FILE_BYTES_LIMIT;
}

static bool setattr_is_valid(const Wire__SetattrOp *op)
{
    return address_is_valid(op->at) && (!op->set_mode || (op->mode & ~MODE_MASK) == 0) &&
           !(op->of_data && (op->set_mode || op->set_uid || op->set_gid));
}

static bool stage_is_valid(const Wire__StageOp *op)
{
    return op->n_ranges <= PATCH_RANGES_MAX &&
           !(op->drop && (op->part != 0 || op->n_ranges != 0 || op->append.len != 0));
}

static bool xattr_is_valid(const Wire__XattrOp *op)
{
    return address_is_valid(op->at) && op->remove + op->create + op->replace <= 1 &&
           !(op->remove && op->value.len != 0);
}

static bool lock_is_valid(const Wire__LockOp *op)
{
    bool is_flock = op->space == WIRE__LOCK_SPACE__LOCK_SPACE_FLOCK;

    if (op->space == WIRE__LOCK_SPACE__LOCK_SPACE_NONE) {
        return false;
    }
    if (op->cancel != 0) {
        return op->type == WIRE__LOCK_TYPE__LOCK_TYPE_NONE && !op->wait;
    }
    if (op->wait && op->type == WIRE__LOCK_TYPE__LOCK_TYPE_NONE) {
        return false;
    }
    return op->start <= op->end && (!is_flock || (op->start == 0 && op->end == UINT64_MAX));
}

static bool part_is_valid(const Wire__Part *part)
{
    switch (part->body_case) {
    case WIRE__PART__BODY_CREATE:
        return create_is_valid(part->create);
    case WIRE__PART__BODY_WRITE:
        return write_is_valid(part->write) && part->write->stage == 0 &&
               part->write->bytes_max == 0;
    case WIRE__PART__BODY_SETATTR:
        return setattr_is_valid(part->setattr);
    case WIRE__PART__BODY_REMOVE:
        return address_is_valid(part->remove->at);
    case WIRE__PART__BODY_RENAME:
        return rename_is_valid(part->rename);
    case WIRE__PART__BODY_XATTR:
        return xattr_is_valid(part->xattr);
    case WIRE__PART__BODY_CHECK:
        return address_is_valid(part->check->at);
    case WIRE__PART__BODY__NOT_SET:
    case _WIRE__PART__BODY__CASE_IS_INT_SIZE:
        break;
    }
    return false;
}

static bool multi_is_valid(const Wire__MultiOp *op)
{
    if (op->n_parts == 0 || op->n_parts > MULTI_PARTS_MAX) {
        return false;
    }
    for (size_t i = 0; i < op->n_parts; i++) {
        if (!part_is_valid(op->parts[i])) {
            return false;
        }
    }
    return true;
}

/* Those that belong to no session. */
static bool is_outside_sessions(const Wire__Op *op)
{
    return op->body_case == WIRE__OP__BODY_SESSION_OPEN ||
           op->body_case == WIRE__OP__BODY_SESSION_ATTACH ||
           op->body_case == WIRE__OP__BODY_SESSION_CLOSE ||
           op->body_case == WIRE__OP__BODY_FEATURE_LEVEL;
}

static bool op_is_valid(const Wire__Op *op)
{
    switch (op->body_case) {
    case WIRE__OP__BODY_CREATE:
        return create_is_valid(op->create);
    case WIRE__OP__BODY_WRITE:
        return write_is_valid(op->write);
    case WIRE__OP__BODY_SETATTR:
        return setattr_is_valid(op->setattr);
    case WIRE__OP__BODY_REMOVE:
        return address_is_valid(op->remove->at);
    case WIRE__OP__BODY_RENAME:
        return rename_is_valid(op->rename);
    case WIRE__OP__BODY_SESSION_OPEN:
        return op->session_open->password.len == PASSWORD_BYTES &&
               op->session_open->nonce.len == NONCE_BYTES;
    case WIRE__OP__BODY_SESSION_ATTACH:
        return op->session_attach->password.len == PASSWORD_BYTES &&
               op->session_attach->nonce.len == NONCE_BYTES;
    case WIRE__OP__BODY_SESSION_CLOSE:
    case WIRE__OP__BODY_CANCEL:
        return true;
    case WIRE__OP__BODY_FEATURE_LEVEL:
        return op->feature_level->level != 0;
    case WIRE__OP__BODY_STAGE:
        return stage_is_valid(op->stage);
    case WIRE__OP__BODY_XATTR:
        return xattr_is_valid(op->xattr);
    case WIRE__OP__BODY_MULTI:
        return multi_is_valid(op->multi);
    case WIRE__OP__BODY_LOCK:
        return lock_is_valid(op->lock);
    case WIRE__OP__BODY__NOT_SET:
    case _WIRE__OP__BODY__CASE_IS_INT_SIZE:
        break;
    }
    return false;
}

static bool command_is_valid(const Wire__Command *command)
{
    if (command->op == NULL || !op_is_valid(command->op)) {
        return false;
    }
    if (is_outside_sessions(command->op)) {
        return command->session == 0 && command->sequence == 0;
    }
    /* Without an identity the zeros would be those of root. */
    return command->sequence != 0 && command->identity != NULL &&
           command->identity->n_groups <= GROUPS_MAX;
}

enum err tree_command_decode(const uint8_t *bytes, size_t len, uint32_t feature_level,
                             Wire__Command **out)
{
    ProtobufCMessage *message = NULL;
    enum err err = ERR_MALFORMED;

    *out = NULL;
    if (len <= COMMAND_BYTES_MAX) {
        err = wire_unpack_strict(&wire__command__descriptor, bytes, len, &message);
        CHECK(err != ERR_MEMORY);
    }
    if (err != ERR_OK) {
        return err;
    }
    *out = (Wire__Command *)message;
    /* To a replica that does not know the level such fields are unknown, and so malformed. */
    if (feature_level < FEATURE_FILES && command_has_files_news(bytes, len)) {
        return ERR_MALFORMED;
    }
    return command_is_valid(*out) ? ERR_OK : ERR_MALFORMED;
}
