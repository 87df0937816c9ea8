/* SPDX-License-Identifier: Apache-2.0 */

/* The owner's note on a container: a file beside its record, gone with it. */

#include "runtime/runtime-internal.h"

#include "base/file.h"
#include "base/str.h"

#define NOTE_NAME "note"

static char *note_path(const Sandbox *s, const char *id)
{
        const Container *c = container_find(s, id);

        return c && !c->removed ? str_format("%s/" NOTE_NAME, c->dir) : NULL;
}

int sandbox_write_note(Sandbox *s, const char *id, const char *text)
{
        KL_AUTOFREE char *path = note_path(s, id);
        size_t len = strlen(text);

        if (!path)
                return -ENOENT;
        if (len > CONTAINER_NOTE_MAX)
                return -EMSGSIZE;
        return file_replace(path, text, len, 0600, false);
}

char *sandbox_read_note(const Sandbox *s, const char *id)
{
        KL_AUTOFREE char *path = note_path(s, id);
        char *text = NULL;
        size_t len;

        return path && file_read(path, CONTAINER_NOTE_MAX, &text, &len) == 0 ? text : NULL;
}
