/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of what an entry changed, in order. Filled by the operations; the conductor hands it on
 * to the sessions with a promise.
 *
 * Invariant: the list is empty at the start of an entry, and what it shows stays until the next.
 */
#include <stdlib.h>

#include "common/check.h"
#include "server/tree/tree_internal.h"

#define CHANGES_MIN 16u

/* Makes room for one change more. */
static void reserve(struct tree *tree)
{
    size_t capacity = tree->change_capacity != 0 ? tree->change_capacity * 2 : CHANGES_MIN;
    struct tree_change *changes = NULL;

    if (tree->change_count < tree->change_capacity) {
        return;
    }
    changes = realloc(tree->changes, capacity * sizeof(*changes));
    CHECK(changes != NULL);
    tree->changes = changes;
    tree->change_capacity = capacity;
}

void tree_event_clear(struct tree *tree)
{
    tree->change_count = 0;
    /* The end of a large session needs much, and nobody else does. */
    if (tree->change_capacity > CHANGES_MIN) {
        free(tree->changes);
        tree->changes = NULL;
        tree->change_capacity = 0;
    }
}

struct tree_change *tree_event_add(struct apply *apply, enum change_kind kind,
                                   const struct node *node)
{
    struct tree *tree = apply->tree;
    struct tree_change *change = NULL;

    reserve(tree);
    change = &tree->changes[tree->change_count++];
    *change = (struct tree_change){
        .kind = kind,
        .zxid = apply->zxid,
        .parent = node->attr.parent,
        .name = node->name,
        .ino = node->attr.ino,
        .attr = node->attr,
    };
    return change;
}
