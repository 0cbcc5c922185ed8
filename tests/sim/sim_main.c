/* SPDX-License-Identifier: Apache-2.0
 *
 * The program `sim`: `sim SEEDS [FIRST]` runs that many seeds; `sim --seed N` replays one with a
 * trace. Closes with a TAP line, so that the test runner counts it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/logging.h"
#include "common/parse.h"
#include "tests/sim/sim.h"

int main(int argc, char **argv)
{
    uint64_t seeds = 200;
    uint64_t first = 1;
    bool trace = argc == 3 && strcmp(argv[1], "--seed") == 0;
    if ((trace && parse_u64(argv[2], 0, UINT64_MAX, &first) != ERR_OK) ||
        (!trace && argc > 1 && parse_u64(argv[1], 1, 100000000, &seeds) != ERR_OK) ||
        (!trace && argc > 2 && parse_u64(argv[2], 0, UINT64_MAX, &first) != ERR_OK)) {
        fprintf(stderr, "usage: sim [SEEDS [FIRST]] | sim --seed N\n");
        return 2;
    }
    logging_set_level(trace ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
    uint64_t writes = 0;
    uint64_t reads = 0;
    seeds = trace ? 1 : seeds;
    for (uint64_t i = 0; i < seeds; i++) {
        sim_run(first + i, trace, &writes, &reads);
    }
    printf("1..1\n");
    printf("%s 1 - %" PRIu64 " seeds from %" PRIu64 " hold every invariant (%" PRIu64
           " writes and %" PRIu64 " reads answered)\n",
           writes > 0 && reads > 0 ? "ok" : "not ok", seeds, first, writes, reads);
    return writes > 0 && reads > 0 ? 0 : 1;
}
