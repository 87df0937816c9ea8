/* SPDX-License-Identifier: Apache-2.0 */

/* Which container exec, attach and port-forward are about. */

#include "cli/cli-internal.h"

#include "base/str.h"
#include "codec/json.h"

static int list_running(const char *state_dir, const char *namespace, const char *pod,
                        const char *container, Value **ret, KlError **err)
{
        KL_AUTOFREE char *json =
                cli_make_request("ps", "pod", pod, "namespace", namespace, "name", container, NULL);
        CliRequest request = {
                .state_dir = state_dir, .json = json, .fd = -1, .timeout_s = CLI_QUERY_TIMEOUT_S
        };

        return cli_request(&request, ret, err);
}

int cli_find_target(const char *state_dir, const char *namespace, const char *pod,
                    const char *container, CliTarget *ret, KlError **err)
{
        KL_AUTO(value_free) Value *list = NULL;
        const Value *found = NULL;

        *ret = (CliTarget){ NULL, NULL, NULL };
        KL_TRY(list_running(state_dir, namespace, pod, container, &list, err));
        for (size_t i = 0; i < value_len(list); i++) {
                const Value *c = value_at(list, i);

                if (!str_eq(value_get_str(c, "state"), "running"))
                        continue;
                if (found &&
                    !str_eq(value_get_str(found, "namespace"), value_get_str(c, "namespace")))
                        return kl_error(err, -EINVAL, NULL,
                                        "there are pods '%s' in several namespaces: use "
                                        "--namespace",
                                        pod);
                if (!found)
                        found = c;
        }
        if (!found)
                return kl_error(err, -ENOENT, "NotFound", "no container%s%s%s of a pod '%s' runs",
                                container ? " '" : "", container ? container : "",
                                container ? "'" : "", pod);
        ret->namespace = strdup(value_get_str(found, "namespace") ?: "");
        ret->pod = strdup(value_get_str(found, "pod") ?: "");
        ret->container = strdup(value_get_str(found, "name") ?: "");
        return ret->namespace && ret->pod && ret->container ? 0 : kl_error_oom(err);
}

void cli_target_deinit(CliTarget *target)
{
        free(target->namespace);
        free(target->pod);
        free(target->container);
}
