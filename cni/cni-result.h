/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_CNI_CNI_RESULT_H
#define KUBELITE_CNI_CNI_RESULT_H

#include "base/buf.h"
#include "cni/cni-config.h"
#include "cni/cni.h"

/* Addresses of one result that are looked at. */
#define CNI_IPS_MAX 64

/*
 * Reads a plugin's result (of the version that it names, else of `version`) and writes it to `to`
 * as one of `version`. -EINVAL when it is none.
 */
int cni_result_convert(const char *json, size_t len, CniVersion version, Buf *to, KlError **err);

/* The addresses of the interface, without prefix length: those of that name in the sandbox, else
 * those of any interface in the sandbox, else those that name no interface. */
int cni_result_parse(const char *json, const char *ifname, CniResult **ret, KlError **err);

/* The "<msg>; <details>" of an error object; the code (0 if none) in *ret_code. -EINVAL when it is
 * no error object. */
int cni_error_parse(const char *json, size_t len, int *ret_code, char **ret_text, KlError **err);

/* The answer to VERSION, as bits. */
int cni_version_info_parse(const char *json, size_t len, unsigned int *ret, KlError **err);

#endif
