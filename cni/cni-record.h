/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_CNI_RECORD_H
#define KUBELITE_CNI_CNI_RECORD_H

#include "cni/cni-config.h"
#include "cni/cni.h"

#include <stdint.h>
#include <sys/types.h>

/* A record holds a configuration and a result. */
#define CNI_RECORD_MAX (8 * 1024 * 1024)
#define CNI_RECORD_SCHEMA 1

typedef enum CniState {
        CNI_ADDING,   /* the intent: plugins may run, or may have run */
        CNI_ADDED,    /* the result is there */
        CNI_DELETING, /* likewise; the result is there if there was one */
} CniState;

/*
 * What is known of an attachment, one file each: <cache_dir>/<id>@<ifname>.json. Written before the
 * first plugin runs, and until the last DEL succeeded.
 */
typedef struct CniRecord {
        char *id, *ifname, *netns;
        char *args;         /* CNI_ARGS */
        char *capabilities; /* JSON object: capability -> argument */
        CniConfig *config;
        CniVersion version;
        CniState state;
        char *owner; /* the Cni object that wrote it; random */
        char *boot_id;
        uint64_t started_ms; /* of the running plugin, monotonic */
        pid_t pid;           /* of it, 0 if not known (yet) */
        uint64_t pid_start;  /* field 22 of its /proc/<pid>/stat */
        char *result;        /* JSON or NULL */
} CniRecord;

CniRecord *cni_record_free(CniRecord *record);
KL_DEFINE_CLEANUP(CniRecord *, cni_record_free);

/* A new one, in state CNI_ADDING. The configuration is copied. */
int cni_record_new(const CniAttachment *attachment, const CniConfig *config, CniRecord **ret,
                   KlError **err);

int cni_record_save(const char *dir, const CniRecord *record, KlError **err);
/* >0 (1) when there is none. */
int cni_record_load(const char *dir, const char *id, const char *ifname, CniRecord **ret,
                    KlError **err);
int cni_record_parse(const char *json, size_t len, CniRecord **ret, KlError **err);
int cni_record_remove(const char *dir, const char *id, const char *ifname);

typedef struct CniKey {
        char *id, *ifname;
} CniKey;

/* All attachments on record; free each key's strings, then the array. */
int cni_record_list(const char *dir, CniKey **ret, size_t *ret_n, KlError **err);
CniKey *cni_keys_free(CniKey *keys, size_t n);

/* /proc/sys/kernel/random/boot_id; "" when it cannot be read. */
void cni_boot_id(char *buf, size_t size);
/* Field 22 of /proc/<pid>/stat, 0 when there is no such process. */
uint64_t cni_process_start(pid_t pid);

#endif
