#!/usr/bin/env bash
# Installs the real parts that the tests and benchmarks run against, as far as they are missing.
#
#   scripts/install-parts.sh            what the tests need
#   scripts/install-parts.sh --bench    what the tests and the benchmarks need
#   scripts/install-parts.sh --demo     what building the program needs, and no more
#   scripts/install-parts.sh --check    install nothing; exit 1 if something is missing
#
# Quick when nothing is missing: it then asks neither apt nor the network. No service is left running: the tests start
# what they need themselves, on ports of their own.
set -euo pipefail

# command (or file) that shows that a part is there, and the Debian package that brings it
parts=(
    "containerd containerd"
    "ctr containerd"
    "runc runc"
    "docker-registry docker-registry"
    "skopeo skopeo"
    "umoci umoci"
    "/bin/busybox busybox-static"
    "setpriv util-linux"
    "ip iproute2"
    "tc iproute2"
)
build_parts=(
    "cc gcc"
)
bench_parts=(
    "nginx nginx-light"
)

check_only=no
for argument in "$@"; do
    case "$argument" in
        --bench) parts+=("${bench_parts[@]}") ;;
        --demo) parts=() ;;
        --check) check_only=yes ;;
        *)
            echo "install-parts: unknown argument '$argument' (known: --bench, --demo, --check)" >&2
            exit 2
            ;;
    esac
done

parts+=("${build_parts[@]}")

# Daemons live in directories that an ordinary user's PATH may lack.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

missing=()
for part in "${parts[@]}"; do
    read -r probe package <<<"$part"
    if ! command -v "$probe" >/dev/null 2>&1; then
        case " ${missing[*]-} " in
            *" $package "*) ;;
            *) missing+=("$package") ;;
        esac
    fi
done

if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi

install_line="apt-get install --no-install-recommends ${missing[*]}"
if [ "$check_only" = yes ]; then
    echo "install-parts: missing: ${missing[*]}" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "install-parts: missing: ${missing[*]} (Debian's package names), and this system has no apt-get." >&2
    echo "install-parts: install them by other means, or run the tests without them: they are skipped." >&2
    exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1; then
        as_root=(sudo)
    else
        echo "install-parts: missing: ${missing[*]}, and this user is neither root nor has sudo." >&2
        echo "install-parts: as root, run: $install_line" >&2
        exit 1
    fi
fi

# Debian starts a freshly installed service. policy-rc.d (exit code 101: "not allowed") is Debian's own way to say no; it
# is ours only while we install, and one that is already there stays as it is.
policy=/usr/sbin/policy-rc.d
own_policy=no
remove_own_policy() {
    if [ "$own_policy" = yes ]; then
        "${as_root[@]}" rm -f "$policy"
    fi
}
trap remove_own_policy EXIT
if [ ! -e "$policy" ]; then
    own_policy=yes
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi

echo "install-parts: installing ${missing[*]}"
install_missing() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null
}
# A package list is fetched only if the one that is there does not do.
if ! install_missing; then
    echo "install-parts: refreshing the package lists"
    "${as_root[@]}" apt-get update -qq
    install_missing
fi
