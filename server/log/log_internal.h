/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of server/log share. Outsiders include only log.h.
 *
 * A segment file, all numbers big-endian, everything in units of one sector (512 bytes):
 *
 *     sector 0   segment header: magic, format version, generation, first index, term and time of
 *                the entry before it, checksum in the last 8 bytes
 *     then       groups, each beginning on a sector and padded to one with zeros
 *     then       zeros to the end of the file (preallocated)
 *
 * A group is what one fdatasync makes durable. It is never written in part again, and no group
 * shares a sector with another, so that a torn write cannot damage an older group:
 *
 *     offset 0  be64  XXH3-64 over all other bytes of the group
 *            8  be32  magic
 *           12  be32  kind: entries or truncation
 *           16  be32  bytes, header and padding included
 *           20  be32  number of entries
 *           24  be64  first index; of a truncation the first one that is removed
 *           32  be64  offset of this group in its file
 *           40  be64  checksum of the group before (of the header, for the first): the chain
 *           48        entries; of a truncation one entry head: the entry before the cut
 *
 * The offset is there so that a copy of a group, say in the data of an entry, never passes for one.
 *
 *     entry: be64 index, be64 term, be64 time_ns, be32 len, u8 type, 3 zero bytes, data
 *
 * A truncation within a segment is a group too: removing entries rewrites nothing, is atomic, and
 * leaves every byte in front of a durable end unchanged for ever.
 *
 * A reset of the log makes a segment of the next generation. The newest generation in the folder is
 * the log; segments of older ones are what a crash has kept of the removal of the old log.
 */
#ifndef QUORUMFS_LOG_INTERNAL_H
#define QUORUMFS_LOG_INTERNAL_H

#include <pthread.h>

#include "server/log/log.h"

#define LOG_SECTOR_BYTES 512u
#define LOG_NAME_BYTES   32u /* "%020u.log" and its NUL */
#define LOG_TEXT_BYTES   192u

/* ---- file calls that know what failed (log_disk.c) ---- */

/* The last failed call; call[0] == 0: none. */
struct log_failure {
    const char *call; /* static; NULL: none */
    char name[LOG_NAME_BYTES];
    int errno_value; /* 0: the file is shorter than it must be */
    uint64_t offset;
};

struct log_disk {
    const struct log_io *io;
    const char *folder;
    struct log_failure failure;
};

/* Each repeats interrupted and short calls; an error fills disk->failure and is ERR_IO,
 * ERR_NO_SPACE or ERR_MEMORY; of a sync ERR_IO, whatever the reason: what it lost stays lost. `name`
 * is the file name within the folder. */
enum err log_disk_open(struct log_disk *disk, const char *name, int flags, int *out_fd);
void log_disk_close(struct log_disk *disk, int *fd); /* -1 is fine; sets -1 */
enum err log_disk_size(struct log_disk *disk, int fd, const char *name, uint64_t *out_size);
enum err log_disk_read(struct log_disk *disk, int fd, const char *name, void *to, size_t len,
                       uint64_t offset);
enum err log_disk_write(struct log_disk *disk, int fd, const char *name, const void *from,
                        size_t len, uint64_t offset);
enum err log_disk_sync(struct log_disk *disk, int fd, const char *name);
enum err log_disk_cut(struct log_disk *disk, int fd, const char *name, uint64_t len);
/* Reserves `len` bytes of an empty file. ERR_NO_SPACE or ERR_UNSUPPORTED: it is still empty. */
enum err log_disk_reserve(struct log_disk *disk, int fd, const char *name, uint64_t len);
/* The new name is durable when these return. */
enum err log_disk_rename(struct log_disk *disk, const char *from, const char *to);
enum err log_disk_unlink(struct log_disk *disk, const char *name);
enum err log_disk_list(struct log_disk *disk, void (*each)(void *arg, const char *name), void *arg);
enum err log_disk_space(struct log_disk *disk, uint64_t *out_total, uint64_t *out_free);

/* One clause for log lines and errors: `pwrite of 00...1.log at 512: No space left on device`. */
void log_failure_text(const struct log_failure *failure, char text[static LOG_TEXT_BYTES]);

/* ---- format (log_segment.c) ---- */

enum log_group_kind {
    LOG_GROUP_ENTRIES = 1,
    LOG_GROUP_TRUNCATION = 2,
};

#define LOG_GROUP_HEADER_BYTES 48u
#define LOG_ENTRY_HEADER_BYTES 32u
/* Data of the largest entry that fits a group. */
#define LOG_ENTRY_BYTES_MAX (LOG_GROUP_BYTES_MAX - LOG_GROUP_HEADER_BYTES - LOG_ENTRY_HEADER_BYTES)

/* What stands before an index. */
struct log_position {
    uint64_t index;
    uint64_t term;
    int64_t time_ns;
};

struct log_group {
    uint32_t kind;
    uint32_t bytes;
    uint32_t count;
    uint64_t first_index;
    uint64_t chain;    /* checksum of the group before */
    uint64_t checksum; /* of this one */
};

/* An entry in the bytes of a group; `data` points into them. */
struct log_entry_view {
    struct log_position at;
    uint8_t type;
    uint32_t len;
    const uint8_t *data;
};

#define LOG_SEGMENT_TMP_NAME "segment.tmp"

void log_segment_name(char name[static LOG_NAME_BYTES], uint64_t first_index);
/* Whether it is the name of a segment. */
bool log_segment_parse_name(const char *name, uint64_t *out_first_index);

struct log_header {
    struct log_position before; /* the entry in front of the segment */
    uint32_t generation;
    uint64_t checksum;
};

/* Encodes a header and sets its checksum. */
void log_header_encode(uint8_t sector[static LOG_SECTOR_BYTES], struct log_header *header);
bool log_header_decode(const uint8_t sector[static LOG_SECTOR_BYTES], struct log_header *out);

/* How many of the entries fit one group; at least one. */
size_t log_group_fit(struct raft_entry *const *entries, size_t count);

/* Makes the buffer hold one group, ready to be written at `offset`. ERR_MEMORY. */
enum err log_group_encode(struct buffer *out, struct raft_entry *const *entries, size_t count,
                          uint64_t offset, uint64_t chain);
enum err log_group_encode_truncation(struct buffer *out, const struct log_position *before,
                                     uint64_t offset, uint64_t chain);
/* The checksum of the group in the buffer. */
uint64_t log_group_checksum(const struct buffer *group);

/* Reads the head of a group from one sector. False: none can begin here. */
bool log_group_peek(const uint8_t sector[static LOG_SECTOR_BYTES], uint64_t offset, uint64_t end,
                    struct log_group *out);
/* Whether the checksum of all group->bytes fits. */
bool log_group_is_whole(const uint8_t *bytes, const struct log_group *group);

/* The next entry of a whole group; *position begins at 0. False: behind the last, or malformed:
 * then the number of entries read is less than group->count. */
bool log_entry_next(const uint8_t *bytes, const struct log_group *group, size_t *position,
                    struct log_entry_view *out);

/* ---- index of a segment (log_segment.c) ---- */

/* Sparse: a mark for some 64 KiB of file, and one behind each truncation. Mark k is for the indexes
 * from its own to the next mark's; the first group from its offset on that holds such an index
 * holds the living entry (what a truncation removed lies under earlier marks, at higher indexes).
 */
struct log_mark {
    uint64_t index;
    uint64_t offset;
};

struct log_segment {
    uint64_t first_index;
    struct log_position before;
    uint64_t end;   /* offset behind the last durable group */
    uint64_t chain; /* checksum of that group */
    struct log_mark *marks;
    size_t mark_count;
    size_t mark_capacity;
};

/* Where to look for an index. */
struct log_stretch {
    uint64_t segment; /* its first index */
    uint64_t offset;
    uint64_t end;
    uint64_t index_end; /* behind the last index of the stretch */
};

/* Makes room for one more mark, so that log_segment_add cannot fail. */
enum err log_segment_reserve(struct log_segment *segment);
/* Takes the group that begins at segment->end into the index. */
void log_segment_add(struct log_segment *segment, const struct log_group *group);
void log_segment_find(const struct log_segment *segment, uint64_t index, struct log_stretch *out);

/* ---- reading through a window (log_read.c) ---- */

/* The part of one segment file that was read last. */
struct log_window {
    struct log_disk disk;
    int fd; /* -1: none open */
    uint64_t segment;
    uint64_t offset; /* of `bytes` */
    struct buffer bytes;
};

void log_window_init(struct log_window *window, const struct log_disk *disk);
void log_window_close(struct log_window *window); /* may be used again */
void log_window_done(struct log_window *window);
enum err log_window_open(struct log_window *window, uint64_t segment);
/* `len` bytes at `offset`, valid until the next call. Nothing behind `end` is read: only bytes in
 * front of a durable end never change. */
enum err log_window_get(struct log_window *window, uint64_t offset, size_t len, uint64_t end,
                        const uint8_t **out);

/* ---- the log ---- */

#define LOG_RESERVE_NAME "reserve"

/* Invariants:
 *   1. segments[0] exists; each next one begins behind the last index of the one before.
 *   2. The last segment is the tail, open as tail_fd; only it is written to.
 *   3. Nothing is written while an earlier group of this log is unsynced (CONSENSUS 9).
 *   4. `end` of a segment moves only after its fdatasync: readers see durable entries only.
 *   5. Behind `end` of the tail are zeros, or the file ends; but while a write is under way.
 * The writing thread alone changes anything but `window`; `lock` makes that visible to readers. */
struct log {
    struct log_disk disk;
    char *folder;
    uint64_t segment_bytes;
    bool failed; /* a write failed: nothing more is written (CONSENSUS 6) */
    int tail_fd;
    int vote_fd;
    uint64_t vote_counter; /* of the newest record */
    struct buffer group;   /* the group that is being written */
    struct log_position last;
    uint32_t generation;
    /* The disk was full within a truncation: `last` is cut, the group that says so is missing. */
    bool truncation_due;
    bool has_reserve;
    bool no_reserve; /* the file system cannot reserve */
    bool low_space;  /* what log_check_space said */

    pthread_mutex_t lock; /* of the following, held for moments */
    struct log_segment *segments;
    size_t segment_count;
    size_t segment_capacity;
    struct log_position before; /* the entry before the first */
    uint64_t last_index;

    pthread_mutex_t read_lock; /* of `window`; taken before `lock` */
    struct log_window window;
};

/* The last segment. From the writing thread. */
struct log_segment *log_tail(struct log *log);

/* Makes room for one more segment, so that log_segments_add cannot fail. */
enum err log_segments_reserve(struct log *log);
/* A segment without groups becomes the last one. */
void log_segments_add(struct log *log, const struct log_header *header);

/* Makes the temporary file of a segment, preallocated for at least `bytes` if there is space; then
 * makes it durable and gives it its name, which is when the segment begins to exist. (log.c) */
enum err log_segment_begin(struct log *log, uint64_t bytes, int *out_fd);
enum err log_segment_publish(struct log *log, uint64_t first_index, int fd);
/* After an error in between: gives the space back and closes; returns the error that counts. */
enum err log_segment_give_up(struct log *log, enum err err, int *fd);
/* Makes the file of a new segment behind header->before. (log.c) */
enum err log_segment_make(struct log *log, struct log_header *header, int *out_fd);
/* Makes a new segment behind log->last the tail. (log.c) */
enum err log_segment_create(struct log *log);

/* Writes the group in log->group behind the tail, syncs it, and lets readers see it up to
 * log->last. ERR_NO_SPACE: nothing is written. (log.c) */
enum err log_write_group(struct log *log, const struct log_group *group);

/* Whether the call that ended with *err is to be made again: it was ERR_NO_SPACE and the reserve
 * has been released. May change *err. (log_space.c) */
bool log_make_room(struct log *log, enum err *err);
/* Looks for the reserve. (log_space.c) */
enum err log_space_open(struct log *log);

/* Finds all segments, checks every group, makes the tail anew, or the first segment of a new log.
 * (log_recover.c) */
enum err log_recover(struct log *log, uint64_t *out_torn_bytes, struct buffer *error);

/* Where the living entry `index` is. ERR_NO_NODE. (log_read.c) */
enum err log_position_of(struct log *log, uint64_t index, struct log_position *out);

/* Reads the record, and writes it to a new file before it is trusted. (log_vote.c) */
enum err log_vote_open(struct log *log, struct log_state *state, struct buffer *error);

#endif
