/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a command of the log: they are refused, or come back the same when they are packed
 * and unpacked once more. All replicas must read one entry alike.
 */
#include <string.h>

#include "common/check.h"
#include "common/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Packs a message and takes it apart again: its second packing is the first. */
static void check_round(const ProtobufCMessage *message)
{
    struct buffer first = {0};
    struct buffer second = {0};
    ProtobufCMessage *again = NULL;

    CHECK(wire_pack(message, &first) == ERR_OK);
    CHECK(wire_unpack_strict(&wire__command__descriptor, first.data, first.len, &again) == ERR_OK);
    CHECK(wire_pack(again, &second) == ERR_OK);
    CHECK_OP(first.len, ==, second.len);
    CHECK(first.len == 0 || memcmp(first.data, second.data, first.len) == 0);
    wire_free(again);
    buffer_done(&second);
    buffer_done(&first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ProtobufCMessage *strict = NULL;
    ProtobufCMessage *tolerant = NULL;
    enum err err = wire_unpack_strict(&wire__command__descriptor, data, size, &strict);

    CHECK(err == ERR_OK || err == ERR_MALFORMED);
    if (err == ERR_OK) {
        check_round(strict);
        wire_free(strict);
    }
    /* What the strict one takes, the tolerant one takes, too. */
    err = err == ERR_OK ? wire_unpack(&wire__command__descriptor, data, size, &tolerant) : ERR_OK;
    CHECK(err == ERR_OK);
    wire_free(tolerant);
    return 0;
}
