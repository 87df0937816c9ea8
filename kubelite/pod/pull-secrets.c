/* SPDX-License-Identifier: Apache-2.0 */

#include "pod/pull-secrets.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"

static int add_secret(Keyring *keyring, const ObjectRef *ref, const char *name)
{
        bool legacy = str_eq(object_ref_type(ref), PULL_SECRET_LEGACY_TYPE);
        const ObjectEntry *entry;
        KL_AUTOERR err = NULL;

        if (!legacy && !str_eq(object_ref_type(ref), PULL_SECRET_TYPE))
                return 0;
        entry = object_ref_entry(ref, legacy ? PULL_SECRET_LEGACY_KEY : PULL_SECRET_KEY);
        if (!entry)
                return 0;
        if (keyring_add(keyring, entry->data, entry->len, legacy, &err) == -ENOMEM)
                return -ENOMEM;
        if (err)
                log_warning(name, "Pull secret is of no use: %s, ignoring", kl_error_msg(err));
        return 0;
}

static int add_node_config(Keyring *keyring, const char *root_dir)
{
        KL_AUTOFREE char *path = str_format("%s/" NODE_DOCKER_CONFIG, root_dir);
        KL_AUTOFREE char *text = NULL;
        KL_AUTOERR err = NULL;
        size_t len = 0;

        if (!path)
                return -ENOMEM;
        if (file_read(path, KEYRING_CONFIG_MAX, &text, &len) < 0)
                return 0;
        if (keyring_add(keyring, text, len, false, &err) < 0)
                log_warning(path, "Credentials are of no use: %s, ignoring", kl_error_msg(err));
        explicit_bzero(text, len);
        return 0;
}

int pull_secrets_gather(char *const *secrets, ObjectRef *(*find)(const char *name, void *data),
                        void *data, const char *root_dir, Keyring **ret, char **ret_missing)
{
        KL_AUTO(keyring_free) Keyring *keyring = keyring_new();
        KL_AUTOBUF missing = BUF_INIT;

        if (!keyring)
                return -ENOMEM;
        for (size_t i = 0; secrets && secrets[i]; i++) {
                ObjectRef *ref = find(secrets[i], data);
                ObjectState state = ref ? object_ref_state(ref) : OBJECT_MISSING;

                if (state == OBJECT_UNKNOWN)
                        return 1;
                if (state != OBJECT_PRESENT)
                        buf_addf(&missing, "%s%s", missing.len ? ", " : "", secrets[i]);
                else if (add_secret(keyring, ref, secrets[i]) < 0)
                        return -ENOMEM;
        }
        if (add_node_config(keyring, root_dir) < 0 || buf_error(&missing))
                return -ENOMEM;
        *ret_missing = missing.len ? buf_steal(&missing) : NULL;
        *ret = KL_STEAL(keyring);
        return 0;
}
