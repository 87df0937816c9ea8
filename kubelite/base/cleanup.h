/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_BASE_CLEANUP_H
#define KUBELITE_BASE_CLEANUP_H

/*
 * Scope-bound ownership. A variable declared with one of the KL_AUTO macros is released when its
 * scope ends, on every path; KL_STEAL and KL_STEAL_FD hand the value on and disarm the variable.
 *
 *     KL_AUTO(pod_free) Pod *pod = NULL;
 *     KL_AUTOFD int fd = -1;
 *     KL_AUTOFREE char *path = NULL;
 *
 * KL_AUTO(f) needs KL_DEFINE_CLEANUP(Type *, f) once, in the header that declares f.
 */

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define KL_AUTO(func) __attribute__((cleanup(func##_cleanup)))
#define KL_AUTOFREE __attribute__((cleanup(kl_free_cleanup)))
#define KL_AUTOFD __attribute__((cleanup(kl_fd_cleanup)))
#define KL_AUTOFILE __attribute__((cleanup(kl_file_cleanup)))
#define KL_AUTODIR __attribute__((cleanup(kl_dir_cleanup)))
#define KL_AUTOPID __attribute__((cleanup(kl_pid_cleanup)))

#define KL_DEFINE_CLEANUP(type, func)                                                              \
        static inline __attribute__((unused)) void func##_cleanup(type *p)                         \
        {                                                                                          \
                if (*p)                                                                            \
                        func(*p);                                                                  \
        }                                                                                          \
        struct func##_cleanup_needs_semicolon

#define KL_STEAL(p)                                                                                \
        ({                                                                                         \
                __typeof__(p) *kl_steal_ = &(p);                                                   \
                __typeof__(p) kl_value_ = *kl_steal_;                                              \
                *kl_steal_ = NULL;                                                                 \
                kl_value_;                                                                         \
        })

#define KL_STEAL_FD(fd)                                                                            \
        ({                                                                                         \
                int *kl_steal_ = &(fd);                                                            \
                int kl_value_ = *kl_steal_;                                                        \
                *kl_steal_ = -1;                                                                   \
                kl_value_;                                                                         \
        })

/* Closes fd if it is one and returns -1, errno unchanged: `fd = kl_close(fd);` */
static inline int kl_close(int fd)
{
        int saved = errno;

        if (fd >= 0)
                close(fd);
        errno = saved;
        return -1;
}

static inline void kl_free_cleanup(void *p)
{
        int saved = errno;

        free(*(void **)p);
        errno = saved;
}

static inline void kl_fd_cleanup(int *fd)
{
        kl_close(*fd);
}

static inline void kl_file_cleanup(FILE **f)
{
        int saved = errno;

        if (*f)
                fclose(*f);
        errno = saved;
}

static inline void kl_dir_cleanup(DIR **d)
{
        int saved = errno;

        if (*d)
                closedir(*d);
        errno = saved;
}

/* A child that must not outlive the scope: killed and reaped. */
static inline void kl_pid_cleanup(pid_t *pid)
{
        int saved = errno;

        if (*pid > 0) {
                kill(*pid, SIGKILL);
                while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
        errno = saved;
}

#endif
