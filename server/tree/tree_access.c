/* SPDX-License-Identifier: Apache-2.0
 *
 * Who may do what, by the mode bits, as path_resolution(7) and unlink(2) say. Called by the
 * operations and the reads; answers only.
 *
 * A trusted identity may do everything: the kernel of its host has judged. To all others uid 0 is
 * a number like any other.
 */
#include "common/check.h"
#include "server/tree/tree_internal.h"

bool access_in_group(const struct tree_identity *who, uint32_t gid)
{
    if (who->gid == gid) {
        return true;
    }
    for (size_t i = 0; i < who->group_count; i++) {
        if (who->groups[i] == gid) {
            return true;
        }
    }
    return false;
}

bool access_is_owner(const struct node_attr *attr, const struct tree_identity *who)
{
    return who->trusted || who->uid == attr->uid;
}

enum err access_check(const struct node_attr *attr, const struct tree_identity *who,
                      unsigned wanted)
{
    unsigned granted = attr->mode;

    if (who->trusted) {
        return ERR_OK;
    }
    if (who->uid == attr->uid) {
        granted = attr->mode >> 6;
    } else if (access_in_group(who, attr->gid)) {
        granted = attr->mode >> 3;
    }
    return (wanted & ~granted) == 0 ? ERR_OK : ERR_ACCESS;
}

enum err access_check_removal(const struct node_attr *parent, const struct node_attr *node,
                              const struct tree_identity *who)
{
    enum err err = access_check(parent, who, ACCESS_WRITE | ACCESS_SEARCH);

    if (err != ERR_OK) {
        return err;
    }
    if ((parent->mode & MODE_STICKY) != 0 && !access_is_owner(parent, who) &&
        !access_is_owner(node, who)) {
        return ERR_PERM;
    }
    return ERR_OK;
}

enum err access_check_way(struct tree *tree, uint64_t ino, const struct tree_identity *who)
{
    uint64_t at = ino;

    if (who->trusted) {
        return ERR_OK;
    }
    for (uint64_t steps = 0; at != ROOT_INO; steps++) {
        enum err err = ERR_OK;
        CHECK_OP(steps, <=, tree->node_count); /* no loops: rename sees to it */
        if (!node_parent(tree, at, &at)) {
            return ERR_STALE;
        }
        CHECK(node_load(tree, at, &tree->walker));
        err = access_check(&tree->walker.attr, who, ACCESS_SEARCH);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}
