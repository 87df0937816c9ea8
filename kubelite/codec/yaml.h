/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CODEC_YAML_H
#define KUBELITE_CODEC_YAML_H

#include "codec/value.h"

/*
 * YAML 1.1 as Kubernetes reads it (JSON included): core schema scalars, anchors and merge-free
 * aliases, several documents. Limits against expansion attacks: YAML_NODES_MAX nodes after alias
 * expansion, YAML_DEPTH_MAX levels, YAML_DOCUMENTS_MAX documents.
 */
#define YAML_NODES_MAX 200000
#define YAML_DEPTH_MAX 128
#define YAML_DOCUMENTS_MAX 256

/* All documents; empty ones are dropped. *ret is an array of *ret_n owned values (free each, then
 * the array). -EINVAL with line and column. */
int yaml_read_documents(const char *data, size_t len, Value ***ret, size_t *ret_n, KlError **err);

/* The first document, JSON or YAML; *ret is NULL when there is none. */
int yaml_read(const char *data, size_t len, Value **ret, KlError **err);

#endif
