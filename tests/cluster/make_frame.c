/* SPDX-License-Identifier: Apache-2.0
 *
 * For bad_bytes.py: frames whose length and checksum are right, so that what is wrong lies within.
 * `make_frame MESSAGE [RAW]`, both in hex; the frame, in hex, is written to stdout.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/frame.h"

static void append_hex(const char *hex, struct buffer *to)
{
    char digits[3] = {0};

    CHECK(strlen(hex) % 2 == 0);
    for (; hex[0] != '\0'; hex += 2) {
        char *end = NULL;
        memcpy(digits, hex, 2);
        uint8_t byte = (uint8_t)strtoul(digits, &end, 16);
        CHECK(*end == '\0');
        CHECK(buffer_append(to, &byte, 1) == ERR_OK);
    }
}

int main(int argc, char **argv)
{
    struct buffer frame = {0};
    size_t start = 0;

    if (argc != 2 && argc != 3) {
        (void)fputs("usage: make_frame MESSAGE [RAW]\n", stderr);
        return 2;
    }
    CHECK(frame_begin(&frame, &start) == ERR_OK);
    append_hex(argv[1], &frame);
    if (argc == 3) {
        append_hex(argv[2], &frame);
    }
    CHECK(frame_end(&frame, start, argc == 3 ? strlen(argv[2]) / 2 : 0) == ERR_OK);
    for (size_t i = 0; i < frame.len; i++) {
        (void)printf("%02x", frame.data[i]);
    }
    (void)putchar('\n');
    buffer_done(&frame);
    return 0;
}
