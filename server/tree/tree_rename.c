/* SPDX-License-Identifier: Apache-2.0
 *
 * rename(2): a name moves, replaces, or changes places with another. Handed operations by
 * tree_apply.c. Whatever hangs below a directory stays as it is: its rows are keyed by ino.
 *
 * Invariant: no node becomes its own ancestor.
 */
#include <string.h>

#include "common/check.h"
#include "server/tree/tree_internal.h"

/* Whether `node` is `below` or one of the directories above it. */
static bool is_above(struct tree *tree, const struct node *node, uint64_t below)
{
    uint64_t ino = node->attr.ino;
    uint64_t at = below;

    if (!node_may_have_children(&node->attr)) {
        return false;
    }
    for (uint64_t steps = 0; at != ino && at != ROOT_INO; steps++) {
        CHECK_OP(steps, <=, tree->node_count);
        CHECK(node_parent(tree, at, &at));
    }
    return at == ino;
}

/* Moving a node to another directory changes its "..", which needs the right to write it. */
static enum err check_moved(const struct apply *apply, const struct node *node,
                            const struct node *to_parent)
{
    if (!node_shows_as_dir(&node->attr) || node->attr.parent == to_parent->attr.ino) {
        return ERR_OK;
    }
    return access_check(&node->attr, &apply->who, ACCESS_WRITE);
}

static enum err check_access(const struct apply *apply, const struct place *from,
                             const struct place *to, bool exchange)
{
    enum err err = access_check_removal(&from->parent->attr, &from->node->attr, &apply->who);

    if (err == ERR_OK) {
        err = to->has_node
                  ? access_check_removal(&to->parent->attr, &to->node->attr, &apply->who)
                  : access_check(&to->parent->attr, &apply->who, ACCESS_WRITE | ACCESS_SEARCH);
    }
    if (err == ERR_OK) {
        err = check_moved(apply, from->node, to->parent);
    }
    if (err == ERR_OK && exchange) {
        err = check_moved(apply, to->node, from->parent);
    }
    return err;
}

/* Whether `node` may take the place of `old`. */
static enum err check_replace(const struct node_attr *node, const struct node_attr *old)
{
    if (!node_shows_as_dir(old)) {
        return node_shows_as_dir(node) ? ERR_NOT_DIR : ERR_OK;
    }
    if (!node_shows_as_dir(node)) {
        return ERR_IS_DIR;
    }
    return old->children != 0 || old->data_bytes != 0 ? ERR_NOT_EMPTY : ERR_OK;
}

/* Finds both places; afterwards both have a parent. Each slot is a node of its own, so a directory
 * that both share must be one struct: else the second store would undo the first. */
static enum err find_both(struct apply *apply, const Wire__RenameOp *op)
{
    struct tree *tree = apply->tree;
    struct place *from = &tree->at;
    struct place *to = &tree->to;
    struct tree_address from_at = address_from_wire(op->from);
    struct tree_address to_at = address_from_wire(op->to);
    enum err err = place_find(tree, &from_at, &apply->who, from);

    if (err != ERR_OK) {
        return err;
    }
    err = place_resolve(tree, &to_at, &apply->who, to);
    if (err != ERR_OK) {
        return err;
    }
    place_load_parent(tree, from);
    if (to->has_node) {
        place_load_parent(tree, to);
    }
    if (!from->has_parent || !to->has_parent) {
        return ERR_INVALID; /* the root stays where it is */
    }
    if (op->exchange && !to->has_node) {
        return ERR_NO_NODE;
    }
    if (op->no_replace && to->has_node) {
        return ERR_EXISTS;
    }
    if (to->parent->attr.ino == from->parent->attr.ino) {
        to->parent = from->parent;
    }
    return ERR_OK;
}

static enum err check(struct apply *apply, const Wire__RenameOp *op)
{
    struct tree *tree = apply->tree;
    struct place *from = &tree->at;
    struct place *to = &tree->to;
    enum err err = ERR_OK;

    if (is_above(tree, from->node, to->parent->attr.ino)) {
        return ERR_LOOP;
    }
    if (op->exchange && is_above(tree, to->node, from->parent->attr.ino)) {
        return ERR_LOOP;
    }
    err = check_access(apply, from, to, op->exchange);
    if (err == ERR_OK && to->has_node && !op->exchange) {
        err = check_replace(&from->node->attr, &to->node->attr);
    }
    return err;
}

/* Gives a node, whose old row is gone, its new name. */
static void put_at(const struct apply *apply, struct node *node, uint64_t parent,
                   const struct node_name *name)
{
    node->attr.parent = parent;
    node->attr.ctime_ns = apply->now_ns;
    node->attr.azxid = apply->zxid;
    node->name = *name;
    node_store(apply->tree, node);
    node_store_path(apply->tree, node);
}

static void store_parents(struct tree *tree, struct place *from, struct place *to)
{
    node_store(tree, from->parent);
    if (to->parent != from->parent) {
        node_store(tree, to->parent);
    }
}

static void move(struct apply *apply, struct place *from, struct place *to)
{
    struct tree *tree = apply->tree;
    bool is_dir = from->node->attr.kind == NODE_DIR;
    bool replaced_dir = to->has_node && to->node->attr.kind == NODE_DIR;

    if (to->has_node) {
        node_remove(tree, to->node);
    }
    node_unlink(tree, from->node);
    put_at(apply, from->node, to->parent->attr.ino, &to->name);
    dir_changed(apply, from->parent, DIR_REMOVED, is_dir, /* is one */ false);
    dir_changed(apply, to->parent, to->has_node ? DIR_REPLACED : DIR_ADDED, replaced_dir, is_dir);
    store_parents(tree, from, to);
}

static void exchange(struct apply *apply, struct place *from, struct place *to)
{
    struct tree *tree = apply->tree;
    struct node_name from_name = from->node->name;
    bool from_is_dir = from->node->attr.kind == NODE_DIR;
    bool to_is_dir = to->node->attr.kind == NODE_DIR;

    node_unlink(tree, from->node);
    node_unlink(tree, to->node);
    put_at(apply, from->node, to->parent->attr.ino, &to->name);
    put_at(apply, to->node, from->parent->attr.ino, &from_name);
    dir_changed(apply, from->parent, DIR_REPLACED, from_is_dir, to_is_dir);
    dir_changed(apply, to->parent, DIR_REPLACED, to_is_dir, from_is_dir);
    store_parents(tree, from, to);
}

static void fill_in(const struct place *from, const struct place *to, struct tree_result *out)
{
    out->ino = from->node->attr.ino;
    out->has_attr = true;
    out->attr = from->node->attr;
    out->has_parent_attr = true;
    out->parent_attr = from->parent->attr;
    if (to->parent->attr.ino != from->parent->attr.ino) {
        out->has_to_parent_attr = true;
        out->to_parent_attr = to->parent->attr;
    }
}

enum err tree_rename(struct apply *apply, const Wire__RenameOp *op)
{
    struct place *from = &apply->tree->at;
    struct place *to = &apply->tree->to;
    struct tree_change *change = NULL;
    enum err err = find_both(apply, op);

    if (err != ERR_OK) {
        return err;
    }
    if (to->has_node && to->node->attr.ino == from->node->attr.ino) {
        fill_in(from, to, apply->out);
        return ERR_OK; /* rename(2): the same node, nothing to do */
    }
    err = check(apply, op);
    if (err != ERR_OK) {
        return err;
    }
    change = tree_event_add(apply, CHANGE_RENAMED, from->node);
    change->to_name = to->name;
    change->replaced = to->has_node && !op->exchange;
    change->exchanged = op->exchange;
    if (op->exchange) {
        exchange(apply, from, to);
    } else {
        move(apply, from, to);
    }
    change->attr = from->node->attr;
    change->parent_attr = from->parent->attr;
    change->to_parent = to->parent->attr.ino;
    change->to_parent_attr = to->parent->attr;
    if (to->has_node) {
        change->replaced_attr = to->node->attr;
    }
    fill_in(from, to, apply->out);
    return ERR_OK;
}
