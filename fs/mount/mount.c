/* SPDX-License-Identifier: Apache-2.0
 *
 * What all files of this room ask about the mount as a whole. Pure but for the client's status.
 */
#include "fs/mount/mount.h"

#include "common/limits.h"

uint64_t mount_file_bytes_max(const struct mount *mount)
{
    struct client_status status;
    client_status(mount->client, &status);
    return status.file_bytes_max > 0 ? status.file_bytes_max : FILE_BYTES_MAX;
}

bool mount_is_without_leader(struct mount *mount)
{
    if (!mount->no_leader || mount->options->hard) {
        return false;
    }
    struct client_status status;
    client_status(mount->client, &status);
    mount->no_leader = status.leader == 0;
    return mount->no_leader;
}

bool mount_is_without_replica(struct mount *mount)
{
    if (!mount->no_replica || mount->options->hard) {
        return false;
    }
    struct client_status status;
    client_status(mount->client, &status);
    mount->no_replica = status.replica == 0;
    return mount->no_replica;
}

void mount_note_outage(struct mount *mount, enum err err)
{
    if (err == ERR_NO_LEADER || err == ERR_TIMEOUT) {
        /* Whether it is so is asked of the client each time. */
        mount->no_leader = true;
        mount->no_replica = err == ERR_TIMEOUT;
    }
}
