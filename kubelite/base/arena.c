/* SPDX-License-Identifier: Apache-2.0 */

/* Chunks of growing size, newest first; a request larger than a chunk gets one of its own. */

#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define ARENA_CHUNK_MIN 1024
#define ARENA_CHUNK_MAX 16384
#define ARENA_ALIGN _Alignof(max_align_t)

typedef struct ArenaChunk {
        struct ArenaChunk *next;
        size_t used, size;
        _Alignas(max_align_t) char data[];
} ArenaChunk;

struct Arena {
        ArenaChunk *chunks;
        size_t next_size;
        size_t total;
};

Arena *arena_new(void)
{
        Arena *arena = calloc(1, sizeof(*arena));

        if (arena)
                arena->next_size = ARENA_CHUNK_MIN;
        return arena;
}

Arena *arena_free(Arena *arena)
{
        if (!arena)
                return NULL;
        while (arena->chunks) {
                ArenaChunk *next = arena->chunks->next;

                free(arena->chunks);
                arena->chunks = next;
        }
        free(arena);
        return NULL;
}

static ArenaChunk *chunk_new(Arena *arena, size_t size)
{
        ArenaChunk *chunk = calloc(1, sizeof(*chunk) + size);

        if (!chunk)
                return NULL;
        chunk->size = size;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
        arena->total += sizeof(*chunk) + size;
        return chunk;
}

void *arena_alloc(Arena *arena, size_t size)
{
        ArenaChunk *chunk = arena->chunks;
        void *p;

        if (size > SIZE_MAX / 2)
                return NULL;
        size = (size + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
        if (!chunk || chunk->size - chunk->used < size) {
                chunk = chunk_new(arena, size > arena->next_size ? size : arena->next_size);
                if (!chunk)
                        return NULL;
                if (arena->next_size < ARENA_CHUNK_MAX)
                        arena->next_size *= 2;
        }
        p = chunk->data + chunk->used;
        chunk->used += size;
        return p;
}

void *arena_calloc(Arena *arena, size_t n, size_t size)
{
        if (size && n > SIZE_MAX / size)
                return NULL;
        return arena_alloc(arena, n * size);
}

char *arena_strndup(Arena *arena, const char *s, size_t n)
{
        char *copy = s ? arena_alloc(arena, n + 1) : NULL;

        if (copy)
                memcpy(copy, s, n);
        return copy;
}

char *arena_strdup(Arena *arena, const char *s)
{
        return s ? arena_strndup(arena, s, strlen(s)) : NULL;
}

char *arena_format(Arena *arena, const char *format, ...)
{
        va_list args, again;
        char *s = NULL;
        int n;

        va_start(args, format);
        va_copy(again, args);
        n = vsnprintf(NULL, 0, format, again);
        va_end(again);
        if (n >= 0)
                s = arena_alloc(arena, (size_t)n + 1);
        if (s)
                vsnprintf(s, (size_t)n + 1, format, args);
        va_end(args);
        return s;
}

size_t arena_size(const Arena *arena)
{
        return arena->total;
}
