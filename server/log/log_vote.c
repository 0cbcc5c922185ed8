/* SPDX-License-Identifier: Apache-2.0
 *
 * The {term, vote} record: a file of two slots of one sector each, written alternately, so that a
 * torn write leaves the record before it. Called by log_open and log_save_term.
 *
 *     slot: be64 magic, be64 counter, be64 term, be64 vote, zeros, be64 XXH3-64 in the last 8 bytes
 *
 * Invariants:
 *   1. The whole slot with the higher counter is the record.
 *   2. A vote is answered only after the fdatasync of its slot (CONSENSUS 1).
 *   3. At a start the record is written anew before it is trusted: a failed sync before may have
 *      left it in the page cache only (CONSENSUS 6).
 */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "common/check.h"
#include "server/log/log_internal.h"

#define VOTE_NAME     "vote"
#define VOTE_TMP_NAME "vote.tmp"
#define VOTE_MAGIC    UINT64_C(0x51464c4f47564f54) /* "QFLOGVOT" */
#define CHECKSUM_AT   (LOG_SECTOR_BYTES - 8u)

struct record {
    uint64_t counter;
    uint64_t term;
    uint64_t vote;
};

static void encode(uint8_t slot[static LOG_SECTOR_BYTES], const struct record *record)
{
    memset(slot, 0, LOG_SECTOR_BYTES);
    put_be64(slot, VOTE_MAGIC);
    put_be64(slot + 8, record->counter);
    put_be64(slot + 16, record->term);
    put_be64(slot + 24, record->vote);
    put_be64(slot + CHECKSUM_AT, XXH3_64bits(slot, CHECKSUM_AT));
}

static bool decode(const uint8_t slot[static LOG_SECTOR_BYTES], struct record *out)
{
    if (get_be64(slot) != VOTE_MAGIC ||
        get_be64(slot + CHECKSUM_AT) != XXH3_64bits(slot, CHECKSUM_AT)) {
        return false;
    }
    *out = (struct record){get_be64(slot + 8), get_be64(slot + 16), get_be64(slot + 24)};
    return true;
}

/* Reads the newer of both slots. */
static enum err read_record(struct log *log, struct record *out, struct buffer *error)
{
    uint8_t slots[2][LOG_SECTOR_BYTES] = {{0}};
    struct record record[2] = {{0}};
    bool is_whole[2] = {false, false};
    uint64_t size = 0;
    enum err err = log_disk_size(&log->disk, log->vote_fd, VOTE_NAME, &size);

    /* The file was complete before it got its name; should it be cut, what is left may do. */
    for (size_t i = 0; i < 2 && err == ERR_OK; i++) {
        if ((i + 1) * LOG_SECTOR_BYTES <= size) {
            err = log_disk_read(&log->disk, log->vote_fd, VOTE_NAME, slots[i], LOG_SECTOR_BYTES,
                                i * LOG_SECTOR_BYTES);
            is_whole[i] = decode(slots[i], &record[i]);
        }
    }
    if (err != ERR_OK) {
        return err;
    }
    if (!is_whole[0] && !is_whole[1]) {
        if (error != NULL) {
            (void)buffer_printf(error,
                                "%s/%s: no slot of the vote record is whole (%" PRIu64
                                " bytes): this replica does not know whom it voted for",
                                log->folder, VOTE_NAME, size);
        }
        return ERR_CORRUPT;
    }
    *out = record[0];
    if (!is_whole[0] || (is_whole[1] && record[1].counter > record[0].counter)) {
        *out = record[1];
    }
    return ERR_OK;
}

/* Both slots in a new file, under the durable name. */
static enum err write_anew(struct log *log, const struct record *record)
{
    uint8_t slots[2][LOG_SECTOR_BYTES];
    struct record next = *record;
    CHECK_OP(record->counter % 2, ==, 0);
    enum err err =
        log_disk_open(&log->disk, VOTE_TMP_NAME, O_RDWR | O_CREAT | O_TRUNC, &log->vote_fd);

    encode(slots[0], &next);
    next.counter++;
    encode(slots[1], &next);
    if (err == ERR_OK) {
        err = log_disk_write(&log->disk, log->vote_fd, VOTE_TMP_NAME, slots, sizeof(slots), 0);
    }
    if (err == ERR_OK) {
        err = log_disk_sync(&log->disk, log->vote_fd, VOTE_TMP_NAME);
    }
    if (err == ERR_OK) {
        err = log_disk_rename(&log->disk, VOTE_TMP_NAME, VOTE_NAME);
    }
    if (err != ERR_OK) {
        log_disk_close(&log->disk, &log->vote_fd);
    }
    log->vote_counter = next.counter;
    return err;
}

/* Without space for a new file: the same bytes into the same slot. The other one may still be what
 * counts, should a crash tear this one. */
static enum err write_in_place(struct log *log, const struct record *record)
{
    uint8_t slot[LOG_SECTOR_BYTES];
    enum err err = log_disk_open(&log->disk, VOTE_NAME, O_RDWR, &log->vote_fd);

    encode(slot, record);
    if (err == ERR_OK) {
        err = log_disk_write(&log->disk, log->vote_fd, VOTE_NAME, slot, sizeof(slot),
                             record->counter % 2 * LOG_SECTOR_BYTES);
    }
    if (err == ERR_OK) {
        err = log_disk_sync(&log->disk, log->vote_fd, VOTE_NAME);
    }
    log->vote_counter = record->counter;
    return err;
}

struct found {
    bool vote;
    bool segment;
};

static void note_name(void *arg, const char *name)
{
    struct found *found = arg;
    uint64_t first_index = 0;

    found->vote = found->vote || strcmp(name, VOTE_NAME) == 0;
    found->segment = found->segment || log_segment_parse_name(name, &first_index);
}

enum err log_vote_open(struct log *log, struct log_state *state, struct buffer *error)
{
    struct record record = {0};
    struct record next = {0};
    struct found found = {0};
    enum err err = log_disk_list(&log->disk, note_name, &found);

    if (err == ERR_OK && found.segment && !found.vote) {
        if (error != NULL) {
            (void)buffer_printf(error,
                                "%s/%s: missing, but there are log segments: this replica does "
                                "not know whom it voted for",
                                log->folder, VOTE_NAME);
        }
        return ERR_CORRUPT;
    }
    if (err == ERR_OK && found.vote) {
        err = log_disk_open(&log->disk, VOTE_NAME, O_RDONLY, &log->vote_fd);
        if (err == ERR_OK) {
            err = read_record(log, &record, error);
        }
        log_disk_close(&log->disk, &log->vote_fd);
    }
    if (err != ERR_OK) {
        return err;
    }
    state->term = record.term;
    state->vote = record.vote;
    next = record;
    next.counter += found.vote ? 2 - record.counter % 2 : 0;
    do {
        err = write_anew(log, &next);
    } while (log_make_room(log, &err));
    return err == ERR_NO_SPACE && found.vote ? write_in_place(log, &record) : err;
}

enum err log_save_term(struct log *log, uint64_t term, uint64_t vote)
{
    uint8_t slot[LOG_SECTOR_BYTES];
    struct record record = {log->vote_counter + 1, term, vote};
    enum err err = ERR_IO;

    if (log->failed) {
        return err;
    }
    encode(slot, &record);
    /* The even counters lie in slot 0: never written over is the newest record. */
    do {
        err = log_disk_write(&log->disk, log->vote_fd, VOTE_NAME, slot, sizeof(slot),
                             record.counter % 2 * LOG_SECTOR_BYTES);
    } while (log_make_room(log, &err));
    if (err == ERR_NO_SPACE) {
        return err; /* the next attempt writes to the same slot */
    }
    if (err == ERR_OK) {
        err = log_disk_sync(&log->disk, log->vote_fd, VOTE_NAME);
    }
    log->failed = err != ERR_OK;
    log->vote_counter = record.counter;
    return err;
}
