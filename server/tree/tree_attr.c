/* SPDX-License-Identifier: Apache-2.0
 *
 * chmod, chown, utimens. Handed operations by tree_apply.c; the rules are those of chmod(2),
 * chown(2) and utimensat(2).
 */
#include "common/check.h"
#include "server/tree/tree_internal.h"

static enum err check_owner(const struct apply *apply, const struct node_attr *attr,
                            const Wire__SetattrOp *op)
{
    const struct tree_identity *who = &apply->who;

    if (who->trusted) {
        return ERR_OK;
    }
    if ((op->set_mode || op->set_uid || op->set_gid) && !access_is_owner(attr, who)) {
        return ERR_PERM;
    }
    if (op->set_uid && op->uid != attr->uid) {
        return ERR_PERM;
    }
    if (op->set_gid && op->gid != attr->gid && !access_in_group(who, op->gid)) {
        return ERR_PERM;
    }
    return ERR_OK;
}

/* "Now" may be set by whoever may write, other times by the owner only. */
static enum err check_times(const struct apply *apply, const struct node_attr *attr,
                            const Wire__SetattrOp *op)
{
    bool other = (op->set_atime && !op->atime_now) || (op->set_mtime && !op->mtime_now);

    if (access_is_owner(attr, &apply->who)) {
        return ERR_OK;
    }
    if (other) {
        return ERR_PERM;
    }
    return op->set_atime || op->set_mtime ? access_check(attr, &apply->who, ACCESS_WRITE) : ERR_OK;
}

static void change_mode_and_owner(const struct apply *apply, struct node_attr *attr,
                                  const Wire__SetattrOp *op)
{
    if (!op->set_mode && !op->set_uid && !op->set_gid) {
        return;
    }
    attr->aversion++;
    if (op->set_uid) {
        attr->uid = op->uid;
    }
    if (op->set_gid) {
        attr->gid = op->gid;
    }
    if ((op->set_uid || op->set_gid) && attr->kind != NODE_DIR) {
        attr->mode &= ~MODE_SETUID;
        if ((attr->mode & MODE_GROUP_EXECS) != 0) {
            attr->mode &= ~MODE_SETGID;
        }
    }
    if (op->set_mode) {
        attr->mode = op->mode;
        if (!apply->who.trusted && !access_in_group(&apply->who, attr->gid)) {
            attr->mode &= ~MODE_SETGID;
        }
    }
}

static void change_times(const struct apply *apply, struct node_attr *attr,
                         const Wire__SetattrOp *op)
{
    if (op->set_atime) {
        attr->atime_ns = op->atime_now ? apply->now_ns : op->atime_ns;
    }
    if (op->set_mtime) {
        int64_t mtime_ns = op->mtime_now ? apply->now_ns : op->mtime_ns;
        if (node_shows_as_dir(attr) && !op->of_data) {
            attr->children_mtime_ns = mtime_ns;
        } else {
            attr->mtime_ns = mtime_ns;
        }
    }
}

enum err tree_attr_set(struct apply *apply, const Wire__SetattrOp *op)
{
    struct tree *tree = apply->tree;
    struct place *at = &tree->at;
    struct tree_address address = address_from_wire(op->at);
    enum err err = place_find(tree, &address, &apply->who, at);

    if (err != ERR_OK) {
        return err;
    }
    err = check_owner(apply, &at->node->attr, op);
    if (err != ERR_OK) {
        return err;
    }
    err = check_times(apply, &at->node->attr, op);
    if (err != ERR_OK) {
        return err;
    }
    if (op->set_mode || op->set_uid || op->set_gid || op->set_atime || op->set_mtime) {
        change_mode_and_owner(apply, &at->node->attr, op);
        change_times(apply, &at->node->attr, op);
        at->node->attr.ctime_ns = apply->now_ns;
        at->node->attr.azxid = apply->zxid;
        node_store(tree, at->node);
        tree_event_add(apply, CHANGE_ATTR, at->node);
    }
    apply->out->ino = at->node->attr.ino;
    apply->out->has_attr = true;
    apply->out->attr = at->node->attr;
    return ERR_OK;
}
