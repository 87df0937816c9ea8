/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A ring of blocks between two threads. `made` and `used` only grow; a block between them is full.
 * The reader's block is handed out without a copy and given back by its next call.
 */

#include "image/worker/ahead-internal.h"

#include <pthread.h>

#define AHEAD_BLOCKS 6

typedef struct Block {
        uint8_t *data;
        size_t len;
        uint64_t done;
} Block;

struct Ahead {
        Source *source;
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        Block blocks[AHEAD_BLOCKS];
        uint64_t made, used;
        bool waits, may_go, handed_out, over;
        int result; /* of the end */
        KlError *err;
};

static void wait_for_go(Ahead *a)
{
        pthread_mutex_lock(&a->lock);
        a->waits = true;
        pthread_cond_broadcast(&a->changed);
        while (!a->may_go)
                pthread_cond_wait(&a->changed, &a->lock);
        pthread_mutex_unlock(&a->lock);
}

static Block *wait_for_room(Ahead *a)
{
        pthread_mutex_lock(&a->lock);
        while (a->made - a->used == AHEAD_BLOCKS)
                pthread_cond_wait(&a->changed, &a->lock);
        pthread_mutex_unlock(&a->lock);
        return &a->blocks[a->made % AHEAD_BLOCKS];
}

static void *run(void *data)
{
        Ahead *a = data;
        ssize_t n;

        wait_for_go(a);
        do {
                Block *b = wait_for_room(a);

                n = source_read_to(a->source, b->data, &a->err);
                b->len = n > 0 ? (size_t)n : 0;
                b->done = source_done(a->source);
                pthread_mutex_lock(&a->lock);
                a->made += n > 0;
                a->over = n <= 0;
                a->result = n < 0 ? (int)n : 0;
                pthread_cond_broadcast(&a->changed);
                pthread_mutex_unlock(&a->lock);
        } while (n > 0);
        return NULL;
}

int ahead_new(Source *source, Ahead **ret, KlError **err)
{
        Ahead *a = calloc(1, sizeof(*a));
        int r = a ? 0 : ENOMEM;

        for (size_t i = 0; r == 0 && i < AHEAD_BLOCKS; i++) {
                a->blocks[i].data = malloc(SOURCE_OUT_SIZE);
                r = a->blocks[i].data ? 0 : ENOMEM;
        }
        if (r == 0) {
                a->source = source;
                pthread_mutex_init(&a->lock, NULL);
                pthread_cond_init(&a->changed, NULL);
                r = pthread_create(&a->thread, NULL, run, a);
        }
        if (r) {
                for (size_t i = 0; a && i < AHEAD_BLOCKS; i++)
                        free(a->blocks[i].data);
                free(a);
                return kl_error_errno(err, -r, NULL, "start a thread");
        }
        pthread_mutex_lock(&a->lock);
        while (!a->waits)
                pthread_cond_wait(&a->changed, &a->lock);
        pthread_mutex_unlock(&a->lock);
        *ret = a;
        return 0;
}

void ahead_go(Ahead *a)
{
        pthread_mutex_lock(&a->lock);
        a->may_go = true;
        pthread_cond_broadcast(&a->changed);
        pthread_mutex_unlock(&a->lock);
}

ssize_t ahead_read(Ahead *a, const void **ret, uint64_t *ret_done, KlError **err)
{
        const Block *b = NULL;

        pthread_mutex_lock(&a->lock);
        if (a->handed_out) {
                a->handed_out = false;
                a->used++;
                pthread_cond_broadcast(&a->changed);
        }
        while (a->made == a->used && !a->over)
                pthread_cond_wait(&a->changed, &a->lock);
        if (a->made > a->used) {
                b = &a->blocks[a->used % AHEAD_BLOCKS];
                a->handed_out = true;
        }
        pthread_mutex_unlock(&a->lock);
        if (b) {
                *ret = b->data;
                *ret_done = b->done;
                return (ssize_t)b->len;
        }
        return a->result < 0 ? kl_error_move(err, &a->err) : 0;
}

int ahead_finish(Ahead *a, KlError **err)
{
        const void *data;
        uint64_t done;
        ssize_t n;

        while ((n = ahead_read(a, &data, &done, err)) > 0)
                ;
        if (n < 0)
                return (int)n;
        pthread_join(a->thread, NULL);
        pthread_mutex_destroy(&a->lock);
        pthread_cond_destroy(&a->changed);
        for (size_t i = 0; i < AHEAD_BLOCKS; i++)
                free(a->blocks[i].data);
        free(a);
        return 0;
}
