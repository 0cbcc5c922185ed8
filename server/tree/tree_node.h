/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows of the tree, their keys, and nodes in memory. Included by server/tree/tree_*.c only.
 *
 * Rows (numbers big-endian; CONSENSUS, Storage schema):
 *     'N' be64(parent) be64(cookie) name   one node; the cookie is a hash of the name, so that a
 *                                          listing goes on behind a cookie without any state
 *     'R'                                  the root, which has no name
 *     'P' be64(ino)                        be64(parent) name of the node: where its row is
 *     'D' be64(ino)                        its data, when too large for the node's row
 *     'E' be64(session) be64(ino)          empty: an ephemeral node of a session
 *     'S' be64(session)                    a session
 *     'O' nonce                            be64(session) that was opened with it
 *     'W' be64(session) be16(slot)         a kept answer
 *     'M' 's', 'M' 'm'                     state of the tree, newest members entry
 */
#ifndef QUORUMFS_TREE_NODE_H
#define QUORUMFS_TREE_NODE_H

#include "server/tree/tree.h"

#define ROW_KEY_BYTES_MAX (1u + 8u + 8u + NAME_BYTES_MAX)
#define COOKIE_MIN        16u /* smaller ones are left to the readers, for "." and the like */
#define NONCE_BYTES       16u

struct row_key {
    size_t len;
    uint8_t bytes[ROW_KEY_BYTES_MAX];
};

/* A node in memory with its row: attributes are changed in `attr`, the holder and small data stay
 * in the row as they were read. */
struct node {
    struct node_attr attr;
    struct node_name name; /* of the root: empty */
    struct buffer row;
};

/* ---- tree_key.c: keys, and the kv with the digest ---- */

struct row_key key_of_root(void);
struct row_key key_of_child(uint64_t parent, const uint8_t *name, size_t name_len);
struct row_key key_of_children(uint64_t parent, uint64_t cookie); /* where a listing begins */
struct row_key key_of_path(uint64_t ino);
struct row_key key_of_data(uint64_t ino);
struct row_key key_of_ephemeral(uint64_t session, uint64_t ino);
struct row_key key_of_session(uint64_t session);
struct row_key key_of_nonce(const uint8_t *nonce);
struct row_key key_of_answer(uint64_t session, uint64_t sequence);
struct row_key key_of_state(void);
struct row_key key_of_members(void);

/* The parts of a child's key behind the parent. */
uint64_t key_cookie(const uint8_t *key, size_t key_len);
const uint8_t *key_name(const uint8_t *key, size_t key_len, size_t *out_len);

bool row_get(struct tree *tree, const struct row_key *key, struct buffer *out);
void row_put(struct tree *tree, const struct row_key *key, const void *value, size_t len);
void row_remove(struct tree *tree, const struct row_key *key);
uint64_t digest_with(uint64_t digest, const void *bytes, size_t len);

/* ---- tree_node.c: rows of nodes ---- */

void node_done(struct node *node);
void node_attr_decode(const uint8_t *row, size_t len, uint64_t parent, struct node_attr *out);
bool node_load_child(struct tree *tree, uint64_t parent, const uint8_t *name, size_t name_len,
                     struct node *out);
bool node_load(struct tree *tree, uint64_t ino, struct node *out);
/* The ino of the parent; false: no such node. The root's parent is itself. */
bool node_parent(struct tree *tree, uint64_t ino, uint64_t *out_parent);

/* Makes *node a new one without data: its attributes and name are set by the caller. */
void node_init(struct node *node, const uint8_t *holder, size_t holder_len);
/* Writes the node's row, under its attr.parent and name. */
void node_store(struct tree *tree, struct node *node);
/* Writes the row that leads from the ino to the name. */
void node_store_path(struct tree *tree, const struct node *node);
/* Removes the row that node_store wrote; before a rename changes parent or name. */
void node_unlink(struct tree *tree, const struct node *node);
/* Removes all rows of the node. */
void node_remove(struct tree *tree, const struct node *node);
/* The data; valid until the node, or data of another one, is loaded. */
const uint8_t *node_data(struct tree *tree, const struct node *node);
/* Sets the data; attr.data_bytes follows. node_store has to come. `data` is not node_data's. */
void node_set_data(struct tree *tree, struct node *node, const uint8_t *data, size_t len);

bool node_may_have_children(const struct node_attr *attr);
bool node_shows_as_dir(const struct node_attr *attr);

#endif
