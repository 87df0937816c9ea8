/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_TESTS_POD_LITERAL_H
#define KUBELITE_TESTS_POD_LITERAL_H

#include "api/pod.h"
#include "codec/yaml.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A pod from a YAML literal; ends the test if it cannot be decoded. */
static inline Pod *pod_literal(const char *yaml)
{
        KL_AUTO(value_free) Value *v = NULL;
        KL_AUTOERR err = NULL;
        Pod *pod = NULL;

        if (yaml_read(yaml, strlen(yaml), &v, &err) < 0 || pod_decode(v, &pod, &err) < 0) {
                fprintf(stderr, "%s\n", kl_error_msg(err));
                abort();
        }
        return pod;
}

#define POD_HEAD                                                                                   \
        "metadata: {name: web, namespace: shop, uid: 0b1c2d3e-0000-0000-0000-000000000001,\n"      \
        "  labels: {app: web}, annotations: {note: 'a \"b\"'}}\n"

#endif
