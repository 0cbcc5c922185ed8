/* SPDX-License-Identifier: Apache-2.0
 *
 * An ordered map in memory: the overlay of the store, and the whole store of the simulator.
 *
 * Invariants:
 *   1. One allocation per entry: links, key and room for the value lie in one piece.
 *   2. entry.deleted exactly while entry.value is NULL.
 *   3. map->bytes is the sum of node_bytes() over all nodes.
 */
#include "common/omap.h"

#include <bsd/sys/tree.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* A value that shrinks below a quarter of a room above this gets a smaller room. */
#define ROOM_KEPT_BYTES 4096u

struct node {
    struct omap_entry entry; /* first: omap_next() finds the node of an entry by it */
    RB_ENTRY(node) links;
    size_t room;     /* for the value, behind the key */
    uint8_t bytes[]; /* key, then value */
};

RB_HEAD(node_tree, node);

struct omap {
    struct node_tree tree;
    size_t count;
    size_t bytes;
};

static inline int compare_to_node(const void *key, size_t key_len, const struct node *node)
{
    return omap_compare(key, key_len, node->entry.key, node->entry.key_len);
}

static inline int compare_nodes(const struct node *a, const struct node *b)
{
    return compare_to_node(a->entry.key, a->entry.key_len, b);
}

/* RB_GENERATE_STATIC wants __unused, which a library other than libbsd would define otherwise. */
RB_GENERATE_INTERNAL(node_tree, node, links, compare_nodes, __attribute__((unused)) static)

static size_t node_bytes(const struct node *node)
{
    return sizeof(*node) + node->entry.key_len + node->room;
}

static struct node *node_new(const void *key, size_t key_len, size_t room)
{
    struct node *node = NULL;

    if (key_len > SIZE_MAX / 4 || room > SIZE_MAX / 4) {
        return NULL;
    }
    node = malloc(sizeof(*node) + key_len + room);
    if (node == NULL) {
        return NULL;
    }
    *node = (struct node){
        .entry = {.key = node->bytes, .key_len = key_len, .deleted = true},
        .room = room,
    };
    if (key_len != 0) {
        memcpy(node->bytes, key, key_len);
    }
    return node;
}

/* Stores the value in the room of the node. It may be (a part of) the node's own old value. */
static void node_set_value(struct node *node, const void *value, size_t value_len)
{
    CHECK(value_len <= node->room);
    node->entry.deleted = value == NULL;
    node->entry.value = value == NULL ? NULL : node->bytes + node->entry.key_len;
    node->entry.value_len = value_len;
    if (value_len != 0) {
        memmove(node->bytes + node->entry.key_len, value, value_len);
    }
}

/* Puts `node` on the place of `old` in the tree; their keys are the same. */
static void replace_node(struct omap *map, const struct node *old, struct node *node)
{
    struct node *parent = RB_PARENT(old, links);

    node->links = old->links;
    if (parent == NULL) {
        RB_ROOT(&map->tree) = node;
    } else if (RB_LEFT(parent, links) == old) {
        RB_LEFT(parent, links) = node;
    } else {
        RB_RIGHT(parent, links) = node;
    }
    if (RB_LEFT(node, links) != NULL) {
        RB_PARENT(RB_LEFT(node, links), links) = node;
    }
    if (RB_RIGHT(node, links) != NULL) {
        RB_PARENT(RB_RIGHT(node, links), links) = node;
    }
}

/* Whether the value goes into the present room without wasting most of a large one. */
static bool room_suits(const struct node *node, size_t value_len)
{
    if (value_len > node->room) {
        return false;
    }
    return node->room <= ROOM_KEPT_BYTES || value_len >= node->room / 4;
}

static enum err overwrite(struct omap *map, struct node *old, const void *value, size_t value_len)
{
    struct node *node = NULL;

    if (!room_suits(old, value_len)) {
        node = node_new(old->entry.key, old->entry.key_len, value_len);
    }
    if (node == NULL) {
        /* A smaller value must not fail for want of memory. */
        if (value_len > old->room) {
            return ERR_MEMORY;
        }
        node_set_value(old, value, value_len);
        return ERR_OK;
    }
    node_set_value(node, value, value_len);
    replace_node(map, old, node);
    map->bytes += node_bytes(node);
    map->bytes -= node_bytes(old);
    free(old);
    return ERR_OK;
}

struct omap *omap_new(void)
{
    return calloc(1, sizeof(struct omap));
}

/* Goes to a leaf, frees it, goes on from its parent: no rebalancing and no recursion. */
void omap_free(struct omap *map)
{
    struct node *node = map != NULL ? RB_ROOT(&map->tree) : NULL;

    while (node != NULL) {
        struct node *next = RB_LEFT(node, links);
        if (next != NULL) {
            RB_LEFT(node, links) = NULL;
        } else if (RB_RIGHT(node, links) != NULL) {
            next = RB_RIGHT(node, links);
            RB_RIGHT(node, links) = NULL;
        } else {
            next = RB_PARENT(node, links);
            free(node);
        }
        node = next;
    }
    free(map);
}

enum err omap_put(struct omap *map, const void *key, size_t key_len, const void *value,
                  size_t value_len)
{
    struct node *parent = NULL;
    struct node *node = RB_ROOT(&map->tree);
    int order = 0;

    CHECK(value != NULL || value_len == 0);
    while (node != NULL) {
        order = compare_to_node(key, key_len, node);
        if (order == 0) {
            return overwrite(map, node, value, value_len);
        }
        parent = node;
        node = order < 0 ? RB_LEFT(node, links) : RB_RIGHT(node, links);
    }
    node = node_new(key, key_len, value_len);
    if (node == NULL) {
        return ERR_MEMORY;
    }
    node_set_value(node, value, value_len);
    /* What RB_INSERT does, without walking down a second time. */
    RB_SET(node, parent, links);
    if (parent == NULL) {
        RB_ROOT(&map->tree) = node;
    } else if (order < 0) {
        RB_LEFT(parent, links) = node;
    } else {
        RB_RIGHT(parent, links) = node;
    }
    node_tree_RB_INSERT_COLOR(&map->tree, node);
    map->count++;
    map->bytes += node_bytes(node);
    return ERR_OK;
}

/* The node of this key, or NULL. */
static struct node *find(const struct omap *map, const void *key, size_t key_len)
{
    struct node *node = RB_ROOT(&map->tree);

    while (node != NULL) {
        int order = compare_to_node(key, key_len, node);
        if (order == 0) {
            break;
        }
        node = order < 0 ? RB_LEFT(node, links) : RB_RIGHT(node, links);
    }
    return node;
}

void omap_remove(struct omap *map, const void *key, size_t key_len)
{
    struct node *node = find(map, key, key_len);

    if (node == NULL) {
        return;
    }
    RB_REMOVE(node_tree, &map->tree, node);
    CHECK(map->count > 0);
    map->count--;
    map->bytes -= node_bytes(node);
    free(node);
}

const struct omap_entry *omap_get(const struct omap *map, const void *key, size_t key_len)
{
    const struct node *node = find(map, key, key_len);

    return node != NULL ? &node->entry : NULL;
}

const struct omap_entry *omap_seek(const struct omap *map, const void *key, size_t key_len)
{
    const struct node *node = RB_ROOT(&map->tree);
    const struct node *best = NULL;

    while (node != NULL) {
        int order = compare_to_node(key, key_len, node);
        if (order == 0) {
            best = node;
            break;
        }
        if (order < 0) {
            best = node;
            node = RB_LEFT(node, links);
        } else {
            node = RB_RIGHT(node, links);
        }
    }
    return best != NULL ? &best->entry : NULL;
}

/* As RB_NEXT, which does not take a const node. */
const struct omap_entry *omap_next(const struct omap *map, const struct omap_entry *entry)
{
    const struct node *node = (const struct node *)(const void *)entry;
    const struct node *child = NULL;

    (void)map;
    if (RB_RIGHT(node, links) != NULL) {
        node = RB_RIGHT(node, links);
        while (RB_LEFT(node, links) != NULL) {
            node = RB_LEFT(node, links);
        }
        return &node->entry;
    }
    do {
        child = node;
        node = RB_PARENT(node, links);
    } while (node != NULL && RB_RIGHT(node, links) == child);
    return node != NULL ? &node->entry : NULL;
}

size_t omap_count(const struct omap *map)
{
    return map->count;
}

size_t omap_bytes(const struct omap *map)
{
    return map->bytes;
}
