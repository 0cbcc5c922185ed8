/* SPDX-License-Identifier: Apache-2.0
 *
 * The rule of FILESYSTEM.md, "Writing", "When". Asked by ops_file.c at each FLUSH.
 */
#include "fs/mount/publish_when.h"

bool publish_at_flush(const struct publish_question *question)
{
    if (!question->written || question->flusher == 0) {
        return false;
    }
    bool opener = question->opener != 0 && question->flusher == question->opener;
    bool stands_in = question->opener_gone && question->flusher_wrote;
    return (opener || stands_in) && question->writers_alive == 0;
}
