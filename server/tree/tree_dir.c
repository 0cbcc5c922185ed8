/* SPDX-License-Identifier: Apache-2.0
 *
 * Names: where an address leads, and how names come and go. Handed operations by tree_apply.c;
 * hands rows to tree_node.c and changes to tree_event.c.
 *
 * Invariants:
 *   1. children is the number of 'N' rows below a node, subdirs that of those of kind DIR.
 *   2. creates never falls, and grows with every name that comes: it is the next sequence number.
 *   3. A node with an owner has an 'E' row of its session, and only such a node.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/path.h"
#include "server/tree/tree_internal.h"

/* A sequence number of any size, with its closing NUL. */
#define SEQUENCE_TEXT_BYTES 24u

void place_init(struct place *place)
{
    place->parent = &place->slots[0];
    place->node = &place->slots[1];
    place->has_parent = false;
    place->has_node = false;
    place->name.len = 0;
}

void place_done(struct place *place)
{
    node_done(&place->slots[0]);
    node_done(&place->slots[1]);
}

struct tree_address address_from_wire(const Wire__Address *at)
{
    return (struct tree_address){
        .path = at->path.data,
        .path_len = at->path.len,
        .ino = at->ino,
        .name = at->name.data,
        .name_len = at->name.len,
    };
}

/* From the node that was reached to the child of this name. */
static enum err step(struct tree *tree, const struct tree_identity *who, struct place *place,
                     const uint8_t *name, size_t name_len)
{
    struct node *dir = place->node;
    enum err err = ERR_OK;

    if (!node_may_have_children(&dir->attr)) {
        return ERR_NOT_DIR;
    }
    err = access_check(&dir->attr, who, ACCESS_SEARCH);
    if (err != ERR_OK) {
        return err;
    }
    place->node = place->parent;
    place->parent = dir;
    place->has_parent = true;
    place->name.len = (uint8_t)name_len;
    memcpy(place->name.bytes, name, name_len);
    place->has_node = node_load_child(tree, dir->attr.ino, name, name_len, place->node);
    return ERR_OK;
}

static enum err resolve_path(struct tree *tree, const struct tree_address *at,
                             const struct tree_identity *who, struct place *place)
{
    const char *path = (const char *)at->path;
    const char *name = NULL;
    size_t name_len = 0;
    size_t offset = 0;
    enum err err = path_check(path, at->path_len);

    if (err != ERR_OK) {
        return err;
    }
    place->has_node = node_load(tree, ROOT_INO, place->node);
    while (path_next(path, at->path_len, &offset, &name, &name_len)) {
        if (!place->has_node) {
            place->has_parent = false; /* a directory on the way is missing, not the last name */
            return ERR_NO_NODE;
        }
        err = step(tree, who, place, (const uint8_t *)name, name_len);
        if (err != ERR_OK) {
            place->has_parent = false;
            return err;
        }
    }
    return ERR_OK;
}

static enum err resolve_ino(struct tree *tree, const struct tree_address *at,
                            const struct tree_identity *who, struct place *place)
{
    enum err err = ERR_OK;

    if (at->name_len != 0) {
        err = path_name_check(at->name, at->name_len);
        if (err != ERR_OK) {
            return err;
        }
    }
    if (!node_load(tree, at->ino, place->node)) {
        return ERR_STALE;
    }
    place->has_node = true;
    err = access_check_way(tree, at->ino, who);
    if (err != ERR_OK) {
        return err;
    }
    if (at->name_len != 0) {
        return step(tree, who, place, at->name, at->name_len);
    }
    place->name = place->node->name;
    return ERR_OK;
}

enum err place_resolve(struct tree *tree, const struct tree_address *at,
                       const struct tree_identity *who, struct place *out)
{
    place_init(out);
    return at->path_len != 0 ? resolve_path(tree, at, who, out) : resolve_ino(tree, at, who, out);
}

enum err place_find(struct tree *tree, const struct tree_address *at,
                    const struct tree_identity *who, struct place *out)
{
    enum err err = place_resolve(tree, at, who, out);

    if (err == ERR_OK && !out->has_node) {
        err = ERR_NO_NODE;
    }
    return err;
}

void place_load_parent(struct tree *tree, struct place *place)
{
    CHECK(place->has_node);
    if (!place->has_parent && place->node->attr.ino != ROOT_INO) {
        CHECK(node_load(tree, place->node->attr.parent, place->parent));
        place->has_parent = true;
    }
}

void dir_changed(const struct apply *apply, struct node *dir, enum dir_step what, bool node_was_dir,
                 bool node_is_dir)
{
    struct node_attr *attr = &dir->attr;

    if (what == DIR_ADDED) {
        attr->children++;
    } else if (what == DIR_REMOVED) {
        CHECK(attr->children > 0);
        attr->children--;
    }
    if (what != DIR_REMOVED) {
        attr->creates++;
    }
    CHECK(!node_was_dir || attr->subdirs > 0);
    attr->subdirs = attr->subdirs + (node_is_dir ? 1 : 0) - (node_was_dir ? 1 : 0);
    attr->pzxid = apply->zxid;
    attr->azxid = apply->zxid;
    /* Strictly growing: make(1) and the caches of listings compare it. */
    attr->children_mtime_ns =
        attr->children_mtime_ns < apply->now_ns || attr->children_mtime_ns == INT64_MAX
            ? apply->now_ns
            : attr->children_mtime_ns + 1;
    attr->ctime_ns = apply->now_ns;
}

/* ---- create ---- */

/* Parts the address of a new node into its directory and its name. A sequential node may have
 * nothing before its number, so its path may end in a slash. */
static enum err split_address(const Wire__CreateOp *op, struct tree_address *out_dir,
                              const uint8_t **out_name, size_t *out_name_len)
{
    const uint8_t *path = op->at->path.data;
    size_t path_len = op->at->path.len;

    *out_dir = (struct tree_address){.ino = op->at->ino};
    *out_name = op->at->name.data;
    *out_name_len = op->at->name.len;
    if (path_len != 0) {
        const uint8_t *slash = memrchr(path, '/', path_len);
        if (slash == NULL || slash == path + 1) {
            return ERR_BAD_NAME; /* "name", or "//name", which is not a name in "/" */
        }
        if (path_len == 1 && !op->sequential) {
            return ERR_EXISTS;
        }
        out_dir->path = path;
        out_dir->path_len = slash == path ? 1 : (size_t)(slash - path);
        *out_name = slash + 1;
        *out_name_len = (size_t)(path + path_len - *out_name);
    }
    return *out_name_len > NAME_BYTES_MAX ? ERR_NAME_TOO_LONG : ERR_OK;
}

/* The whole name, with the number of a sequential one. */
static enum err make_name(const Wire__CreateOp *op, const struct node_attr *dir,
                          const uint8_t *name, size_t name_len, struct node_name *out)
{
    char number[SEQUENCE_TEXT_BYTES];
    int number_len = 0;

    if (op->sequential) {
        number_len = snprintf(number, sizeof(number), "%010" PRIu64, dir->creates);
        CHECK(number_len > 0 && (size_t)number_len < sizeof(number));
    }
    if (name_len + (size_t)number_len > NAME_BYTES_MAX) {
        return ERR_NAME_TOO_LONG;
    }
    out->len = (uint8_t)(name_len + (size_t)number_len);
    if (name_len != 0) {
        memcpy(out->bytes, name, name_len);
    }
    if (number_len != 0) {
        memcpy(out->bytes + name_len, number, (size_t)number_len);
    }
    return path_name_check(out->bytes, out->len);
}

/* What does not depend on the tree. */
static enum err check_create(const struct apply *apply, const Wire__CreateOp *op)
{
    bool device =
        op->kind == WIRE__KIND__KIND_CHAR_DEVICE || op->kind == WIRE__KIND__KIND_BLOCK_DEVICE;

    if (op->data.len > FILE_BYTES_MAX) {
        return ERR_FILE_TOO_BIG;
    }
    if (op->kind == WIRE__KIND__KIND_SYMLINK) {
        if (op->data.len == 0) {
            return ERR_INVALID;
        }
        return op->data.len > PATH_BYTES_MAX ? ERR_NAME_TOO_LONG : ERR_OK;
    }
    if (op->data.len != 0 && op->kind > WIRE__KIND__KIND_SYMLINK) {
        return ERR_INVALID;
    }
    return device && !apply->who.trusted ? ERR_PERM : ERR_OK;
}

/* The attributes of a new node in `dir`. */
static struct node_attr new_attr(const struct apply *apply, const Wire__CreateOp *op,
                                 const struct node_attr *dir)
{
    struct node_attr attr = {
        .ino = apply->tree->next_ino,
        .parent = dir->ino,
        .kind = (enum node_kind)op->kind,
        .mode = op->mode,
        .uid = apply->who.trusted ? op->uid : apply->who.uid,
        .gid = apply->who.trusted ? op->gid : apply->who.gid,
        .rdev = op->rdev,
        .atime_ns = apply->now_ns,
        .mtime_ns = apply->now_ns,
        .children_mtime_ns = apply->now_ns,
        .ctime_ns = apply->now_ns,
        .birth_ns = apply->now_ns,
        .czxid = apply->zxid,
        .mzxid = apply->zxid,
        .pzxid = apply->zxid,
        .azxid = apply->zxid,
        .owner = op->ephemeral ? apply->session : 0,
    };

    if ((dir->mode & MODE_SETGID) != 0) {
        attr.gid = dir->gid;
        if (attr.kind == NODE_DIR) {
            attr.mode |= MODE_SETGID;
        }
    }
    if (attr.kind != NODE_DIR && !apply->who.trusted && !access_in_group(&apply->who, attr.gid)) {
        attr.mode &= ~MODE_SETGID;
    }
    return attr;
}

/* Writes the rows of a new node in place->node, whose attributes and name are set. */
static void insert(struct apply *apply, struct node *node, const Wire__CreateOp *op)
{
    struct tree *tree = apply->tree;
    struct data_patch patch;

    tree->next_ino++;
    tree->node_count++;
    data_patch_begin(&patch, tree, node, /* kept */ 0, op->data.len);
    while (data_patch_next(&patch)) {
        data_patch_write(&patch, 0, op->data.data, op->data.len);
    }
    node_store(tree, node);
    node_store_path(tree, node);
    if (node->attr.owner != 0) {
        struct row_key key = key_of_ephemeral(node->attr.owner, node->attr.ino);
        row_put(tree, &key, "", 0);
    }
}

enum err tree_dir_create(struct apply *apply, const Wire__CreateOp *op)
{
    struct tree *tree = apply->tree;
    struct place *at = &tree->at;
    struct tree_address dir_at;
    const uint8_t *name = NULL;
    size_t name_len = 0;
    struct node_name whole;
    enum err err = check_create(apply, op);

    if (err != ERR_OK) {
        return err;
    }
    err = split_address(op, &dir_at, &name, &name_len);
    if (err != ERR_OK) {
        return err;
    }
    err = place_find(tree, &dir_at, &apply->who, at);
    if (err != ERR_OK) {
        return err;
    }
    err = make_name(op, &at->node->attr, name, name_len, &whole);
    if (err != ERR_OK) {
        return err;
    }
    err = step(tree, &apply->who, at, whole.bytes, whole.len);
    if (err != ERR_OK) {
        return err;
    }
    if (at->has_node) {
        return ERR_EXISTS;
    }
    err = access_check(&at->parent->attr, &apply->who, ACCESS_WRITE);
    if (err != ERR_OK) {
        return err;
    }
    node_init(at->node, op->holder.data, op->holder.len);
    at->node->attr = new_attr(apply, op, &at->parent->attr);
    at->node->name = whole;
    insert(apply, at->node, op);
    dir_changed(apply, at->parent, DIR_ADDED, /* was a directory */ false,
                at->node->attr.kind == NODE_DIR);
    node_store(tree, at->parent);
    tree_event_add(apply, CHANGE_CREATED, at->node)->parent_attr = at->parent->attr;

    apply->out->ino = at->node->attr.ino;
    apply->out->has_attr = true;
    apply->out->attr = at->node->attr;
    apply->out->has_parent_attr = true;
    apply->out->parent_attr = at->parent->attr;
    apply->out->name = whole;
    return ERR_OK;
}

/* ---- remove ---- */

void tree_dir_drop(struct apply *apply, struct node *node, struct node *parent)
{
    CHECK_OP(node->attr.parent, ==, parent->attr.ino);
    node_remove(apply->tree, node);
    dir_changed(apply, parent, DIR_REMOVED, node->attr.kind == NODE_DIR, /* is one */ false);
    node_store(apply->tree, parent);
    tree_event_add(apply, CHANGE_REMOVED, node)->parent_attr = parent->attr;
}

static bool gather_child(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value,
                         size_t value_len)
{
    struct node_attr attr;

    (void)key;
    (void)key_len;
    node_attr_decode(value, value_len, ROOT_INO, &attr);
    CHECK(buffer_append_be64(arg, attr.ino) == ERR_OK);
    return true;
}

void tree_dir_drop_all(struct apply *apply, uint64_t ino)
{
    struct tree *tree = apply->tree;
    struct buffer *inos = &tree->list;
    struct place *at = &tree->at;
    uint64_t parent = 0;

    if (!node_parent(tree, ino, &parent)) {
        return;
    }
    CHECK(ino != ROOT_INO);
    /* Level by level, so that from the end each comes before its parent. */
    buffer_clear(inos);
    CHECK(buffer_append_be64(inos, ino) == ERR_OK);
    for (size_t i = 0; i < inos->len; i += 8) {
        struct row_key key = key_of_children(get_be64(inos->data + i), 0);
        tree->kv.scan(tree->kv.context, key.bytes, key.len, 9, gather_child, inos);
    }
    for (size_t i = inos->len; i > 0; i -= 8) {
        place_init(at);
        at->has_node = node_load(tree, get_be64(inos->data + i - 8), at->node);
        CHECK(at->has_node);
        place_load_parent(tree, at);
        tree_dir_drop(apply, at->node, at->parent);
    }
}

/* Whether this kind of removal fits the node. */
static enum err check_remove(const Wire__RemoveOp *op, const struct node_attr *attr)
{
    bool is_dir = node_shows_as_dir(attr);

    if (op->if_version && op->version != attr->version) {
        return ERR_BAD_VERSION;
    }
    if (op->what == WIRE__REMOVE_WHAT__REMOVE_NOT_DIR && is_dir) {
        return ERR_IS_DIR;
    }
    if (op->what == WIRE__REMOVE_WHAT__REMOVE_DIR) {
        if (!is_dir) {
            return ERR_NOT_DIR;
        }
        if (attr->data_bytes != 0) {
            return ERR_NOT_EMPTY;
        }
    }
    return attr->children != 0 ? ERR_NOT_EMPTY : ERR_OK;
}

enum err tree_dir_remove(struct apply *apply, const Wire__RemoveOp *op)
{
    struct tree *tree = apply->tree;
    struct place *at = &tree->at;
    struct tree_address address = address_from_wire(op->at);
    enum err err = place_find(tree, &address, &apply->who, at);

    if (err != ERR_OK) {
        return err;
    }
    place_load_parent(tree, at);
    if (!at->has_parent) {
        return ERR_INVALID; /* the root stays */
    }
    err = access_check_removal(&at->parent->attr, &at->node->attr, &apply->who);
    if (err != ERR_OK) {
        return err;
    }
    err = check_remove(op, &at->node->attr);
    if (err != ERR_OK) {
        return err;
    }
    tree_dir_drop(apply, at->node, at->parent);
    apply->out->ino = at->node->attr.ino;
    apply->out->has_parent_attr = true;
    apply->out->parent_attr = at->parent->attr;
    return ERR_OK;
}
