/* SPDX-License-Identifier: Apache-2.0
 *
 * `diverge STORE`: changes the digest in the store of a replica that does not run, as if some entry
 * had made another state there than elsewhere.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/buffer.h"
#include "common/check.h"
#include "server/store/store.h"
#include "server/tree/tree_node.h"

#define DIGEST_OFFSET 25u /* in the state row, see tree.c */

static void wake(void *arg)
{
    (void)arg;
}

int main(int argc, char **argv)
{
    struct store_options options = {.folder = argc == 2 ? argv[1] : "", .wake = wake};
    struct store *store = NULL;
    struct buffer error = {0};
    struct buffer row = {0};
    struct row_key key = key_of_state();
    struct kv kv;

    if (argc != 2) {
        (void)fputs("usage: diverge STORE\n", stderr);
        return 2;
    }
    if (store_open(&options, &store, &error) != ERR_OK) {
        (void)fprintf(stderr, "diverge: %s\n", (const char *)error.data);
        return 1;
    }
    kv = store_kv(store);
    CHECK(kv.get(kv.context, key.bytes, key.len, &row) && row.len > DIGEST_OFFSET);
    ((uint8_t *)row.data)[DIGEST_OFFSET] ^= 1;
    kv.put(kv.context, key.bytes, key.len, row.data, row.len);
    store_close(store);
    buffer_done(&row);
    return 0;
}
