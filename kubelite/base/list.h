/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_BASE_LIST_H
#define KUBELITE_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* Intrusive doubly linked list. A link that is in no list points to itself. */
typedef struct List {
        struct List *next, *prev;
} List;

#define LIST_INIT(name)                                                                            \
        {                                                                                          \
                &(name), &(name)                                                                   \
        }

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(List *l)
{
        l->next = l->prev = l;
}

static inline bool list_empty(const List *l)
{
        return l->next == l;
}

/* Before `at`; with the head as `at`, at the end. */
static inline void list_insert(List *at, List *l)
{
        l->prev = at->prev;
        l->next = at;
        at->prev->next = l;
        at->prev = l;
}

#define list_append(head, l) list_insert(head, l)
#define list_prepend(head, l) list_insert((head)->next, l)

/* Harmless for a link that is in no list. */
static inline void list_unlink(List *l)
{
        l->prev->next = l->next;
        l->next->prev = l->prev;
        list_init(l);
}

/* The body may unlink or free the entry itself. */
#define list_for_each(pos, head, type, member)                                                     \
        for (type *pos = container_of((head)->next, type, member),                                 \
                  *pos##_next = container_of(pos->member.next, type, member);                      \
             &pos->member != (head);                                                               \
             pos = pos##_next, pos##_next = container_of(pos->member.next, type, member))

#define list_first(head, type, member) container_of((head)->next, type, member)

#endif
