/* SPDX-License-Identifier: Apache-2.0
 *
 * The end of a program in which CHECK found a bug. Allocates nothing, takes no lock.
 */
#include "common/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void check_failed(const char *file, int line, const char *what, int64_t a, int64_t b)
{
    char text[512];
    int len = snprintf(text, sizeof(text),
                       "level=error at=check event=failed place=%s:%d check=\"%s\" a=%" PRId64
                       " b=%" PRId64 "\n",
                       file, line, what, a, b);

    if (len >= (int)sizeof(text)) {
        len = (int)sizeof(text) - 1;
        text[len - 1] = '\n';
    }
    /* Nobody is left to hear about a failing write. */
    if (len > 0 && write(STDERR_FILENO, text, (size_t)len) < 0) {
        abort();
    }
    abort();
}
