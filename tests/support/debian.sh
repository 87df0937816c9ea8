# SPDX-License-Identifier: Apache-2.0
# What several scripts need of Debian; to be sourced.

# The mirror that this machine already uses, whatever it is (apt understands mirror+file: too).
debian_mirror() {
        m=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
        if [ -z "$m" ]; then
                m=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
                        sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\)  *bookworm .*/\2/p' | head -n 1)
        fi
        echo "${m:-http://deb.debian.org/debian}"
}

# debootstrap knows http only: of a mirror list the first entry.
debian_plain_mirror() {
        m=$(debian_mirror)
        case $m in
        mirror+file:*) head -n 1 "${m#mirror+file:}" | cut -f 1 ;;
        *) echo "$m" ;;
        esac
}

# install_packages NAME...: those that are missing. Services of test packages (etcd, a registry) are not to start: a policy
# that says no, for as long as apt works.
install_packages() {
        missing=
        for p in "$@"; do
                dpkg-query -W -f '${Status}\n' "$p" 2>/dev/null | grep -q ' installed$' || missing="$missing $p"
        done
        [ -n "$missing" ] || return 0
        echo "installing$missing" >&2
        policy=/usr/sbin/policy-rc.d
        [ -e $policy ] && policy=/dev/null || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy; }
        # shellcheck disable=SC2086
        apt_install $missing >/dev/null 2>&1 || { apt-get update -q >/dev/null && apt_install $missing; }
        r=$?
        [ $policy = /dev/null ] || rm -f $policy
        return $r
}

apt_install() {
        DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
}

# apt with lists and sources of its own, so that the machine's are not touched: first "apt_aside_init DIRECTORY deb|deb-src
# SUITE", then "apt_aside DIRECTORY ARGUMENT...".
apt_aside_init() {
        mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
        echo "$2 [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) $3 main" >"$1/sources.list"
        apt_aside "$1" update
}

apt_aside() {
        aside=$1
        shift
        apt-get -q -o Dir::Etc::SourceList="$aside/sources.list" -o Dir::Etc::SourceParts=/dev/null \
                -o Dir::State::Lists="$aside/lists" -o Dir::Cache="$aside/cache" -o APT::Sandbox::User=root "$@"
}
