/* SPDX-License-Identifier: Apache-2.0
 *
 * What the log does about a full disk (CONSENSUS 31): a file of nothing, the reserve, keeps space
 * that is given up when an append finds none, so that the deletes and closes that make room can
 * still be written. Whether space is low is told to the conductor, who then refuses what grows.
 *
 *                  a write finds the disk full: log_make_room
 *     reserved ------------------------------------------------> released (space is low)
 *        ^                                                            |
 *        +------------------------------------------------------------+
 *                  log_check_space finds enough for both
 *
 * The reserve holds nothing that must be durable; one that a crash took is made again.
 */
#include <fcntl.h>
#include <string.h>

#include "common/check.h"
#include "server/log/log_internal.h"

struct figures {
    uint64_t free_bytes;
    uint64_t low_bytes;     /* below this much free, space is low */
    uint64_t reserve_bytes; /* of the reserve file */
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static enum err get_figures(struct log *log, struct figures *out)
{
    uint64_t total = 0;
    enum err err = log_disk_space(&log->disk, &total, &out->free_bytes);

    out->low_bytes = smaller(LOG_LOW_SPACE_BYTES, total / LOG_SPACE_PART);
    out->reserve_bytes = smaller(log->segment_bytes / LOG_RESERVE_PART, total / LOG_SPACE_PART);
    return err;
}

static void note_reserve(void *arg, const char *name)
{
    bool *found = arg;

    *found = *found || strcmp(name, LOG_RESERVE_NAME) == 0;
}

enum err log_space_open(struct log *log)
{
    bool found = false;
    uint64_t size = 0;
    int fd = -1;
    enum err err = log_disk_list(&log->disk, note_reserve, &found);

    if (err != ERR_OK || !found) {
        return err;
    }
    err = log_disk_open(&log->disk, LOG_RESERVE_NAME, O_RDONLY, &fd);
    if (err == ERR_OK) {
        err = log_disk_size(&log->disk, fd, LOG_RESERVE_NAME, &size);
    }
    log_disk_close(&log->disk, &fd);
    log->has_reserve = size > 0;
    return err;
}

static enum err make_reserve(struct log *log, uint64_t bytes)
{
    int fd = -1;
    enum err err = log_disk_open(&log->disk, LOG_RESERVE_NAME, O_RDWR | O_CREAT | O_TRUNC, &fd);

    if (err == ERR_OK) {
        err = log_disk_reserve(&log->disk, fd, LOG_RESERVE_NAME, bytes);
    }
    log_disk_close(&log->disk, &fd);
    log->has_reserve = err == ERR_OK;
    log->no_reserve = err == ERR_UNSUPPORTED;
    return err == ERR_NO_SPACE || err == ERR_UNSUPPORTED ? ERR_OK : err;
}

enum err log_check_space(struct log *log, bool *out_low)
{
    struct figures figures = {0};
    uint64_t enough = 0;
    enum err err = get_figures(log, &figures);

    *out_low = log->low_space;
    if (err != ERR_OK) {
        return err;
    }
    enough = figures.low_bytes;
    if (log->low_space) {
        enough += figures.low_bytes / 4; /* not to and fro with each group */
    }
    if (!log->has_reserve && !log->no_reserve && figures.free_bytes >= enough &&
        figures.free_bytes - enough >= figures.reserve_bytes) {
        err = make_reserve(log, figures.reserve_bytes);
        figures.free_bytes -= figures.reserve_bytes;
    }
    log->low_space = (!log->has_reserve && !log->no_reserve) || figures.free_bytes < enough;
    *out_low = log->low_space;
    return err;
}

bool log_make_room(struct log *log, enum err *err)
{
    if (*err != ERR_NO_SPACE || !log->has_reserve) {
        return false;
    }
    log->has_reserve = false;
    log->low_space = true;
    *err = log_disk_unlink(&log->disk, LOG_RESERVE_NAME);
    if (*err == ERR_NO_SPACE) {
        *err = ERR_IO;
    }
    return *err == ERR_OK;
}
